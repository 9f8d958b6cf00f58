"""A hold-out inside the training data, on which settings and blends are chosen.

What belongs here: splitting a user–item matrix once more, small enough to be cheap. What does not: the outer split.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recoflow.models.algorithms.matrix import UserItems
from recoflow.models.evaluation import evaluate, metrics
from recoflow.models.evaluation.evaluate import Scores

SHARE: Final = 0.2
ENOUGH: Final = 100  # users to choose by
MAX_USERS: Final = 30_000
MAX_JUDGED: Final = 6_000
K: Final = 20


@dataclass(frozen=True)
class HoldOut:
    """A part of the training data to learn from, and what was held out of it.

    Attributes:
        data: rows of at most 30,000 users, without what was held out.
        test: CSR [users × items], disjoint from `data`.
        judged: rows that are judged, ascending, at most 6,000, all with entries on both sides.
    """

    data: UserItems
    test: sparse.csr_matrix
    judged: NDArray[np.int64]

    def ndcg(self, scorer: Scores) -> float:
        """Mean NDCG@20 over the judged users; 0 when there are none."""
        if not len(self.judged):
            return 0.0
        lists = evaluate.top_lists(scorer, self.data.matrix, self.judged, min(K, self.data.shape[1]))
        hits = evaluate.hits(lists, self.test, self.judged)
        return float(metrics.ndcg(hits, np.diff(self.test.indptr)[self.judged]).mean())


def sample(hold: HoldOut, users: int, seed: int) -> HoldOut:
    """The same hold-out with no more than so many users, drawn by the seed."""
    if hold.data.shape[0] <= users:
        return hold
    rows = np.sort(np.random.default_rng(seed).choice(hold.data.shape[0], users, replace=False))
    return HoldOut(_rows(hold.data, rows), hold.test[rows], np.flatnonzero(np.isin(rows, hold.judged)))


def hold_out(data: UserItems, seed: int, *, is_temporal: bool, max_users: int = MAX_USERS) -> HoldOut:
    """Hold out the latest fifth of the entries, or, where times do not tell users apart, a fifth of each user's.

    Where people come once and leave, hardly anyone stands on both sides of a time point, and a choice among models by
    some twenty users would be a draw of lots: with fewer than 100, the latest fifth of each user is held out instead.
    """
    rng = np.random.default_rng(seed)
    if data.shape[0] > max_users:
        data = _rows(data, np.sort(rng.choice(data.shape[0], max_users, replace=False)))
    found = _parted(
        data, _latest(data) if is_temporal else np.zeros(data.matrix.nnz, np.bool_), is_temporal=is_temporal
    )
    if len(found.judged) < ENOUGH:
        has_times = is_temporal and np.ptp(data.last_at) > 0
        order = -data.last_at if has_times else rng.random(data.matrix.nnz)
        of_each = _parted(data, _of_each(data, order), is_temporal=is_temporal)
        found = max(found, of_each, key=lambda each: len(each.judged))
    if len(found.judged) > MAX_JUDGED:
        found = replace(found, judged=np.sort(rng.choice(found.judged, MAX_JUDGED, replace=False)))
    return found


def _parted(data: UserItems, is_held: NDArray[np.bool_], *, is_temporal: bool) -> HoldOut:
    """Held and kept entries, with all users who have both; of a temporal one without items that nobody had met by then.

    Those are no matter of taste: no setting of any model places them, and where most of what is new is clicked on most,
    they would drown what tells models apart.
    """
    kept, held = where(data.matrix, ~is_held), where(data.matrix, is_held)
    data = replace(data, matrix=kept, last_at=data.last_at[~is_held])
    if is_temporal:
        known = np.flatnonzero(np.bincount(kept.indices, minlength=data.shape[1]))
        data = replace(data, items=data.items[known], matrix=kept[:, known], born_at=data.born_at[known])
        held = held[:, known]
    judged = np.flatnonzero((np.diff(held.indptr) > 0) & (np.diff(data.matrix.indptr) > 0))
    return HoldOut(data, held, judged)


def _rows(data: UserItems, rows: NDArray[np.int64]) -> UserItems:
    matrix = data.matrix[rows]
    starts = np.repeat(data.matrix.indptr[rows] - matrix.indptr[:-1], np.diff(matrix.indptr))
    return replace(
        data, subjects=data.subjects[rows], matrix=matrix, last_at=data.last_at[starts + np.arange(matrix.nnz)]
    )


def _latest(data: UserItems) -> NDArray[np.bool_]:
    point = np.quantile(data.last_at, 1 - SHARE, method="higher")
    return np.asarray(data.last_at >= point)


def _of_each(data: UserItems, order: NDArray[np.generic]) -> NDArray[np.bool_]:
    """About a fifth of each user's entries, at least one of two or more: those that come first in `order`."""
    lengths = np.diff(data.matrix.indptr)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    by_row = np.lexsort((order, rows))
    place = np.empty(len(rows), np.int64)
    place[by_row] = np.arange(len(rows)) - data.matrix.indptr[rows]
    count = np.where(lengths > 1, np.maximum(1, np.round(lengths * SHARE)), 0)
    return np.asarray(place < count[rows])


def where(matrix: sparse.csr_matrix, chosen: NDArray[np.bool_]) -> sparse.csr_matrix:
    """The chosen entries of a matrix, in the same shape."""
    indptr = np.concatenate([[0], np.cumsum(chosen)])[matrix.indptr]
    return sparse.csr_matrix((matrix.data[chosen], matrix.indices[chosen], indptr), shape=matrix.shape)
