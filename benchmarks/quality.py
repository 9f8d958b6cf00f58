"""How good the models' lists are on a public data set, beside published figures.

    python -m benchmarks.quality PATH [--models als,spectral,blend] [--k 20] [--seed 42] [--share 1.0] [--plot FILE.svg]

PATH is a folder with `interactions.parquet` (user, item, split = train | test), or with one event log that has users,
items and timestamps (Parquet or CSV), which is split at the time point after which a tenth of the pairs first occur.
Settings and the choice are made on a hold-out of the training part only; each model is then fitted on all of it and
judged once on the test part: all items but a user's training items are ranked, and the mean is over the test users that
the training part knows. Of a log, items that are new after the split are left out: what nobody has met is no matter of
taste (benchmarks.cold_items is for them).
The peer is implicit's ALS with its own defaults, in the same run.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from implicit.cpu.als import AlternatingLeastSquares
from rich.console import Console
from rich.table import Table
from scipy import sparse
from threadpoolctl import threadpool_limits

from recoflow import schema
from recoflow.models.algorithms import matrix, train
from recoflow.models.algorithms.matrix import UserItems
from recoflow.models.algorithms.scorer import Scorer
from recoflow.models.evaluation import charts, evaluate, holdout, metrics, split
from recoflow.models.training import tune
from recoflow.settings.sections import Model

MODELS = ("popular", "trending", "newest", "item_neighbours", "ease", "bpr", "lmf", "als", "spectral", "blend")
USER = ("user", "personId", "userId", "user_id", "household_id")
ITEM = ("item", "contentId", "movieId", "item_id", "product_id")
TIME = ("timestamp", "transaction_timestamp")  # seconds since 1970, or a column of times
# openbenchmark/BARS, leaderboard gowalla_m1; BSPM: Choi et al. 2023, SIGIR. Recall@20, NDCG@20.
PUBLISHED = {
    (810_128, 217_242): {
        "MF-BPR": (0.1627, 0.1378),
        "EASE": (0.1765, 0.1467),
        "LightGCN": (0.1820, 0.1547),
        "GF-CF": (0.1849, 0.1518),
        "UltraGCN": (0.1862, 0.1580),
        "SimpleX": (0.1872, 0.1557),
        "BSPM": (0.1920, 0.1597),
    }
}


@dataclass(frozen=True)
class Data:
    """A training matrix and what is to be predicted, both [users × items]."""

    train: UserItems
    test: sparse.csr_matrix
    is_temporal: bool
    unknown: int = 0  # pairs to predict of items that nobody had met at the time of the split; they are left out


@dataclass(frozen=True)
class Result:
    model: Model
    holdout_ndcg: float
    tune_s: float
    fit_s: float
    recall: float
    ndcg: float
    coverage: float
    interval: tuple[float, float]
    by_user: np.ndarray
    items: int | None  # that the model is cut to, None: it knows all


def main() -> None:
    arguments = _arguments()
    console = Console(width=150)
    data = read(arguments.path, arguments.share, arguments.seed)
    hold = holdout.hold_out(data.train, arguments.seed, is_temporal=data.is_temporal)
    console.print(
        f"{arguments.path.name}: {data.train.shape[0]:,} users × {data.train.shape[1]:,} items,"
        f" {data.train.matrix.nnz:,} pairs to learn from, {data.test.nnz:,} to predict,"
        f" {'temporal' if data.is_temporal else 'given'} split; chosen on {len(hold.judged):,} users of a hold-out"
    )
    if data.unknown:
        console.print(f"{data.unknown:,} pairs of items that were new after the split are for benchmarks.cold_items")
    results: dict[str, Result] = {}
    for name in arguments.models.split(","):
        known = {other: result.model for other, result in results.items()}
        results[name] = run(Model(algorithm=name), data, hold, known, arguments)
        result = results[name]
        console.print(f"{name:16} {result.recall:.4f} {result.ndcg:.4f}  fit {result.fit_s:.1f} s  {_settings(result)}")
    peer = implicit_defaults(data, arguments)
    chosen = max(results, key=lambda name: results[name].holdout_ndcg)
    console.print(_table(results, peer, chosen, data, arguments.k))
    criterion = _criterion(results, chosen, arguments.seed)
    console.print(f"[bold]{criterion['says']}[/bold]")
    console.print(_plot(results))
    if arguments.plot:
        marks = [
            charts.Mark(name, "best" if name == chosen else "candidate", r.ndcg, *r.interval)
            for name, r in results.items()
        ]
        title = f"{arguments.path.name}: NDCG@{arguments.k} over seconds of training"
        arguments.plot.write_text(charts.scatter(title, marks, [r.fit_s for r in results.values()]), encoding="utf-8")
    k = arguments.k
    models = {
        name: {
            f"recall@{k}": round(r.recall, 4),
            f"ndcg@{k}": round(r.ndcg, 4),
            "interval": [round(bound, 4) for bound in r.interval],
            "fit_s": round(r.fit_s, 1),
        }
        for name, r in results.items()
    }
    print(
        json.dumps(
            {
                "data": arguments.path.name,
                "chosen": chosen,
                f"recall@{k}": models[chosen][f"recall@{k}"],
                f"ndcg@{k}": models[chosen][f"ndcg@{k}"],
                "tune_s": round(sum(result.tune_s for result in results.values()), 1),
                "best_single": criterion["best_single"],
                "holds": criterion["holds"],
                "models": models,
                "peer": {"implicit_als_defaults": {f"recall@{k}": round(peer[0], 4), f"ndcg@{k}": round(peer[1], 4)}},
            }
        )
    )


def run(
    model: Model, data: Data, hold: holdout.HoldOut, known: dict[str, Model], arguments: argparse.Namespace
) -> Result:
    started = time.perf_counter()
    model = tune.resolve_settings(model, hold, arguments.seed, known)
    holdout_ndcg = hold.ndcg(train.train(hold.data, model, arguments.seed))
    tuned = time.perf_counter()
    scorer = train.train(data.train, model, arguments.seed)
    fitted = time.perf_counter()
    found = _evaluation(scorer, data, arguments)
    values = found.values
    return Result(
        model,
        holdout_ndcg,
        tuned - started,
        fitted - tuned,
        values["recall"],
        values["ndcg"],
        values["coverage"],
        found.interval,
        found.ndcg,
        scorer.parameters.get("items"),
    )


def _criterion(results: dict[str, Result], chosen: str, seed: int) -> dict[str, Any]:
    """Whether the chosen model is at least the best single candidate of the test, within the interval."""
    single = {name: result for name, result in results.items() if result.model.algorithm != "blend"} or results
    best = max(single, key=lambda name: single[name].ndcg)
    low, high = metrics.interval(results[chosen].by_user - results[best].by_user, seed)
    holds = bool(results[chosen].ndcg >= results[best].ndcg or high >= 0)
    says = (
        f"chosen {chosen} − best single {best}: {results[chosen].ndcg - results[best].ndcg:+.4f}"
        f" (95 % interval {low:+.4f} … {high:+.4f}, {len(results[chosen].by_user):,} users):"
        f" {'not worse within the interval' if holds else 'WORSE'}"
    )
    return {"best_single": best, "holds": holds, "says": says}


def implicit_defaults(data: Data, arguments: argparse.Namespace) -> tuple[float, float, float]:
    """Recall, NDCG and seconds of the peer."""

    started = time.perf_counter()
    with threadpool_limits(1, "blas"):
        trained = AlternatingLeastSquares(random_state=arguments.seed)
        trained.fit(data.train.matrix, show_progress=False)
    seconds = time.perf_counter() - started
    values = _evaluation(Scorer(trained.user_factors, trained.item_factors), data, arguments).values
    return values["recall"], values["ndcg"], seconds


def read(path: Path, share: float, seed: int) -> Data:
    """The data set in `path`; `share` of its users, for a short run."""
    given = path / "interactions.parquet"
    if given.exists() and "split" in pl.read_parquet_schema(given):
        pairs = _pairs(pl.read_parquet(given), share, seed)
        parts = [pairs.filter(pl.col("split") == side) for side in ("train", "test")]
        return _data(parts[0], parts[1], is_temporal=False)
    logs = sorted(file for file in path.iterdir() if file.suffix in {".parquet", ".csv"})
    for log in logs:
        frame = pl.read_parquet(log) if log.suffix == ".parquet" else pl.read_csv(log)
        if all(any(name in frame.columns for name in names) for names in (USER, ITEM, TIME)):
            parts_at = split.split(_pairs(frame, share, seed), "temporal", 0.1, seed)
            return _data(parts_at.train, parts_at.test, is_temporal=True)
    raise SystemExit(f"{path}: no interactions.parquet with a split, and no log with user, item and timestamp")


def _pairs(frame: pl.DataFrame, share: float, seed: int) -> pl.DataFrame:
    """INTERACTIONS of weight = number of events, and the column split where there is one."""
    user, item = (next(name for name in names if name in frame.columns) for names in (USER, ITEM))
    named = frame.select(
        pl.col(user).cast(pl.String).alias("subject"),
        pl.col(item).cast(pl.String).alias("item_id"),
        _time(frame).alias("at"),
        *(pl.col(name) for name in frame.columns if name == "split"),
    )
    if share < 1:
        kept = named["subject"].unique().sort().sample(fraction=share, seed=seed)
        named = named.filter(pl.col("subject").is_in(kept.to_list()))
    keys = [name for name in ("subject", "item_id", "split") if name in named.columns]
    return named.group_by(keys).agg(
        pl.len().cast(pl.Float64).alias("weight"),
        pl.len().cast(pl.Int64).alias("events"),
        pl.lit(2, pl.Int32).alias("event_types"),
        pl.col("at").min().alias("first_at"),
        pl.col("at").max().alias("last_at"),
    )


def _time(frame: pl.DataFrame) -> pl.Expr:
    name = next((name for name in TIME if name in frame.columns), None)
    if name is None:
        return pl.lit(datetime(2020, 1, 1, tzinfo=UTC)).cast(schema.UTC_TIME)
    is_number = frame.schema[name].is_numeric()
    at = pl.from_epoch(pl.col(name), "s") if is_number else pl.col(name)
    return at.dt.replace_time_zone("UTC").cast(schema.UTC_TIME)


def _data(learned: pl.DataFrame, predicted: pl.DataFrame, *, is_temporal: bool) -> Data:
    ids = learned["item_id"] if is_temporal else pl.concat([learned["item_id"], predicted["item_id"]])
    items = matrix.ids(ids)
    known = matrix.from_interactions(learned, items=items)
    asked = predicted.filter(pl.col("subject").is_in(known.subjects.tolist()))
    test = matrix.from_interactions(asked, subjects=known.subjects, items=items).matrix
    return Data(known, test, is_temporal, asked.height - test.nnz)


def _evaluation(scorer: Scorer, data: Data, arguments: argparse.Namespace) -> evaluate.Evaluation:
    """Over all users, as published figures are."""
    everyone = data.test.shape[0]
    return evaluate.evaluate(scorer, data.train.matrix, data.test, arguments.k, arguments.seed, everyone)


def _table(results: dict[str, Result], peer: tuple[float, float, float], chosen: str, data: Data, k: int) -> Table:
    table = Table(
        "model",
        f"recall@{k}",
        f"NDCG@{k}",
        "95 % interval",
        "coverage",
        "hold-out NDCG@20",
        "tune s",
        "fit s",
        "settings",
    )
    published = PUBLISHED.get((data.train.matrix.nnz, data.test.nnz), {}) if k == 20 else {}
    rows = [(r.recall, r.ndcg, f"{name} ← chosen" if name == chosen else name, r) for name, r in results.items()]
    rows += [(recall, ndcg, f"{name} (published)", None) for name, (recall, ndcg) in published.items()]
    rows.append((peer[0], peer[1], f"implicit ALS, its defaults ({peer[2]:.1f} s)", None))
    for recall, ndcg, name, result in sorted(rows, key=lambda row: -row[1]):
        rest = (
            ("", "", "", "", "", "")
            if result is None
            else (
                f"{result.interval[0]:.4f} … {result.interval[1]:.4f}",
                f"{result.coverage:.3f}",
                f"{result.holdout_ndcg:.4f}",
                f"{result.tune_s:.1f}",
                f"{result.fit_s:.1f}",
                _settings(result),
            )
        )
        table.add_row(name, f"{recall:.4f}", f"{ndcg:.4f}", *rest)
    return table


def _plot(results: dict[str, Result], width: int = 60, height: int = 12) -> str:
    """NDCG over training time, logarithmic, in characters."""
    seconds = np.log10([max(result.fit_s, 0.01) for result in results.values()])
    quality = np.array([result.ndcg for result in results.values()])
    grid = [[" "] * (width + 18) for _ in range(height)]
    for name, x, y in zip(results, seconds, quality, strict=True):
        column = int((x - seconds.min()) / max(np.ptp(seconds), 1e-9) * width)
        row = height - 1 - int((y - quality.min()) / max(np.ptp(quality), 1e-9) * (height - 1))
        grid[row][column : column + len(name) + 2] = f"• {name}"
    lines = ["NDCG ↑"] + ["│" + "".join(row).rstrip() for row in grid] + ["└" + "─" * width + "→ fit seconds, log"]
    return "\n".join(lines)


def _settings(result: Result) -> str:
    found = result.model.model_dump(exclude_none=True, exclude={"algorithm", "components"})
    if result.items is not None:
        found["of the most popular items"] = f"{result.items:,}"
    return ", ".join(f"{name} {value}" for name, value in found.items())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--plot", type=Path, help="an SVG file to write: quality against training time")
    return parser.parse_args()


if __name__ == "__main__":
    main()
