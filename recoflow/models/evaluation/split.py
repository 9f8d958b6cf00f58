"""Train and test: which interactions an evaluation may learn from and which it must predict.

What belongs here: splits of INTERACTIONS and the proof that one does not leak. What does not: metrics.

An interaction is one subject–item pair, and a pair lies wholly on one side. A pair's weight sums all its events, so the
weight of a training pair may hold events after the split; its existence never does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import polars as pl

from recoflow.models.algorithms import matrix

Kind = Literal["temporal", "leave_last_out", "random"]
MIN_USERS = 20


@dataclass(frozen=True)
class Split:
    """INTERACTIONS in two; `at` is the time point of a temporal split."""

    kind: Kind
    train: pl.DataFrame
    test: pl.DataFrame
    at: datetime | None

    def warm_users(self) -> int:
        """Subjects with interactions on both sides: those that a model can be judged on."""
        return self.test.select("subject").unique().join(self.train.select("subject").unique(), on="subject").height

    def leaks(self) -> int:
        """Pairs on both sides, and, of a temporal split, pairs on the wrong side of its time point."""
        both = self._pairs_on_both_sides()
        if self.at is None:
            return both
        late = int((self.train["first_at"] >= self.at).sum())
        return both + late + int((self.test["first_at"] < self.at).sum())

    def _pairs_on_both_sides(self) -> int:
        """Counted by numbers in order: a join of so many rows takes half of all memory that a training needs."""
        pairs = matrix.numbered_pairs(
            pl.concat([part.select("subject", "item_id") for part in (self.train, self.test)])
        )
        subjects, items = (pairs[name].to_physical().cast(pl.Int64).to_numpy() for name in ("subject", "item_id"))
        numbers = subjects << 32 | items
        learned, asked = np.sort(numbers[: self.train.height], kind="stable"), numbers[self.train.height :]
        return int((np.searchsorted(learned, asked, "right") > np.searchsorted(learned, asked)).sum())


def split(interactions: pl.DataFrame, kind: Kind, holdout: float, seed: int) -> Split:
    """Hold out about the share `holdout` of the interactions with a weight > 0.

    `temporal`: all pairs first seen at or after one global time point (Meng et al. 2020, "Exploring Data Splitting
    Strategies for the Evaluation of Recommendation Models", RecSys). `leave_last_out`: the last pair of each subject
    with two or more. `random`: a seeded sample of each subject's pairs. Ties break by item id.
    """
    pairs = interactions.filter(pl.col("weight") > 0)
    at: datetime | None = None
    if kind == "temporal":
        at = _time_point(pairs, holdout)
        held = pl.lit(value=False) if at is None else pl.col("first_at") >= at
    elif kind == "leave_last_out":
        held = (
            pl.int_range(pl.len()).over("subject", order_by=["first_at", "item_id"]) == pl.len().over("subject") - 1
        ) & (pl.len().over("subject") > 1)
    else:
        drawn = pl.Series("drawn", np.random.default_rng(seed).random(pairs.height))
        pairs = pairs.sort("subject", "item_id").with_columns(drawn)
        rank = pl.col("drawn").rank("ordinal").over("subject")
        held = rank <= (pl.len().over("subject") * holdout).round()
    pairs = pairs.with_columns(held.alias("held"))
    train = pairs.filter(~pl.col("held")).select(interactions.columns)
    test = pairs.filter(pl.col("held")).select(interactions.columns)
    return Split(kind, train, test, at)


def usable(interactions: pl.DataFrame, kind: Kind, holdout: float, seed: int, min_users: int = MIN_USERS) -> Split:
    """The wanted split, or, where it leaves fewer than `min_users` warm users, the first of the others that does not.

    The kind that was used stands in the result; the last resort is the random split, however few users it leaves.
    """
    kinds: list[Kind] = [kind, *(other for other in ("leave_last_out", "random") if other != kind)]
    for candidate in kinds:
        result = split(interactions, candidate, holdout, seed)
        if result.warm_users() >= min_users:
            break
    return result


def _time_point(pairs: pl.DataFrame, holdout: float) -> datetime | None:
    point = pairs["first_at"].quantile(1 - holdout, "higher")
    if not isinstance(point, datetime) or point == pairs["first_at"].min():
        return None
    return point
