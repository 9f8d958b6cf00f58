"""Retraining ALS from the last factors after 5 % new events: NDCG@10 and sweeps beside a cold training's.

    python -m benchmarks.warm_start PATH [--new 0.05] [--factors 128] [--share 1.0] [--seed 42]

PATH as for benchmarks.quality. The new events are the latest of the training part, or, where it has no times, a seeded
sample of it; items that only they know are new. ALS is trained on the old ones, then continues on all as a nightly
training does. The peer is a cold training on all, with the same settings. All are judged on the test part.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import quality
from recoflow.models.algorithms import least_squares, train
from recoflow.models.algorithms.matrix import UserItems
from recoflow.models.algorithms.warm_start import WarmStart
from recoflow.models.evaluation import evaluate, metrics
from recoflow.models.evaluation.holdout import where
from recoflow.settings.sections import Model

K = 10
TOLERANCE = 0.005


def main() -> None:
    arguments = _arguments()
    data = quality.read(arguments.path, arguments.share, arguments.seed)
    old = without_newest(data.train, arguments.new, arguments.seed, is_temporal=data.is_temporal)
    model = Model(algorithm="als", factors=arguments.factors)
    before = train.train(old, model, arguments.seed)
    start = WarmStart(
        "old",
        old.items,
        before.item_factors,
        {"algorithm": "als", "parameters": before.parameters, "course": before.course},
        before.encoders,
    )
    untouched = start.factors_of(data.train.items)
    users = least_squares.solve_users(before.confidence.apply(data.train.matrix), untouched, before.encoders[0])
    rows = {"old items, users folded in": (replace(before, user_factors=users, item_factors=untouched), 0, 0.0)}
    for name, begin in (("warm", [start]), ("cold", [])):
        started = time.perf_counter()
        scorer = train.train(data.train, model, arguments.seed, begin)
        rows[name] = (scorer, scorer.course["sweeps"], time.perf_counter() - started)
    judged = {
        name: evaluate.evaluate(scorer, data.train.matrix, data.test, K, 1).ndcg
        for name, (scorer, _, _) in rows.items()
    }
    ndcg = {name: float(values.mean()) for name, values in judged.items()}
    table = Table("training", "sweeps", "seconds", f"NDCG@{K}", "of cold", "95 % interval of the difference")
    for name, (_, sweeps, seconds) in rows.items():
        low, high = metrics.interval(judged[name] - judged["cold"], 1)
        share, difference = f"{ndcg[name] / ndcg['cold']:.2%}", f"{low:+.4f} … {high:+.4f}"
        table.add_row(name, str(sweeps), f"{seconds:.1f}", f"{ndcg[name]:.4f}", share, difference)
    Console(width=120).print(f"{len(judged['cold']):,} test users", table)
    sweeps = {name: rows[name][1] for name in ("warm", "cold")}
    is_equal = ndcg["warm"] >= ndcg["cold"] * (1 - TOLERANCE)
    report = {
        "data": arguments.path.name,
        "new_pairs": data.train.matrix.nnz - old.matrix.nnz,
        "new_items": data.train.shape[1] - old.shape[1],
        "sweeps": sweeps,
        f"ndcg@{K}": {name: round(value, 5) for name, value in ndcg.items()},
        "fit_s": {name: round(rows[name][2], 1) for name in sweeps},
        "holds": is_equal and 3 * sweeps["warm"] <= sweeps["cold"],
    }
    print(json.dumps(report))


def without_newest(data: UserItems, share: float, seed: int, *, is_temporal: bool) -> UserItems:
    """The same users without the latest share of their entries, and without items that nothing is left of."""
    if is_temporal:
        is_new = data.last_at >= np.quantile(data.last_at, 1 - share, method="higher")
    else:
        is_new = np.random.default_rng(seed).random(data.matrix.nnz) < share
    matrix = where(data.matrix, ~is_new)
    kept = np.flatnonzero(np.bincount(matrix.indices, minlength=data.shape[1]))
    return replace(
        data,
        items=data.items[kept],
        matrix=matrix[:, kept],
        last_at=data.last_at[~is_new],
        born_at=data.born_at[kept],
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--new", type=float, default=0.05)
    parser.add_argument("--factors", type=int, default=128)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


if __name__ == "__main__":
    main()
