"""Audiences: the people to whom given items fit best, by the champion's scores.

What belongs here: who is chosen, and in which order. What does not: how a model scores (`models.algorithms.scorer`),
and request files that ask for audiences (`audience_rows`, `build_audiences`).

People are users, and for request files also devices that are nobody's. A user's score is that of the one item among
the given ones that fits best: an audience is for people to whom at least one of the items is worth showing, and a sum
would prefer those who have consumed none of them. What a user consumed does not count for that user, and who has
consumed all of the items is left out. Larger scores come first, equal ones by subject, so users by their id; of equal
items the smaller id.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from scipy import sparse

from recoflow import schema
from recoflow.campaigns.lists import item_filters
from recoflow.errors import CampaignError
from recoflow.models.algorithms import matrix

if TYPE_CHECKING:
    import numpy.typing as npt

    from recoflow.models.algorithms.scorer import Scorer
    from recoflow.models.store.bundle import Bundle
    from recoflow.settings.environment import Environment
    from recoflow.storage.lake.lake import Lake

AUDIENCE: Final = pl.Schema({"rank": pl.Int64, "user_id": pl.String, "item_id": pl.String, "score": pl.Float32})
CHOSEN: Final = pl.Schema({"rank": pl.Int64, "subject": pl.String, "item_id": pl.String, "score": pl.Float32})
SCORES: Final = 1 << 22  # held at once
USER: Final = "u:"  # of subjects that are users, not devices
DEVICE: Final = "d:"


@dataclass(frozen=True)
class ItemObstacle:
    """Why nobody can be chosen for an item."""

    code: str
    problem: str
    cure: str


_UNKNOWN: Final = ItemObstacle("unknown_item", "is not in the catalogue", "Check its id, or train again")
_DISABLED: Final = ItemObstacle("unavailable_item", "is disabled or not available", "Enable it, or choose another")
_UNSCORED: Final = ItemObstacle(
    "unscored_item", "has no score: the model knows nothing of it", "Wait for the next training"
)


class AudienceItems:
    """The items that audiences may be asked for."""

    def __init__(self, bundle: Bundle) -> None:
        self._items = bundle.items.select("item_id").with_columns(
            pl.Series("is_eligible", item_filters.is_eligible(bundle.items)),
            pl.Series("is_scored", _is_scored(bundle.scorer)),
        )

    def obstacles(self, items: Collection[str]) -> dict[str, ItemObstacle]:
        """Item id → why nobody can be chosen for it, for those of `items` for which there is a reason."""
        asked = pl.DataFrame({"item_id": sorted(set(items))}, schema={"item_id": pl.String})
        found = {}
        rows = asked.join(self._items, on="item_id", how="left", maintain_order="left").iter_rows()
        for item, is_eligible, is_scored in rows:
            if not (is_eligible and is_scored):
                found[item] = _UNKNOWN if is_eligible is None else _UNSCORED if is_eligible else _DISABLED
        return found


class Choice:
    """Everybody who may be chosen, and for what.

    Args:
        bundle: the model in service.
        taken: bool [subjects × items of the bundle], who has consumed what; only the items asked for matter.
        kinds: of subjects that may be chosen: USER, DEVICE.
        scores_at_once: held in memory, about.
    """

    def __init__(
        self,
        bundle: Bundle,
        taken: sparse.csc_matrix,
        kinds: Sequence[str] = (USER, DEVICE),
        *,
        scores_at_once: int = SCORES,
    ) -> None:
        self._scores_at_once = scores_at_once
        self._bundle = bundle
        self._taken = taken
        is_kind = np.logical_or.reduce([np.char.startswith(bundle.subjects, kind) for kind in kinds])
        self._people = np.flatnonzero(is_kind & bundle.scorer.is_known())
        self._places = {item: place for place, item in enumerate(bundle.items["item_id"])}

    def best(self, items: Collection[str], size: int) -> pl.DataFrame:
        """CHOSEN, best first: at most `size` people; `item_id` is the item that fits the person best.

        Args:
            items: ids of items without an obstacle.
            size: how many people at most.
        """
        wanted = sorted(set(items))
        columns = np.array([self._places[item] for item in wanted], np.int64)
        scorer, taken = _restricted(self._bundle.scorer, columns), self._taken[:, columns].tocsr()
        rows, places, scores = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
        step = max(1, self._scores_at_once // len(wanted))
        for begin in range(0, len(self._people), step):
            block = self._people[begin : begin + step]
            fit = np.where(taken[block].toarray(), -np.inf, _scores(scorer, block)).astype(np.float32)
            best = fit.argmax(axis=1)
            reached = fit[np.arange(len(block)), best]
            fitting = np.isfinite(reached)
            rows = np.concatenate([rows, block[fitting]])
            places = np.concatenate([places, best[fitting]])
            scores = np.concatenate([scores, reached[fitting]])
            order = np.lexsort((rows, -scores))[:size]  # subjects are sorted, so that rows stand for them
            rows, places, scores = rows[order], places[order], scores[order]
        return pl.DataFrame(
            {
                "rank": np.arange(1, len(rows) + 1),
                "subject": matrix.texts_of(self._bundle.subjects[rows]),
                "item_id": pl.Series(wanted, dtype=pl.String).gather(places),
                "score": scores,
            },
            schema=CHOSEN,
        )


def consumers(items: Sequence[str], lake: Lake, environment: Environment) -> pl.DataFrame:
    """`subject`, `item_id`: who has consumed which of the items until now, by the environment's event types."""
    bits = schema.event_type_bits(environment.events.consumed)
    consumed = pl.col("item_id").is_in(list(items)) & (pl.col("event_types") & bits != 0)
    return lake.scan("interactions").filter(consumed).select("subject", "item_id").collect()


