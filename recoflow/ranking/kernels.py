"""Compiled loops of the ranking core (see `top_k`): bounds, exclusion and exact selection over blocks of scores.

What belongs here: numba functions over plain arrays, without the GIL. What does not: checks of arguments, threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from recoflow.compute.jit import jit, jit_fastmath
from recoflow.ranking.int16_dot import ROWS, bound
from recoflow.ranking.quantization import PANEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]
    Integers = NDArray[np.int32]
    Longs = NDArray[np.int64]
    Shorts = NDArray[np.uint16]

USERS_PER_TILE = 8 * ROWS
ITEMS_PER_BLOCK = 32 * PANEL
BINS = 64
NO_KEY = np.iinfo(np.int64).max
LOW_BITS = 0xFFFFFFFF
LARGE = np.float32(1e38)
ROUNDING = 2.0**-20


class Items(NamedTuple):
    """What the kernels need of an `item_index.ItemIndex` (same names)."""

    factors: Floats
    order: Integers
    position: Integers
    panels: Integers
    units: Floats


class QueryBounds(NamedTuple):
    """Users as the bounds of their scores need them, and some more of them up to a multiple of ROWS.

    Attributes:
        integers: int32 [users × pairs], see `quantization`.
        units: float32 [users], times an item's unit and a product: a score.
        leeway: float32 [users], how far a score may be from that, beside `margin`.
        floors: float32 [users], the candidates' floors when the present tile was begun.
        margin: `quantization.margin`.
    """

    integers: Integers
    units: Floats
    leeway: Floats
    floors: Floats
    margin: np.float32


class Tile(NamedTuple):
    """What was found of some users and a block of items.

    Attributes:
        bounds: float32 [users × panels × PANEL], what scores are at most.
        hits: uint16 [users × panels], a bit for each bound that reaches the user's floor.
    """

    bounds: Floats
    hits: Shorts


class Candidates(NamedTuple):
    """What is known so far about each user of a block.

    Attributes:
        k: how many are wanted.
        users: float32 [users × f], factors as they were given, for exact scores.
        floor: float32 [users], k candidates' scores reach it, so a smaller one cannot belong to the list.
        counts: int64 [users], how many candidates there are.
        places: int32 [users × capacity], their rows in the index.
        highest: float32 [users × capacity], what their scores are at most.
        lowest: float32 [users × capacity], what their scores are at least.
    """

    k: int
    users: Floats
    floor: Floats
    counts: Longs
    places: Integers
    highest: Floats
    lowest: Floats


@jit
def bucket_seen(
    indptr: Longs, indices: Integers, users: Longs, position: Integers, block: int
) -> tuple[Longs, Integers, Integers]:
    """Sort the consumed items of `users` by block of items, then by user: (starts of blocks, rows of users, places)."""
    starts = np.zeros(len(position) // block + 2, np.int64)
    for user in users:
        for entry in range(indptr[user], indptr[user + 1]):
            place = position[indices[entry]]
            if place >= 0:
                starts[place // block + 1] += 1
    for bucket in range(len(starts) - 1):
        starts[bucket + 1] += starts[bucket]
    filled = starts[:-1].copy()
    rows = np.empty(starts[-1], np.int32)
    places = np.empty(starts[-1], np.int32)
    for row in range(len(users)):
        for entry in range(indptr[users[row]], indptr[users[row] + 1]):
            place = position[indices[entry]]
            if place >= 0:
                bucket = place // block
                rows[filled[bucket]] = row
                places[filled[bucket]] = place
                filled[bucket] += 1
    return starts, rows, places


@jit
def _exclude(tile: Tile, active: Integers, first: int, seen_rows: Integers, seen_places: Integers) -> None:
    """Take the hits of consumed items (sorted by row) out of a tile of `active` users × items from place `first` on."""
    entry = np.searchsorted(seen_rows, active[0])
    for slot in range(len(active)):
        row = active[slot]
        while entry < len(seen_rows) and seen_rows[entry] < row:
            entry += 1
        while entry < len(seen_rows) and seen_rows[entry] == row:
            place = seen_places[entry] - first
            tile.hits[slot, place // PANEL] &= ~(1 << place % PANEL)
            entry += 1


@jit
def keep_reachable(active: Integers, norms: Doubles, leeway: Floats, longest: float, floor: Floats) -> int:
    """Move users who may still find an item no longer than `longest` to the front of `active`: how many they are."""
    kept = 0
    for row in active:
        if norms[row] * longest * (1.0 + ROUNDING) + leeway[row] >= floor[row]:
            active[kept] = row
            kept += 1
    return kept


@jit_fastmath
def _histogram_bar(scores: Floats, k: int) -> float:
    """A value that at least k scores reach, and hardly more than k where their distribution is not too uneven."""
    low = high = scores[0]
    for score in scores:
        low = min(low, score)
        high = max(high, score)
    scale = np.float32(BINS) / (high - low) if high > low else np.float32(0.0)
    if not 0.0 < scale < LARGE:
        return float(low)
    histogram = np.zeros(BINS, np.int32)
    for score in scores:
        histogram[min(int((score - low) * scale), BINS - 1)] += 1
    chosen: int = BINS - 1
    above: int = histogram[chosen]
    while above < k:
        chosen -= 1
        above += histogram[chosen]
    # The bin's lower edge, lowered by more than what rounding may have moved scores across it.
    return float(low) + chosen / float(scale) - ROUNDING * max(abs(float(low)), abs(float(high)))


@jit
def _tighten(candidates: Candidates, row: int, count: int) -> int:
    """Raise the floor as far as k candidates allow and drop what is below it: how many are left."""
    places = candidates.places[row]
    highest = candidates.highest[row]
    lowest = candidates.lowest[row]
    floor = max(candidates.floor[row], np.float32(_histogram_bar(lowest[:count], candidates.k)))
    kept = 0
    for i in range(count):
        places[kept] = places[i]
        highest[kept] = highest[i]
        lowest[kept] = lowest[i]
        kept += highest[i] >= floor
    candidates.floor[row] = floor
    return kept


@jit_fastmath
def _exact_score(user: Floats, item: Floats) -> np.float32:
    """The dot product in float64, rounded to float32; never minus zero."""
    total = 0.0
    for i in range(len(user)):
        total += np.float64(user[i]) * np.float64(item[i])
    score = np.float32(total)
    return score if score != 0.0 else np.float32(0.0)


@jit
def _key(score: np.float32, item: int) -> int:
    """A number that sorts as answers do: larger scores first, equal scores by smaller item index."""
    bits = np.int64(np.float32(score).view(np.int32))
    ascending = bits if bits >= 0 else bits ^ 0x7FFFFFFF
    return int((~ascending << 32) | item)


@jit
def _score(key: int) -> np.float32:
    ascending = ~(key >> 32)
    score: np.float32 = np.int32(ascending if ascending >= 0 else ascending ^ 0x7FFFFFFF).view(np.float32)
    return score


@jit
def _settle(items: Items, candidates: Candidates, row: int, count: int) -> int:
    """Keep the exact best k, where there are more candidates than bounds can tell apart: k."""
    k = candidates.k
    keys = np.empty(count, np.int64)
    for i in range(count):
        item = items.order[candidates.places[row, i]]
        keys[i] = _key(_exact_score(candidates.users[row], items.factors[item]), item)
    keys.sort()
    for i in range(k):
        candidates.places[row, i] = items.position[keys[i] & LOW_BITS]
        candidates.highest[row, i] = candidates.lowest[row, i] = _score(keys[i])
    candidates.floor[row] = max(candidates.floor[row], _score(keys[k - 1]))
    return k


@jit
def _make_room(items: Items, candidates: Candidates, row: int, count: int) -> int:
    """Drop candidates until one more panel of them finds room: how many are left."""
    count = _tighten(candidates, row, count)
    if count + PANEL > candidates.places.shape[1]:
        count = _settle(items, candidates, row, count)
    return count


@jit
def _collect(  # noqa: PLR0917 - compiled kernels take no names
    tile: Tile, active: Integers, queries: QueryBounds, start: int, first: int, items: Items, candidates: Candidates
) -> None:
    """Add what reaches the floor, in the tile of the users `active` and the items from place `first` on."""
    places, highest, lowest = candidates.places, candidates.highest, candidates.lowest
    for slot in range(len(active)):
        row = active[slot]
        floor = candidates.floor[row]
        before = count = candidates.counts[row]
        leeway, gap = 2 * queries.leeway[start + slot], 2 * queries.margin * queries.units[start + slot]
        for panel in range(min(tile.hits.shape[1], len(items.panels) - first // PANEL)):
            hits = tile.hits[slot, panel]
            if hits == 0:
                continue
            if count + PANEL > places.shape[1]:
                count = _make_room(items, candidates, row, count)
                floor = candidates.floor[row]
            for i in range(PANEL):
                if hits >> i & 1 and tile.bounds[slot, panel, i] >= floor:
                    place = first + panel * PANEL + i
                    places[row, count] = place
                    highest[row, count] = tile.bounds[slot, panel, i]
                    lowest[row, count] = highest[row, count] - gap * items.units[place] - leeway
                    count += 1
        if count > before and count > candidates.k + candidates.k // 2 + 4:
            count = _tighten(candidates, row, count)
        candidates.counts[row] = count


@jit
def scan(  # noqa: PLR0917 - compiled kernels take no names
    queries: QueryBounds,
    active: Integers,
    first: int,
    items: Items,
    seen_rows: Integers,
    seen_places: Integers,
    tile: Tile,
    candidates: Candidates,
) -> None:
    """Add what a block of items, from place `first` on, has for the users `active`, whose queries these are.

    What is in `tile` is lost.
    """
    for start in range(0, len(active), USERS_PER_TILE):
        some = active[start : start + USERS_PER_TILE]
        for slot in range(len(some)):
            queries.floors[start + slot] = candidates.floor[some[slot]]
        for panel in range(min(tile.hits.shape[1], len(items.panels) - first // PANEL)):
            for slot in range(0, len(some), ROWS):
                bound(queries, start + slot, items, first // PANEL + panel, tile, slot, panel)
        _exclude(tile, some, first, seen_rows, seen_places)
        _collect(tile, some, queries, start, first, items, candidates)


@jit
def write_keys(items: Items, candidates: Candidates, keys: Longs) -> None:
    """Write the exact score and item index of each candidate as sortable numbers into `keys` [users × width]."""
    for row in range(len(keys)):
        for i in range(candidates.counts[row]):
            item = items.order[candidates.places[row, i]]
            keys[row, i] = _key(_exact_score(candidates.users[row], items.factors[item]), item)


@jit
def write_zero_keys(unscored: Integers, seen: Integers, keys: Longs) -> None:
    """Write the first of the ascending items `unscored`, whose score is 0 and which are not consumed, into `keys`."""
    consumed = np.sort(seen)
    entry = 0
    filled = 0
    for item in unscored:
        if filled == len(keys):
            return
        while entry < len(consumed) and consumed[entry] < item:
            entry += 1
        if entry == len(consumed) or consumed[entry] != item:
            keys[filled] = _key(np.float32(0.0), item)
            filled += 1


@jit
def read_keys(keys: Longs, rows: Longs, items: Integers, scores: Floats) -> None:
    """Turn sorted keys [users × width] into the rows `rows` of items and scores [all users × k]."""
    for row in range(len(rows)):
        for rank in range(min(items.shape[1], keys.shape[1])):
            key = keys[row, rank]
            if key == NO_KEY:
                break
            items[rows[row], rank] = key & LOW_BITS
            scores[rows[row], rank] = _score(key)
