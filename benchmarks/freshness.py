"""What it is worth to take in, between two trainings, what people did since the last one.

    python -m benchmarks.freshness PATH [--models als,spectral,ease] [--cuts 8] [--window 7] [--horizon 7] [--k 10]

PATH is a folder with an event log that has users, items and timestamps (Parquet or CSV). At several times T, spread
over the second half of the log's events, each model is trained on all that happened before T. Then a window passes, in
days; then lists are made, and held against what their people do within the horizon after that, in days. All lists leave
out what was consumed until they are made, the window included. What differs:

    stale     users as they were at T; whoever is new gets what was trending at T
    folded in users by all that they did until the list is made (`Scorer.fold_in`); items and models are those of T

Judged are people who did something in the window and, within the horizon, take an item that the model knows and they do
not. Means are over all judged lists of all times.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import sparse

from benchmarks.quality import ITEM, TIME, USER
from recoflow import schema
from recoflow.models.algorithms import matrix, train
from recoflow.models.algorithms.matrix import Matrix, UserItems
from recoflow.models.algorithms.scorer import Scorer
from recoflow.models.evaluation import evaluate, metrics
from recoflow.settings.sections import Model

Result = dict[str, dict[str, float]]  # kind of people → metric → mean


@dataclass(frozen=True)
class World:
    """Matrices over the same users and the items of the training."""

    learned: UserItems  # until T
    history: sparse.csr_matrix  # until the lists are made
    later: sparse.csr_matrix  # after that, without `history`
    judged: NDArray[np.int64]


@dataclass(frozen=True)
class Stale:
    """A scorer of T, with what is trending for those whom it does not know."""

    scorer: Scorer
    trending: NDArray[np.float32]

    def score(self, rows: NDArray[np.int64]) -> Matrix:
        scores = self.scorer.score(rows)
        scores[~self.scorer.is_known()[rows]] = self.trending
        return scores


def main() -> None:
    arguments = _arguments()
    log = read(arguments.path)
    worlds = [split(log, at, arguments.window, arguments.horizon) for at in times(log, arguments.cuts)]
    is_new = np.concatenate([np.diff(each.learned.matrix.indptr)[each.judged] == 0 for each in worlds])
    if not len(is_new):
        raise SystemExit("nobody can be judged: choose a longer --window or --horizon")
    console = Console(width=130)
    console.print(
        f"{arguments.path.name}: {len(worlds)} trainings, lists {arguments.window:g} days after each, held against the"
        f" {arguments.horizon:g} days after that; {len(is_new):,} lists judged,"
        f" {int(is_new.sum()):,} of people new since T"
    )
    results = {name: run(Model(algorithm=name), worlds, is_new, arguments) for name in arguments.models.split(",")}
    console.print(_table(results, arguments.k))
    print(json.dumps({"data": arguments.path.name, "judged": len(is_new), "new": int(is_new.sum()), "models": results}))


def run(model: Model, worlds: list[World], is_new: NDArray[np.bool_], arguments: argparse.Namespace) -> Result:
    """Mean recall and NDCG of both kinds of lists, by kind of people."""
    stale, folded = [], []
    for world in worlds:
        scorer = train.train(world.learned, model, arguments.seed)
        stale.append(judge(Stale(scorer, world.learned.trend()), world, arguments.k))
        folded.append(judge(scorer.fold_in(world.history), world, arguments.k))
    values = {"stale": np.concatenate(stale, axis=1), "folded_in": np.concatenate(folded, axis=1)}
    groups = {"known at T": ~is_new, "new since T": is_new, "all": np.ones(len(is_new), np.bool_)}
    return {
        group: {
            f"{metric}@{arguments.k}_{when}": round(float(found[place][chosen].mean()), 4)
            for when, found in values.items()
            for place, metric in enumerate(("recall", "ndcg"))
        }
        for group, chosen in groups.items()
        if chosen.any()
    }


def judge(scorer: evaluate.Scores, world: World, k: int) -> NDArray[np.float64]:
    """Recall and NDCG of each judged person's list, float64 [2 × judged]."""
    lists = evaluate.top_lists(scorer, world.history, world.judged, k)
    found = evaluate.hits(lists, world.later, world.judged)
    relevant = np.diff(world.later.indptr)[world.judged].astype(np.int64)
    return np.stack([metrics.recall(found, relevant), metrics.ndcg(found, relevant)])


