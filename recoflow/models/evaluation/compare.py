"""Two bundles side by side: how alike the lists are that they give to the same people.

What belongs here: differences between bundles that are there. What does not: which of them is better, which only a
hold-out tells (see `evaluate`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recoflow.models.algorithms.matrix import Matrix
from recoflow.models.evaluation import evaluate
from recoflow.models.store.bundle import Bundle

K: Final = 10
USERS: Final = 1000


@dataclass(frozen=True)
class Overlap:
    """How alike two bundles' lists are.

    Attributes:
        users: how many people of both bundles were looked at.
        k: length of the lists.
        shared: mean share of a list's items that the other bundle's list has too, in any order.
        same_first: share of the people whose first item is the same.
        items: how many different items the lists of the first and of the second bundle hold.
    """

    users: int
    k: int
    shared: float
    same_first: float
    items: tuple[int, int]


@dataclass(frozen=True)
class _Aligned:
    """A bundle's scores for `people`, in the columns of `every`; −∞ for what it may not recommend."""

    bundle: Bundle
    people: NDArray[np.str_]
    every: NDArray[np.str_]

    def score(self, rows: NDArray[np.int64]) -> Matrix:
        items = self.bundle.items
        allowed = (items["is_enabled"] & items["is_available"]).to_numpy()
        scores = self.bundle.scorer.score(np.searchsorted(self.bundle.subjects, self.people[rows]))
        aligned = np.full((len(rows), len(self.every)), -np.inf, np.float32)
        aligned[:, np.searchsorted(self.every, _ids(self.bundle)[allowed])] = scores[:, allowed]
        return aligned


def overlap(first: Bundle, second: Bundle, seed: int, *, users: int = USERS, k: int = K) -> Overlap:
    """Compare the best `k` items for a sample of the people whom both bundles know.

    What either bundle has seen of a person is in neither list.

    Args:
        first: any bundle.
        second: a bundle of the same environment.
        seed: of the sample.
        users: size of the sample, less when fewer are known to both.
        k: length of the lists.
    """
    people = np.intersect1d(first.subjects, second.subjects)
    if len(people) > users:
        people = np.sort(np.random.default_rng(seed).choice(people, users, replace=False))
    every = np.union1d(_ids(first), _ids(second))
    seen = _seen(first, people, every).maximum(_seen(second, people, every))
    places = np.arange(len(people))
    ours, theirs = (evaluate.top_lists(_Aligned(each, people, every), seen, places, k) for each in (first, second))
    if not len(people):
        return Overlap(0, k, 0.0, 0.0, (0, 0))
    both = (ours[:, :, None] == theirs[:, None, :]) & (ours >= 0)[:, :, None]
    length = np.maximum((ours >= 0).sum(1), (theirs >= 0).sum(1))
    shared = both.any(2).sum(1) / np.maximum(length, 1)
    items = tuple(len(np.unique(lists[lists >= 0])) for lists in (ours, theirs))
    return Overlap(
        len(people), k, float(shared.mean()), float((ours[:, 0] == theirs[:, 0]).mean()), (items[0], items[1])
    )


def _ids(bundle: Bundle) -> NDArray[np.str_]:
    return np.array(bundle.items["item_id"].to_list())


def _seen(bundle: Bundle, people: NDArray[np.str_], every: NDArray[np.str_]) -> sparse.csr_matrix:
    """What the bundle has seen of `people`, bool [people × every item]."""
    shape = (len(bundle.subjects), bundle.items.height)
    ones = np.ones(len(bundle.seen_indices), np.bool_)
    seen = sparse.csr_matrix((ones, bundle.seen_indices, bundle.seen_indptr), shape=shape)
    rows = seen[np.searchsorted(bundle.subjects, people)]
    columns = np.searchsorted(every, _ids(bundle))[rows.indices]
    return sparse.csr_matrix((rows.data, columns, rows.indptr), shape=(len(people), len(every)))
