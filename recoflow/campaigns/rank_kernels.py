"""Compiled loops of the ranking core (see `rank`): exclusion, screening and exact selection over blocks of scores.

What belongs here: numba functions over plain arrays, without the GIL. What does not: checks of arguments, threads,
BLAS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from recoflow.compiled import compiled, compiled_loosely

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]
    Integers = NDArray[np.int32]
    Longs = NDArray[np.int64]

BINS = 64
CHUNK = 64
NO_KEY = np.iinfo(np.int64).max
LOW_BITS = 0xFFFFFFFF
LARGE = np.float32(1e38)
ROUNDING = 2.0**-20


class Items(NamedTuple):
    """What the kernels need of a `rank_index.ItemIndex` (same names)."""

    factors: Floats
    order: Integers
    position: Integers


class Candidates(NamedTuple):
    """What is known so far about each user of a block.

    Attributes:
        k: how many are wanted.
        users: float32 [users × f], factors as they were given, for exact scores.
        slack: float32 [users], how far a screen score may be from the exact one.
        floor: float32 [users], a screen score below it cannot belong to the list any more.
        counts: int64 [users], how many candidates there are.
        places: int32 [users × capacity], their rows in the index.
        scores: float32 [users × capacity], their screen scores.
    """

    k: int
    users: Floats
    slack: Floats
    floor: Floats
    counts: Longs
    places: Integers
    scores: Floats


@compiled
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


@compiled
def exclude(scores: Floats, active: Integers, first: int, seen_rows: Integers, seen_places: Integers) -> None:
    """Set the scores [active × items from place `first`] of consumed items (sorted by row) to minus infinity."""
    entry = np.searchsorted(seen_rows, active[0])
    for slot in range(len(active)):
        row = active[slot]
        while entry < len(seen_rows) and seen_rows[entry] < row:
            entry += 1
        while entry < len(seen_rows) and seen_rows[entry] == row:
            scores[slot, seen_places[entry] - first] = -np.inf
            entry += 1


@compiled
def keep_reachable(active: Integers, norms: Doubles, longest: float, floor: Floats) -> int:
    """Move users who may still find an item no longer than `longest` to the front of `active`: how many they are."""
    kept = 0
    for row in active:
        if norms[row] * longest >= floor[row]:
            active[kept] = row
            kept += 1
    return kept


@compiled_loosely
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


@compiled
def _tighten(candidates: Candidates, row: int, count: int) -> int:
    """Raise the floor as far as k candidates allow and drop what is below it: how many are left."""
    places = candidates.places[row]
    scores = candidates.scores[row]
    bar = _histogram_bar(scores[:count], candidates.k) - 2.0 * candidates.slack[row]
    floor = max(candidates.floor[row], np.float32(bar))
    kept = 0
    for i in range(count):
        places[kept] = places[i]
        scores[kept] = scores[i]
        kept += scores[i] >= floor
    candidates.floor[row] = floor
    return kept


@compiled_loosely
def _exact_score(user: Floats, item: Floats) -> np.float32:
    """The dot product in float64, rounded to float32; never minus zero."""
    total = 0.0
    for i in range(len(user)):
        total += np.float64(user[i]) * np.float64(item[i])
    score = np.float32(total)
    return score if score != 0.0 else np.float32(0.0)


@compiled
def _key(score: np.float32, item: int) -> int:
    """A number that sorts as answers do: larger scores first, equal scores by smaller item index."""
    bits = np.int64(np.float32(score).view(np.int32))
    ascending = bits if bits >= 0 else bits ^ 0x7FFFFFFF
    return int((~ascending << 32) | item)


@compiled
def _score(key: int) -> np.float32:
    ascending = ~(key >> 32)
    score: np.float32 = np.int32(ascending if ascending >= 0 else ascending ^ 0x7FFFFFFF).view(np.float32)
    return score


@compiled
def _settle(items: Items, candidates: Candidates, row: int, count: int) -> int:
    """Keep the exact best k, where ties leave too many candidates for screen scores to tell apart: k."""
    k = candidates.k
    keys = np.empty(count, np.int64)
    for i in range(count):
        item = items.order[candidates.places[row, i]]
        keys[i] = _key(_exact_score(candidates.users[row], items.factors[item]), item)
    keys.sort()
    for i in range(k):
        candidates.places[row, i] = items.position[keys[i] & LOW_BITS]
        candidates.scores[row, i] = _score(keys[i])
    candidates.floor[row] = max(candidates.floor[row], _score(keys[k - 1]) - candidates.slack[row])
    return k


@compiled
def _make_room(items: Items, candidates: Candidates, row: int, count: int) -> int:
    """Drop candidates until one more chunk of them finds room: how many are left."""
    count = _tighten(candidates, row, count)
    if count + CHUNK > candidates.places.shape[1]:
        count = _settle(items, candidates, row, count)
    return count


@compiled
def collect(scores: Floats, active: Integers, first: int, items: Items, candidates: Candidates) -> None:
    """Add what reaches the floor, among screen scores [active × items from place `first`], to the candidates."""
    places, kept_scores = candidates.places, candidates.scores
    for slot in range(len(active)):
        row = active[slot]
        line = scores[slot]
        floor = candidates.floor[row]
        before = count = candidates.counts[row]
        for start in range(0, len(line), CHUNK):
            end = min(start + CHUNK, len(line))
            hits = np.int32(0)
            for i in range(start, end):
                hits += np.int32(line[i] >= floor)
            if hits == 0:
                continue
            if count + CHUNK > places.shape[1]:
                count = _make_room(items, candidates, row, count)
                floor = candidates.floor[row]
            for i in range(start, end):
                if line[i] >= floor and line[i] > -np.inf:
                    places[row, count] = first + i
                    kept_scores[row, count] = line[i]
                    count += 1
        if count > before and count > candidates.k + candidates.k // 2 + 4:
            count = _tighten(candidates, row, count)
        candidates.counts[row] = count


@compiled
def write_keys(items: Items, candidates: Candidates, keys: Longs) -> None:
    """Write the exact score and item index of each candidate as sortable numbers into `keys` [users × width]."""
    for row in range(len(keys)):
        for i in range(candidates.counts[row]):
            item = items.order[candidates.places[row, i]]
            keys[row, i] = _key(_exact_score(candidates.users[row], items.factors[item]), item)


@compiled
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


@compiled
def read_keys(keys: Longs, rows: Longs, items: Integers, scores: Floats) -> None:
    """Turn sorted keys [users × width] into the rows `rows` of items and scores [all users × k]."""
    for row in range(len(rows)):
        for rank in range(min(items.shape[1], keys.shape[1])):
            key = keys[row, rank]
            if key == NO_KEY:
                break
            items[rows[row], rank] = key & LOW_BITS
            scores[rows[row], rank] = _score(key)