def choose_audience(items: Sequence[str], size: int, bundle: Bundle, consumed: pl.DataFrame) -> pl.DataFrame:
    """The audience of items among users.

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
    for item, obstacle in AudienceItems(bundle).obstacles(items).items():
        raise CampaignError(f"item '{item}'", obstacle.problem, obstacle.cure)
    found = Choice(bundle, _taken(consumed, bundle), [USER]).best(items, size)
    return found.with_columns(pl.col("subject").str.strip_prefix(USER)).rename({"subject": "user_id"}).cast(AUDIENCE)


def consumption(items: Collection[str], bundle: Bundle, bits: int) -> sparse.csc_matrix:
    """bool [subjects × items]: who has consumed which of `items`, by event types (see `schema.event_type_bits`)."""
    is_asked = bundle.items["item_id"].is_in(list(items)).to_numpy()
    entries = np.flatnonzero(is_asked[bundle.seen_indices] & (np.asarray(bundle.seen_types) & bits != 0))
    rows = np.searchsorted(bundle.seen_indptr, entries, side="right") - 1
    return _marked(rows, np.asarray(bundle.seen_indices)[entries], bundle)


def _is_scored(scorer: Scorer) -> npt.NDArray[np.bool_]:
    is_known = np.asarray(scorer.item_factors.any(axis=1), np.bool_)
    if scorer.similarity is not None:
        is_known |= np.diff(scorer.similarity.tocsc().indptr) > 0
    return is_known


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


def _taken(consumed: pl.DataFrame, bundle: Bundle) -> sparse.csc_matrix:
    places = bundle.items.select("item_id").with_row_index("place")
    pairs = consumed.select("subject", "item_id").unique().join(places, on="item_id")
    rows = bundle.rows_of(pairs["subject"])
    return _marked(rows[rows >= 0], pairs["place"].to_numpy()[rows >= 0], bundle)


def _marked(rows: npt.NDArray[np.int64], columns: npt.NDArray[Any], bundle: Bundle) -> sparse.csc_matrix:
    shape = (len(bundle.subjects), bundle.items.height)
    return sparse.csc_matrix((np.ones(len(rows), np.bool_), (rows, columns)), shape=shape)