def read(path: Path) -> pl.DataFrame:
    """The event log in a folder as subject, item_id, at."""
    for file in sorted(each for each in path.iterdir() if each.suffix in {".parquet", ".csv"}):
        frame = pl.read_parquet(file) if file.suffix == ".parquet" else pl.read_csv(file)
        found = [next((name for name in names if name in frame.columns), None) for names in (USER, ITEM, TIME)]
        if all(found):
            user, item, at = (pl.col(str(name)) for name in found)
            moment = pl.from_epoch(at, "s").dt.replace_time_zone("UTC").cast(schema.UTC_TIME)
            return frame.select(
                user.cast(pl.String).alias("subject"), item.cast(pl.String).alias("item_id"), moment.alias("at")
            )
    raise SystemExit(f"{path}: no log with user, item and timestamp")


def times(log: pl.DataFrame, cuts: int) -> list[datetime]:
    """Moments before which from half to nine tenths of the events happened."""
    at = log["at"].sort()
    return [at[int(len(log) * share)] for share in np.linspace(0.5, 0.9, cuts)]


def split(log: pl.DataFrame, at: datetime, window: float, horizon: float) -> World:
    """The log as it is known at T, when the lists are made, and after that."""
    made_at = at + timedelta(days=window)
    learned = _interactions(log.filter(pl.col("at") < at))
    passed = log.filter(pl.col("at").is_between(at, made_at, closed="left"))
    until = _interactions(log.filter(pl.col("at") < made_at))
    after = log.filter(pl.col("at").is_between(made_at, made_at + timedelta(days=horizon), closed="left"))
    later = _interactions(after).join(until, on=["subject", "item_id"], how="anti")
    users, items = matrix.ids(log["subject"]), matrix.ids(learned["item_id"])
    made = [matrix.from_interactions(frame, subjects=users, items=items) for frame in (learned, until, later)]
    is_active = np.isin(users, matrix.ids(passed["subject"])) & (np.diff(made[1].matrix.indptr) > 0)
    judged = np.flatnonzero(is_active & (np.diff(made[2].matrix.indptr) > 0))
    return World(made[0], made[1].matrix, made[2].matrix, judged)


def _interactions(log: pl.DataFrame) -> pl.DataFrame:
    return log.group_by("subject", "item_id").agg(
        pl.len().cast(pl.Float64).alias("weight"),
        pl.col("at").min().alias("first_at"),
        pl.col("at").max().alias("last_at"),
    )


def _table(results: dict[str, Result], k: int) -> Table:
    table = Table("model", "people", f"recall@{k} stale", "folded in", "gain", f"NDCG@{k} stale", "folded in", "gain")
    for name, groups in results.items():
        for group, values in groups.items():
            cells = []
            for metric in ("recall", "ndcg"):
                before, after = values[f"{metric}@{k}_stale"], values[f"{metric}@{k}_folded_in"]
                cells += [f"{before:.4f}", f"{after:.4f}", f"{after / before - 1:+.0%}" if before else "–"]
            table.add_row(name, group, *cells)
    return table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--models", default="als,spectral,ease")
    parser.add_argument("--cuts", type=int, default=8, help="how many trainings")
    parser.add_argument("--window", type=float, default=7, help="days from a training to its lists")
    parser.add_argument("--horizon", type=float, default=7, help="days that the lists are judged on")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


if __name__ == "__main__":
    main()
