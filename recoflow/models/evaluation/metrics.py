"""Metrics of ranked lists, one value per user.

What belongs here: definitions, over plain arrays. What does not: where lists come from.

All take `hits`, boolean [users × k]: whether the item at each rank is relevant (false where a list is shorter than k),
and `relevant`, the number of relevant items per user [users], all > 0. With r_j the hit at rank j = 1 … k:

- recall@k = Σ r_j / relevant
- hit rate@k = 1 when any r_j
- NDCG@k = DCG / IDCG, DCG = Σ r_j / log2(j + 1), IDCG = Σ_{j ≤ min(k, relevant)} 1 / log2(j + 1)
  (Järvelin & Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques", TOIS, with binary gains)
- MAP@k: average precision = Σ r_j · (Σ_{l ≤ j} r_l / j) / min(k, relevant)
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

Hits = NDArray[np.bool_]
Floats = NDArray[np.float64]


def recall(hits: Hits, relevant: NDArray[np.int64]) -> Floats:
    """Share of a user's relevant items that the list holds."""
    return np.asarray(hits.sum(1) / relevant, np.float64)


def hit_rate(hits: Hits) -> Floats:
    """1 for users whose list holds a relevant item."""
    return np.asarray(hits.any(1), np.float64)


def ndcg(hits: Hits, relevant: NDArray[np.int64]) -> Floats:
    """Discounted gain of the list over that of the best list of k."""
    discount = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    return np.asarray((hits @ discount) / ideal[np.minimum(relevant, hits.shape[1])], np.float64)


def average_precision(hits: Hits, relevant: NDArray[np.int64]) -> Floats:
    """Mean of the precision at each hit, over the hits that the best list of k would have."""
    precision = np.cumsum(hits, 1) / np.arange(1, hits.shape[1] + 1)
    return np.asarray((precision * hits).sum(1) / np.minimum(relevant, hits.shape[1]), np.float64)


def coverage(lists: NDArray[np.int32], items: int) -> float:
    """Share of the items that stand in at least one list (empty places are −1)."""
    return len(np.unique(lists[lists >= 0])) / items if items else 0.0


def gini(lists: NDArray[np.int32], items: int) -> float:
    """Popularity bias of the lists: Gini coefficient of how often each item is recommended, 0 = evenly."""
    counts = np.sort(np.bincount(lists[lists >= 0], minlength=items)).astype(np.float64)
    if not counts.sum():
        return 0.0
    return float((2 * np.arange(1, items + 1) - items - 1) @ counts / (items * counts.sum()))


def personalization(lists: NDArray[np.int32], items: int) -> float:
    """Mean share of a list that another person's list does not have, over all pairs of people; 0 = all lists are alike.

    Zhou et al. 2008, "Empirical analysis of web-based user-object bipartite networks", EPL (inter-list diversity). Of
    one person alone it is 1: there is nobody to be like.
    """
    people, shown = len(lists), np.count_nonzero(lists >= 0)
    if people < 2 or not shown:
        return 1.0
    counts = np.bincount(lists[lists >= 0], minlength=items).astype(np.float64)
    return float(1 - (counts * (counts - 1)).sum() / (shown * (people - 1)))


def novelty(lists: NDArray[np.int32], popularity: NDArray[np.float64], users: int) -> Floats:
    """Mean self-information −log2(share of the training users who have the item) of a user's list, in bits.

    Zhou et al. 2010, "Solving the apparent diversity-accuracy dilemma of recommender systems", PNAS. An item that
    nobody has counts as if one had it.
    """
    bits = np.log2(users / np.maximum(popularity, 1))
    shown = lists >= 0
    return np.asarray(np.where(shown, bits[lists], 0).sum(1) / np.maximum(shown.sum(1), 1), np.float64)


def interval(values: Floats, seed: int, *, samples: int = 1000, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over users (Efron 1979), by Poisson weights so that it streams.

    Hanley & MacGibbon 2006: resampling n users with replacement ≈ giving each an independent Poisson(1) weight.
    """
    rng = np.random.default_rng(seed)
    means, quantiles = np.empty(samples), _poisson()
    for sample in range(samples):
        weight = quantiles[rng.integers(0, len(quantiles), len(values), np.uint16)]
        means[sample] = (weight @ values) / max(weight.sum(), 1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@functools.cache
def _poisson() -> NDArray[np.float64]:
    """Poisson(1) at each of 2¹⁶ equally likely quantiles: drawing from it costs a twentieth of `Generator.poisson`."""
    cumulated = np.exp(-1) * np.cumsum([1 / math.factorial(events) for events in range(9)])
    return np.searchsorted(cumulated, (np.arange(1 << 16) + 0.5) / (1 << 16)).astype(np.float64)
