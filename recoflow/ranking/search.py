"""The search of the ranking core (see `top_k`): blocks of users over blocks of items, on several threads.

What belongs here: the order of the work and its buffers. What does not: checks of arguments, loops over single scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recoflow.compute.thread_pool import thread_pool
from recoflow.ranking import kernels, quantization
from recoflow.ranking.int16_dot import ROWS
from recoflow.ranking.quantization import PANEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recoflow.ranking.item_index import ItemIndex

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]
    Integers = NDArray[np.int32]
    Longs = NDArray[np.int64]
    Booleans = NDArray[np.bool_]

USERS_PER_BLOCK = 2048
CANDIDATES_PER_BLOCK = 4_000_000


@dataclass(frozen=True)
class Search:
    """One call of `top_k.top_k`, checked; the workers fill in `items` and `scores` [users × k]."""

    users: Floats
    lengths: Doubles
    index: ItemIndex
    seen_indptr: Longs
    seen_indices: Integers
    masks: Booleans
    items: Integers
    scores: Floats


def search_top_k(search: Search, groups: list[tuple[int, Longs]], threads: int) -> None:
    """Answer all users: `groups` are pairs of a row of masks (-1 for none) and the users that it filters."""

    capacity = 4 * search.items.shape[1] + 8 * PANEL
    fair = -(-len(search.items) // threads)
    size = max(1, min(USERS_PER_BLOCK, CANDIDATES_PER_BLOCK // capacity, fair))

    def work() -> None:
        worker = _Worker(search, size, capacity)
        for mask, rows in blocks:
            worker.rank(mask, rows)

    shares = [(mask, rows[start : start + size]) for mask, rows in groups for start in range(0, len(rows), size)]
    blocks = iter(shares)  # of a list, which threads may share
    used = max(1, min(threads, len(shares)))
    with thread_pool(used) as pool:
        for future in [pool.submit(work) for _ in range(used)]:
            future.result()


class _Worker:
    """One thread's buffers and, because blocks come sorted by mask, the index of the last mask."""

    def __init__(self, search: Search, size: int, capacity: int) -> None:
        self._search = search
        self._k = search.items.shape[1]
        self._places = np.empty((size, capacity), np.int32)
        self._highest = np.empty((size, capacity), np.float32)
        self._lowest = np.empty((size, capacity), np.float32)
        panels = kernels.USERS_PER_TILE, kernels.ITEMS_PER_BLOCK // PANEL
        self._tile = kernels.Tile(np.empty((*panels, PANEL), np.float32), np.empty(panels, np.uint16))
        self._mask = -1
        self._index = search.index

    def rank(self, mask: int, rows: Longs) -> None:
        """Answer the users `rows`, at most one block, whom the same mask filters."""
        if mask != self._mask:
            self._index = self._search.index.restrict(self._search.masks[mask])
            self._mask = mask
        index = self._index
        items = kernels.Items(index.factors, index.order, index.position, index.panels, index.units)
        users = self._search.users[rows]
        candidates = kernels.Candidates(
            k=self._k,
            users=users,
            floor=np.full(len(rows), -np.inf, np.float32),
            counts=np.zeros(len(rows), np.int64),
            places=self._places,
            highest=self._highest,
            lowest=self._lowest,
        )
        self._scan(rows, users @ index.to_balanced, items, candidates)
        self._answer(rows, items, candidates)

    def _scan(self, rows: Longs, users: Doubles, items: kernels.Items, candidates: kernels.Candidates) -> None:
        """Find all candidates of the block; users leave it as soon as no item that is left can reach their floor."""
        norms = np.sqrt(np.einsum("ij,ij->i", users, users))
        units = self._index.user_units(norms)
        leeway = self._index.leeway(self._search.lengths[rows], units)
        starts, seen_rows, seen_places = kernels.bucket_seen(
            self._search.seen_indptr, self._search.seen_indices, rows, items.position, kernels.ITEMS_PER_BLOCK
        )
        everybody = kernels.QueryBounds(
            quantization.integers(users, norms),
            units,
            leeway,
            candidates.floor,
            np.float32(quantization.margin(users.shape[1])),
        )
        active = np.flatnonzero(norms).astype(np.int32)
        queries = _of(everybody, active)
        for block, first in enumerate(range(0, len(items.order), kernels.ITEMS_PER_BLOCK)):
            left = kernels.keep_reachable(active, norms, leeway, self._index.norms[first], candidates.floor)
            if left == 0:
                return
            if left < len(active):
                active = active[:left].copy()
                queries = _of(everybody, active)
            seen = slice(starts[block], starts[block + 1])
            kernels.scan(queries, active, first, items, seen_rows[seen], seen_places[seen], self._tile, candidates)

    def _answer(self, rows: Longs, items: kernels.Items, candidates: kernels.Candidates) -> None:
        """Sort the candidates by exact score; items with a score of zero by nature join where they may belong."""
        width = int(candidates.counts.max(initial=0))
        reached_by_zero = np.flatnonzero(candidates.floor <= 0.0)
        keys = np.full((len(rows), width + self._k * bool(len(reached_by_zero))), kernels.NO_KEY)
        kernels.write_keys(items, candidates, keys)
        for row in reached_by_zero:
            is_known = self._search.lengths[rows[row]] > 0.0
            seen = slice(*self._search.seen_indptr[rows[row] : rows[row] + 2])
            unscored = self._index.zeros if is_known else self._index.allowed
            kernels.write_zero_keys(unscored, self._search.seen_indices[seen], keys[row, width:])
        keys.sort(axis=1)
        kernels.read_keys(keys, rows, self._search.items, self._search.scores)


def _of(queries: kernels.QueryBounds, rows: Integers) -> kernels.QueryBounds:
    """Those of `rows`, some repeated at the end, so that products have whole groups of rows."""
    padded = np.resize(rows, -(-len(rows) // ROWS) * ROWS)
    return queries._replace(
        integers=queries.integers[padded],
        units=queries.units[padded],
        leeway=queries.leeway[padded],
        floors=queries.floors[padded],
    )
