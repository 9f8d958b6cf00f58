"""How good a scorer's lists are on held-out interactions.

What belongs here: running a scorer over test users and summing up. What does not: the metrics' definitions (metrics)
and the decision that follows (select).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recoflow.compute.thread_pool import thread_pool
from recoflow.models.algorithms.matrix import Matrix
from recoflow.models.evaluation import metrics

BLOCK = 128  # with a hundred thousand items, larger blocks of scores are fetched from the system anew each time
MAX_JUDGED: Final = 10_000  # people: the interval of their mean NDCG is a few percent of it, and no model comes closer
DRAWN: Final = 2048  # items that random lists are made of
COLD = 5  # fewer training items than that, and a user is cold
PEOPLE = 1000  # whose lists are held against each other
HEAVY = 0.8  # from this quantile of the judged users' training items on, a user is heavy


class Scores(Protocol):
    """Anything that scores a block of users: float32 [len(rows) × items], which the caller may write over.

    Blocks are asked for by several threads at once.
    """

    def score(self, rows: NDArray[np.int64]) -> Matrix: ...  # noqa: D102 - told above


@dataclass(frozen=True)
class RandomScores:
    """The random baseline: uniform scores that depend on seed and user only."""

    items: int
    seed: int

    def score(self, rows: NDArray[np.int64]) -> Matrix:
        """Float32 [len(rows) × items] in [0, 1); of many items all but some 2,000 drawn ones have 0."""
        scores = np.zeros((len(rows), self.items), np.float32)
        for place, row in enumerate(rows):
            rng = np.random.default_rng((self.seed, row))
            if self.items <= DRAWN:
                rng.random(out=scores[place], dtype=np.float32)
            else:
                scores[place, rng.integers(0, self.items, DRAWN)] = rng.random(DRAWN, np.float32)
        return scores


@dataclass(frozen=True)
class Segment:
    """Judged users of one kind: how many, their mean NDCG and its 95 % bootstrap interval."""

    users: int
    ndcg: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one scorer at k, over users who have both training and test interactions.

    Attributes:
        values: recall, ndcg, map, hit_rate, novelty (means over users), coverage, personalization, gini.
        interval: 95 % bootstrap interval of the mean NDCG.
        segments: of cold users (fewer than 5 training items), heavy ones (as many as the top fifth has, and not cold)
            and warm ones, all others; a kind that nobody is of is left out.
        users: how many users were judged.
        ndcg: per user, aligned between evaluations of the same split.
    """

    k: int
    values: dict[str, float]
    interval: tuple[float, float]
    segments: dict[str, Segment]
    users: int
    ndcg: NDArray[np.float64]


def evaluate(  # noqa: PLR0917 - a scorer, and how it is judged
    scorer: Scores, train: sparse.csr_matrix, test: sparse.csr_matrix, k: int, seed: int, most: int = MAX_JUDGED
) -> Evaluation:
    """Rank all items but a user's training items for users with both, and measure the first k.

    Args:
        scorer: scores rows of `train`.
        train: CSR [users × items], what may not be recommended again.
        test: CSR [users × items], disjoint from `train`: what is relevant.
        k: length of the lists, at most the number of items is used.
        seed: of the bootstrap, and of who is judged.
        most: how many users are judged at most.
    """
    relevant = np.diff(test.indptr).astype(np.int64)
    users = np.flatnonzero((relevant > 0) & (np.diff(train.indptr) > 0))
    if len(users) > most:
        users = np.sort(np.random.default_rng(seed).choice(users, most, replace=False))
    lists = top_lists(scorer, train, users, min(k, train.shape[1]))
    found = hits(lists, test, users)
    relevant = relevant[users]
    ndcg = metrics.ndcg(found, relevant)
    popularity = np.bincount(train.indices, minlength=train.shape[1]).astype(np.float64)
    values = {
        "recall": _mean(metrics.recall(found, relevant)),
        "ndcg": _mean(ndcg),
        "map": _mean(metrics.average_precision(found, relevant)),
        "hit_rate": _mean(metrics.hit_rate(found)),
        "coverage": metrics.coverage(lists, train.shape[1]),
        "personalization": _personalization(scorer, train, users, k),
        "novelty": _mean(metrics.novelty(lists, popularity, train.shape[0])),
        "gini": metrics.gini(lists, train.shape[1]),
    }
    interval = metrics.interval(ndcg, seed) if len(users) else (0.0, 0.0)
    return Evaluation(k, values, interval, _segments(ndcg, np.diff(train.indptr)[users], seed), len(users), ndcg)


def top_lists(scorer: Scores, seen: sparse.csr_matrix, users: NDArray[np.int64], k: int) -> NDArray[np.int32]:
    """The best k columns for each of `users`, without their columns in `seen`; ties by column, −1 where none is left.

    Returns:
        int32 [len(users) × k]
    """
    from recoflow.models.algorithms import kernels  # noqa: PLC0415 - numba is heavy

    lists = np.full((len(users), k), -1, np.int32)

    def fill(start: int) -> None:
        rows = users[start : start + BLOCK]
        scores = np.ascontiguousarray(scorer.score(rows), np.float32)
        kernels.top_k(scores, rows, seen.indptr, seen.indices, lists[start : start + BLOCK])

    with thread_pool() as threads:
        list(threads.map(fill, range(0, len(users), BLOCK)))
    return lists


def hits(lists: NDArray[np.int32], test: sparse.csr_matrix, users: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each place of the lists of `users` holds one of their entries in `test`, bool [users × k]."""
    items = test.shape[1]
    rows = np.repeat(np.arange(test.shape[0], dtype=np.int64), np.diff(test.indptr))
    held = np.sort(rows * items + test.indices)
    wanted = users[:, None] * items + lists
    place = np.searchsorted(held, wanted)
    found = held[np.minimum(place, len(held) - 1)] == wanted if len(held) else np.zeros(lists.shape, np.bool_)
    return found & (lists >= 0)


def _personalization(scorer: Scores, train: sparse.csr_matrix, users: NDArray[np.int64], k: int) -> float:
    """Of lists from which nothing is left out: what people have seen differs, so it hides a model that ranks all alike.

    Lists are cut to a tenth of the items, because long lists of few items are alike by chance.
    """
    items = train.shape[1]
    some = users[np.linspace(0, len(users) - 1, min(len(users), PEOPLE)).astype(np.int64)]
    nothing = sparse.csr_matrix(train.shape, dtype=np.float32)
    return metrics.personalization(top_lists(scorer, nothing, some, min(k, -(-items // 10))), items)


def _segments(ndcg: NDArray[np.float64], history: NDArray[np.int64], seed: int) -> dict[str, Segment]:
    is_cold = history < COLD
    is_heavy = ~is_cold & (history >= (np.quantile(history, HEAVY) if len(history) else 0))
    kinds = {"cold": is_cold, "warm": ~is_cold & ~is_heavy, "heavy": is_heavy}
    return {
        name: Segment(int(of.sum()), _mean(ndcg[of]), metrics.interval(ndcg[of], seed))
        for name, of in kinds.items()
        if of.any()
    }


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0
