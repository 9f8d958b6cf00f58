"""The tables of a training's evaluation: one row per model, and one per model and kind of user.

What belongs here: their columns and how they are filled. What does not: the numbers (evaluate) and their definitions
(metrics).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from recoflow.models.evaluation.evaluate import Evaluation

Columns = dict[str, type[pl.DataType]]
VALUES: Final[Columns] = dict.fromkeys(
    ("recall", "ndcg", "map", "hit_rate", "coverage", "personalization", "novelty", "gini"), pl.Float64
)
INTERVAL: Final[Columns] = dict.fromkeys(("ndcg_low", "ndcg_high"), pl.Float64)
METRICS: Final = pl.Schema(
    {"model": pl.String, "role": pl.String, "k": pl.Int64, "users": pl.Int64}
    | VALUES
    | INTERVAL
    | {"fit_seconds": pl.Float64}
)
SEGMENTS: Final = pl.Schema(
    {"model": pl.String, "role": pl.String, "segment": pl.String, "users": pl.Int64, "ndcg": pl.Float64} | INTERVAL
)


@dataclass(frozen=True)
class EvaluatedModel:
    """One judged model; `role` is candidate, in service or baseline, `evaluation` None when it could not be judged."""

    model: str
    role: str
    evaluation: Evaluation | None
    seconds: float


def metrics(entries: Sequence[EvaluatedModel]) -> pl.DataFrame:
    """METRICS, a row per entry."""
    return pl.DataFrame([_metrics_of(entry) for entry in entries], schema=METRICS)


def segments(entries: Sequence[EvaluatedModel]) -> pl.DataFrame:
    """SEGMENTS, a row per entry and kind of user that there is."""
    rows = [
        {"model": entry.model, "role": entry.role, "segment": name, "users": of.users, "ndcg": of.ndcg}
        | _interval(of.interval)
        for entry in entries
        if entry.evaluation is not None
        for name, of in entry.evaluation.segments.items()
    ]
    return pl.DataFrame(rows, schema=SEGMENTS)


def _metrics_of(entry: EvaluatedModel) -> dict[str, Any]:
    row: dict[str, Any] = {"model": entry.model, "role": entry.role, "fit_seconds": entry.seconds}
    found = entry.evaluation
    if found is None:
        return row
    return row | found.values | {"k": found.k, "users": found.users} | _interval(found.interval)


def _interval(interval: tuple[float, float]) -> dict[str, float]:
    low, high = interval
    return {"ndcg_low": low, "ndcg_high": high}
