"""New items placed by their attributes: recall@10 among items hidden from the training, beside chance and newest first.

    python -m benchmarks.cold_items PATH [--models als,bpr] [--share 1.0] [--seed 42]

PATH as for benchmarks.quality, with a table of the items beside the log (columns become attributes; texts with | are
lists). A fifth of the items is hidden wholly: their interactions are taken out before the model is trained, which is
stricter than what a training measures of itself. Then each user's hidden items are to be found among all hidden ones.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table
from scipy import sparse

from benchmarks import quality
from recoflow import schema
from recoflow.models.algorithms import item_encoder, train
from recoflow.models.algorithms.scorer import Scorer
from recoflow.models.evaluation import evaluate, metrics
from recoflow.models.evaluation.holdout import where
from recoflow.models.training import cold_items
from recoflow.settings.sections import Model

MAX_USERS = 5000


def main() -> None:
    arguments = _arguments()
    data = quality.read(arguments.path, arguments.share, arguments.seed).train
    items = read_items(arguments.path, data.items.tolist())
    trained = np.flatnonzero(data.popularity() > 0)
    rng = np.random.default_rng(arguments.seed)
    held = np.sort(rng.permutation(trained)[: len(trained) // 5])
    kept = np.setdiff1d(trained, held)
    is_hidden = np.isin(data.matrix.indices, held)
    left = replace(data, matrix=where(data.matrix, ~is_hidden), last_at=data.last_at[~is_hidden])
    test = sparse.csr_matrix(data.matrix[:, held])
    users = np.flatnonzero((np.diff(test.indptr) > 0) & (np.diff(left.matrix.indptr) > 0))
    users = np.sort(rng.choice(users, min(MAX_USERS, len(users)), replace=False))
    test = sparse.csr_matrix(test[users])
    newest = np.repeat(data.born_at[held].argsort().argsort()[None].astype(np.float32), len(users), 0)
    recalls = {
        "random": cold_items.recall(evaluate.RandomScores(len(held), arguments.seed), test),
        "newest first": cold_items.recall(Scorer(newest, np.eye(len(held), dtype=np.float32)), test),
    }
    seconds, features_used = {}, 0
    for name in arguments.models.split(","):
        scorer = train.train(left, Model(algorithm=name), arguments.seed)
        started = time.perf_counter()
        encoder = item_encoder.fit_item_encoder(
            items[kept], scorer.item_factors[kept], left.popularity()[kept], arguments.seed
        )
        if encoder is None:
            raise SystemExit(f"{arguments.path}: the items have no attributes in common")
        encoded = encoder.encode(items[held])
        seconds[name] = round(time.perf_counter() - started, 2)
        features_used = len(encoder.features)
        recalls[name] = cold_items.recall(Scorer(scorer.user_factors[users], encoded), test)
    table = Table("ranked by", f"recall@{cold_items.K}", "95 % interval", "× random", "encoder s")
    for name, values in recalls.items():
        low, high = metrics.interval(values, arguments.seed)
        ratio = values.mean() / recalls["random"].mean()
        row = (f"{values.mean():.4f}", f"{low:.4f} … {high:.4f}", f"{ratio:.1f}", f"{seconds.get(name, '')}")
        table.add_row(f"{name}, attributes" if name in seconds else name, *row)
    Console(width=120).print(f"{len(held):,} hidden items, {len(users):,} users, {features_used:,} features", table)
    report: dict[str, Any] = {
        "data": arguments.path.name,
        "hidden_items": len(held),
        "users": len(users),
        "features": features_used,
        f"recall@{cold_items.K}": {name: round(float(values.mean()), 4) for name, values in recalls.items()},
    }
    print(json.dumps(report))


def read_items(path: Path, items: list[str]) -> pl.DataFrame:
    """ITEMS of the given ids, from the table in `path` of one row per item that has the most texts."""
    tables = []
    for file in sorted(path.iterdir()):
        if file.suffix in {".parquet", ".csv"}:
            frame = pl.read_parquet(file) if file.suffix == ".parquet" else pl.read_csv(file)
            key = next((name for name in quality.ITEM if name in frame.columns), None)
            if key and frame[key].is_unique().all():
                tables.append((frame.schema.dtypes().count(pl.String), key, frame))
    if not tables:
        raise SystemExit(f"{path}: no table of items")
    _, key, frame = max(tables, key=lambda table: table[0])
    attributes = {
        str(row.pop(key)): json.dumps({name: _value(of) for name, of in row.items() if of is not None})
        for row in frame.to_dicts()
    }
    return pl.DataFrame(
        {
            "item_id": items,
            "item_type": ["item"] * len(items),
            "is_enabled": [True] * len(items),
            "is_available": [True] * len(items),
            "published_at": [None] * len(items),
            "updated_at": [None] * len(items),
            "attributes": [attributes.get(item, "{}") for item in items],
        },
        schema=schema.ITEMS,
    )


def _value(value: Any) -> Any:
    return value.split("|") if isinstance(value, str) and "|" in value else value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--models", default="als,bpr")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


if __name__ == "__main__":
    main()
