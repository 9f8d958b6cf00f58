"""The scoring core of campaigns: for each user the k best items by inner product, exactly, on all cores.

What belongs here: arrays in, arrays out. What does not: subjects, item ids, configurations, fallback lists (see `answer`).

An answer is defined by exact scores alone: the float64 dot product of a user's and an item's factors, rounded to float32;
larger scores first, equal scores by smaller item index. BLAS scores only screen: block after block of items in the order of
falling length, until norm(user) × norm(next item) (Cauchy–Schwarz) cannot reach the user's k-th score any more. Sources:
LEMP (Teflioudi & Gemulla, TODS 2016) and MAXIMUS (Abuzaid et al., ICDE 2019). Whatever BLAS rounds, how many threads run and how
users are cut into blocks therefore never changes a byte of the answer.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recoflow.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]
    Integers = NDArray[np.int32]
    Longs = NDArray[np.int64]
    Booleans = NDArray[np.bool_]

USERS_PER_BLOCK = 2048
USERS_PER_TILE = 256
ITEMS_PER_BLOCK = 512
REPACK_SHARE = 0.8


@dataclass(frozen=True)
class ItemIndex:
    """Item factors in the order in which they are searched; made once per model by `prepare`.

    Attributes:
        factors: float32 [scored × f], the rows that are not zero, longest first (equal lengths by item index).
        norms: float64 [scored], their lengths.
        order: int32 [scored], the item index of each row.
        position: int32 [items], the row of each item index, -1 where there is none.
        zeros: int32, the allowed items whose factors are zero, ascending: their score is 0 for every user.
    """

    factors: Floats
    norms: Doubles
    order: Integers
    position: Integers
    zeros: Integers

    def restrict(self, mask: Booleans) -> ItemIndex:
        """The index of the items that `mask` [items] allows."""
        rows = np.flatnonzero(mask[self.order])
        order = self.order[rows]
        return ItemIndex(
            factors=self.factors[rows],
            norms=self.norms[rows],
            order=order,
            position=_positions(order, len(self.position)),
            zeros=self.zeros[mask[self.zeros]],
        )


def prepare(item_factors: Floats) -> ItemIndex:
    """Sort item factors [items × f] for `top_k`.

    Raises:
        ModelError: factors that are not a matrix of finite numbers.
    """
    factors, norms = _measure(item_factors, "item factors")
    order = np.argsort(-norms, kind="stable").astype(np.int32)
    zeros = order[norms[order] == 0.0]
    order = order[: len(order) - len(zeros)]
    return ItemIndex(factors[order], norms[order], order, _positions(order, len(factors)), zeros)


def top_k(
    user_factors: Floats,
    item_factors: Floats | ItemIndex,
    k: int,
    *,
    seen_indptr: Longs | None = None,
    seen_indices: Integers | None = None,
    masks: Booleans | None = None,
    mask_of: Integers | None = None,
    threads: int | None = None,
) -> tuple[Integers, Floats]:
    """The k best items of each user, without consumed and filtered items.

    Args:
        user_factors: float32 [n × f]. A row of zeros ties all items: the answer is then the allowed items by index.
        item_factors: float32 [items × f], or the index that `prepare` made of them (to be reused over calls).
        k: the length of the lists.
        seen_indptr: int64 [n + 1], consumed items in CSR form, with `seen_indices`: int32, any order, repeats allowed.
        seen_indices: see `seen_indptr`.
        masks: bool [g × items], allowed items, with `mask_of`: int32 [n], the row of `masks` for each user, -1 for none.
        mask_of: see `masks`.
        threads: how many threads rank; by default one for each core that this process may use.

    Returns:
        Item indices int32 [n × k], padded with -1, and scores float32 [n × k], padded with minus infinity.

    Raises:
        ModelError: factors that are not finite or too large for float32 scores, or shapes that do not fit each other.
    """
    users, norms = _measure(user_factors, "user factors")
    index = item_factors if isinstance(item_factors, ItemIndex) else prepare(item_factors)
    _check_scores(users, norms, index)
    if k < 1:
        raise ModelError("k", f"is {k}", "Ask for lists of at least one item.")
    seen = _seen(seen_indptr, seen_indices, len(users), len(index.position))
    groups = _groups(masks, mask_of, len(users), len(index.position))
    answer = Answer(np.full((len(users), k), -1, np.int32), np.full((len(users), k), -np.inf, np.float32))
    search = Search(users, norms, index, masks, *seen, answer)
    _run(search, groups, threads or len(os.sched_getaffinity(0)))
    return answer.items, answer.scores


@dataclass(frozen=True)
class Answer:
    """What the workers fill in: items int32 and scores float32, both [n × k]."""

    items: Integers
    scores: Floats


@dataclass(frozen=True)
class Search:
    """One call of `top_k`, checked: what all workers share."""

    users: Floats
    norms: Doubles
    index: ItemIndex
    masks: Booleans | None
    seen_indptr: Longs
    seen_indices: Integers
    answer: Answer


def _run(search: Search, groups: list[tuple[int, Longs]], threads: int) -> None:
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - late, like all that only ranking needs

    def work(blocks: Iterator[tuple[int, Longs]]) -> None:
        worker = Worker(search)
        for group, rows in blocks:
            worker.rank(group, rows)

    blocks = iter(
        [
            (group, rows[start : start + USERS_PER_BLOCK])
            for group, rows in groups
            for start in range(0, len(rows), USERS_PER_BLOCK)
        ]
    )
    # Python threads share the blocks (a list's iterator is safe to share), so BLAS must not start threads of its own.
    with threadpool_limits(limits=1, user_api="blas"):
        if threads == 1:
            work(blocks)
            return
        with ThreadPoolExecutor(threads) as pool:
            for future in [pool.submit(work, blocks) for _ in range(threads)]:
                future.result()


class Worker:
    """One thread's buffers, and the search of one block of users after the other."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._k = search.answer.items.shape[1]
        capacity = 4 * self._k + 64
        self._places = np.empty((USERS_PER_BLOCK, capacity), np.int32)
        self._scores = np.empty((USERS_PER_BLOCK, capacity), np.float32)
        self._tile = np.empty(USERS_PER_TILE * ITEMS_PER_BLOCK, np.float32)
        self._group = -1
        self._use(search.index)

    def rank(self, group: int, rows: Longs) -> None:
        """Answer the users `rows`, who all share the mask `group` (-1: no mask)."""
        if group != self._group:
            masks = self._search.masks
            self._use(self._search.index if group < 0 or masks is None else self._search.index.restrict(masks[group]))
            self._group = group
        self._scan(rows)

    def _use(self, index: ItemIndex) -> None:
        self._index = index
        self._everything = np.sort(np.concatenate([index.order, index.zeros]))

    def _scan(self, rows: Longs) -> None:
        from recoflow.campaigns import rank_kernels as kernels  # noqa: PLC0415 - imports numba

        search, index, k = self._search, self._index, self._k
        users, norms = search.users[rows], search.norms[rows]
        longest = float(index.norms[0]) if len(index.norms) else 0.0
        slack = _slack(norms * longest, users.shape[1])
        floor = np.full(len(rows), -np.inf, np.float32)
        counts = np.zeros(len(rows), np.int64)
        blocks = -(-len(index.order) // ITEMS_PER_BLOCK)
        starts, seen_rows, seen_places = kernels.bucket_seen(
            search.seen_indptr, search.seen_indices, rows, index.position, ITEMS_PER_BLOCK, blocks
        )
        active = np.flatnonzero(norms).astype(np.int32)
        packed = users[active]
        for block in range(blocks):
            first = block * ITEMS_PER_BLOCK
            left = kernels.advance(active, norms, index.norms[first], floor)
            if left == 0:
                break
            if left < len(active):
                active = active[:left].copy()
                packed = users[active]
            factors = index.factors[first : first + ITEMS_PER_BLOCK]
            bucket = slice(starts[block], starts[block + 1])
            for start in range(0, left, USERS_PER_TILE):
                some = active[start : start + USERS_PER_TILE]
                tile = self._tile[: len(some) * len(factors)].reshape(len(some), len(factors))
                np.matmul(packed[start : start + USERS_PER_TILE], factors.T, out=tile)
                kernels.exclude(tile, some, first, seen_rows[bucket], seen_places[bucket])
                kernels.collect(
                    tile, some, first, users, index.factors, index.order, index.position, k,
                    slack, floor, counts, self._places, self._scores,
                )  # fmt: skip
        kernels.finish(
            rows, users, norms, index.factors, index.order, index.zeros, self._everything,
            search.seen_indptr, search.seen_indices, k, counts, self._places, self._scores,
            search.answer.items, search.answer.scores,
        )  # fmt: skip


def _slack(products: Doubles, factors: int) -> Floats:
    """How far a screen score may be from the exact one: γ_f norm(user) norm(item), plus roundings (Higham 2002, §3.1)."""
    bound = (factors + 4) * 2.0**-24 * products + factors * 2.0**-149
    return np.nextafter(bound.astype(np.float32), np.float32(np.inf))


def _measure(values: Floats, name: str) -> tuple[Floats, Doubles]:
    """The factors as BLAS wants them, and the lengths of their rows, which are finite only where all values are."""
    factors = np.ascontiguousarray(values, np.float32)
    if factors.ndim != 2:
        raise ModelError(name, f"have {factors.ndim} dimensions", "Pass a matrix with one row of factors each.")
    norms = np.sqrt(np.einsum("ij,ij->i", factors, factors, dtype=np.float64))
    if not np.isfinite(norms).all():
        raise ModelError(name, "hold a value that is not a finite number", "Train the model again.")
    return factors, norms


def _positions(order: Integers, items: int) -> Integers:
    position = np.full(items, -1, np.int32)
    position[order] = np.arange(len(order), dtype=np.int32)
    return position


def _check_scores(users: Floats, norms: Doubles, index: ItemIndex) -> None:
    if users.shape[1] != index.factors.shape[1]:
        problem = f"have {users.shape[1]} columns, the items' have {index.factors.shape[1]}"
        raise ModelError("user factors", problem, "Use both factors of the same model.")
    longest = norms.max(initial=0.0) * index.norms.max(initial=0.0)
    if longest * 2 > np.finfo(np.float32).max:
        raise ModelError("factors", "are too large for scores in float32", "Train the model again.")


def _seen(indptr: Longs | None, indices: Integers | None, users: int, items: int) -> tuple[Longs, Integers]:
    if indptr is None and indices is None:
        return np.zeros(users + 1, np.int64), np.empty(0, np.int32)
    if indptr is None or indices is None:
        raise ModelError(
            "consumed items", "come without their other half", "Pass seen_indptr and seen_indices together."
        )
    indptr, indices = np.ascontiguousarray(indptr, np.int64), np.ascontiguousarray(indices, np.int32)
    is_csr = len(indptr) == users + 1 and indptr[0] >= 0 and indptr[-1] <= len(indices) and (np.diff(indptr) >= 0).all()
    if not is_csr:
        raise ModelError("consumed items", f"are not one CSR row for each of {users} users", "Build the model again.")
    if indices.min(initial=0) < 0 or indices.max(initial=-1) >= items:
        raise ModelError("consumed items", f"name an item outside 0…{items - 1}", "Build the model again.")
    return indptr, indices


def _groups(masks: Booleans | None, mask_of: Integers | None, users: int, items: int) -> list[tuple[int, Longs]]:
    """The users of each mask, ascending: each group is searched in an index of its own."""
    if masks is None and mask_of is None:
        return [(-1, np.arange(users))]
    if masks is None or mask_of is None:
        raise ModelError("masks", "come without their other half", "Pass masks and mask_of together.")
    if masks.shape[1:] != (items,) or len(mask_of) != users:
        raise ModelError("masks", "do not fit the users and items", "Pass masks [g × items] and one row per user.")
    if mask_of.min(initial=0) < -1 or mask_of.max(initial=-1) >= len(masks):
        raise ModelError("masks", f"are numbered outside -1…{len(masks) - 1}", "Pass one row of masks per user.")
    rows = np.argsort(mask_of, kind="stable")
    names, sizes = np.unique(mask_of, return_counts=True)
    ends = np.cumsum(sizes)
    return [(int(name), rows[end - size : end]) for name, size, end in zip(names, sizes, ends, strict=True)]
