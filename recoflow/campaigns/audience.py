"""Audiences: the users to whom given items fit best, by the champion's scores.

What belongs here: who is chosen, and in which order. What does not: how a model scores (`models.scorer`).

A user's score is that of the one item among the given ones that fits best: an audience is for people to whom at least
one of the items is worth showing, and a sum would prefer those who have consumed none of them. What a user consumed
does not count for that user, and who has consumed all of the items is left out. Larger scores come first, equal ones
by user id, of equal items the smaller id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
from scipy import sparse

from recoflow import schema
from recoflow.campaigns import rules
from recoflow.errors import CampaignError

if TYPE_CHECKING:
    import numpy.typing as npt

    from recoflow.environment import Environment
    from recoflow.models.bundle import Bundle
    from recoflow.models.scorer import Scorer
    from recoflow.storage.lake import Lake

AUDIENCE: Final = pl.Schema({"rank": pl.Int64, "user_id": pl.String, "item_id": pl.String, "score": pl.Float32})
SCORES: Final = 1 << 22  # held at once
USER: Final = "u:"  # of subjects that are users, not devices


def consumers(items: Sequence[str], lake: Lake, environment: Environment) -> pl.DataFrame:
    """`subject`, `item_id`: who has consumed which of the items until now, by the environment's event types."""
    bits = schema.event_type_bits(environment.events.consumed)
    consumed = pl.col("item_id").is_in(list(items)) & (pl.col("event_types") & bits != 0)
    return lake.scan("interactions").filter(consumed).select("subject", "item_id").collect()


def choose(items: Sequence[str], size: int, bundle: Bundle, consumed: pl.DataFrame) -> pl.DataFrame:
    """The audience of items.

    Args:
        items: item ids.
        size: how many users at most.
        bundle: the model in service.
        consumed: see `consumers`.

    Returns:
        AUDIENCE, best first; `item_id` is the item that fits the user best.

    Raises:
        CampaignError: an item is unknown, cannot be recommended, or the model knows nothing of it.
    """
    wanted = sorted(set(items))
    scorer = _restricted(bundle.scorer, _columns(wanted, bundle))
    _check_known(wanted, scorer)
    users = np.flatnonzero(np.char.startswith(bundle.subjects, USER) & bundle.scorer.is_known())
    taken = _taken(consumed, wanted, bundle)
    rows, places, scores = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    step = max(1, SCORES // len(wanted))
    for begin in range(0, len(users), step):
        block = users[begin : begin + step]
        fit = np.where(taken[block].toarray(), -np.inf, _scores(scorer, block)).astype(np.float32)
        best = fit.argmax(axis=1)
        reached = fit[np.arange(len(block)), best]
        fitting = np.isfinite(reached)
        rows = np.concatenate([rows, block[fitting]])
        places = np.concatenate([places, best[fitting]])
        scores = np.concatenate([scores, reached[fitting]])
        order = np.lexsort((rows, -scores))[:size]  # subjects are sorted, so that rows stand for user ids
        rows, places, scores = rows[order], places[order], scores[order]
    return pl.DataFrame(
        {
            "rank": np.arange(1, len(rows) + 1),
            "user_id": pl.Series(bundle.subjects[rows], dtype=pl.String).str.strip_prefix(USER),
            "item_id": pl.Series(wanted, dtype=pl.String).gather(places),
            "score": scores,
        },
        schema=AUDIENCE,
    )


def _columns(items: Sequence[str], bundle: Bundle) -> npt.NDArray[np.int64]:
    places = {item: place for place, item in enumerate(bundle.items["item_id"])}
    for item in items:
        if item not in places:
            raise CampaignError(f"item '{item}'", "is not in the catalogue", "Check its id, or train again")
    columns = np.array([places[item] for item in items], np.int64)
    is_eligible = rules.is_eligible(bundle.items)[columns]
    if not is_eligible.all():
        item = items[int(np.argmin(is_eligible))]
        raise CampaignError(f"item '{item}'", "is disabled or not available", "Enable it, or choose another")
    return columns


def _check_known(items: Sequence[str], scorer: Scorer) -> None:
    is_known = scorer.item_factors.any(axis=1)
    if scorer.similarity is not None:
        is_known |= np.diff(scorer.similarity.tocsc().indptr) > 0
    if not is_known.all():
        item = items[int(np.argmin(is_known))]
        raise CampaignError(
            f"item '{item}'", "has no score: the model knows nothing of it", "Wait for the next training"
        )


def _restricted(scorer: Scorer, columns: npt.NDArray[np.int64]) -> Scorer:
    """The scorer of these items alone."""
    similarity = None if scorer.similarity is None else sparse.csr_matrix(scorer.similarity[:, columns])
    return replace(scorer, item_factors=np.asarray(scorer.item_factors)[columns], similarity=similarity)


def _scores(scorer: Scorer, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """As `Scorer.score`, in float64, so that neither BLAS nor the size of the blocks decides who is chosen."""
    scores = np.asarray(scorer.user_factors[rows], np.float64) @ np.asarray(scorer.item_factors, np.float64).T
    if scorer.history is not None and scorer.similarity is not None:
        scores += (scorer.history[rows].astype(np.float64) @ scorer.similarity.astype(np.float64)).toarray()
    return scores


def _taken(consumed: pl.DataFrame, items: Sequence[str], bundle: Bundle) -> sparse.csr_matrix:
    """bool [subjects × items]: what is consumed."""
    places = pl.DataFrame({"item_id": items, "place": np.arange(len(items))})
    pairs = consumed.select("subject", "item_id").unique().join(places, on="item_id")
    rows = bundle.rows_of(pairs["subject"])
    known = rows >= 0
    entries = np.ones(int(known.sum()), np.bool_), (rows[known], pairs["place"].to_numpy()[known])
    return sparse.csr_matrix(entries, shape=(len(bundle.subjects), len(items)))
