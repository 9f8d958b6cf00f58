"""Compiled loops of the ranking core (see `rank`): exclusion, screening and exact selection over blocks of scores.

What belongs here: numba functions over plain arrays, without the GIL. What does not: checks of arguments, threads, BLAS.

Every user of a block owns one row of a candidate buffer. A *screen score* is a float32 score of BLAS, off by at most the
user's `slack`; an *exact score* is the float64 dot product rounded to float32, which alone decides the answer. `floor` is
the user's bar: a screen score below it cannot belong to the list any more.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

BINS = 64
CHUNK = 32


def _ensure_cache_folder() -> bool:
    """Give numba a private folder for compiled code where neither the package nor the home can be written.

    Numba unpickles what it finds there, so a folder that another account could have made is never used.
    """
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where there is none
    if numba.config.CACHE_DIR or any(os.access(folder, os.W_OK) for folder in (Path(__file__).parent, home)):
        return True
    folder = Path(tempfile.gettempdir()) / f"recoflow-numba-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        return False
    numba.config.CACHE_DIR = str(folder)
    return True


_compiled: Callable[..., Any] = numba.njit(cache=_ensure_cache_folder(), nogil=True)


@_compiled
def bucket_seen(indptr, indices, users, position, block, blocks):  # type: ignore[no-untyped-def]
    """Sort the consumed items of `users` by block of items, then by user: (starts [blocks + 1], rows, positions)."""
    starts = np.zeros(blocks + 1, np.int64)
    for user in users:
        for entry in range(indptr[user], indptr[user + 1]):
            place = position[indices[entry]]
            if place >= 0:
                starts[place // block + 1] += 1
    for bucket in range(blocks):
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


@_compiled
def exclude(scores, active, first, seen_rows, seen_places):  # type: ignore[no-untyped-def]
    """Set the scores [active × items from position `first`] of consumed items (sorted by row) to minus infinity."""
    entry = np.searchsorted(seen_rows, active[0])
    for slot in range(len(active)):
        row = active[slot]
        while entry < len(seen_rows) and seen_rows[entry] < row:
            entry += 1
        while entry < len(seen_rows) and seen_rows[entry] == row:
            scores[slot, seen_places[entry] - first] = -np.inf
            entry += 1


@_compiled
def _bar(scores, count, k):  # type: ignore[no-untyped-def]
    """A value that at least k of the first `count` scores reach, and few more than k: histograms, zoomed in twice."""
    low = scores[0]
    high = scores[0]
    for i in range(count):
        low = min(low, scores[i])
        high = max(high, scores[i])
    histogram = np.empty(BINS, np.int32)
    above = 0
    for _ in range(3):
        width = (high - low) / np.float32(BINS)
        if not width > 0.0:
            break
        scale = np.float32(1.0) / width
        if not np.isfinite(scale):
            break
        histogram[:] = 0
        for i in range(count):
            score = scores[i]
            if low <= score <= high:
                histogram[min(int((score - low) * scale), BINS - 1)] += 1
        chosen = BINS - 1
        while above + histogram[chosen] < k:
            above += histogram[chosen]
            chosen -= 1
        # The bin's edge is not trusted to rounding: the bar is the smallest score that fell into the bin.
        bottom = high
        top = low
        for i in range(count):
            score = scores[i]
            if low <= score <= high and min(int((score - low) * scale), BINS - 1) == chosen:
                bottom = min(bottom, score)
                top = max(top, score)
        low = bottom
        high = top
        if above + histogram[chosen] <= k + k // 4 + 4:
            break
    return low


@_compiled
def _dot(left, right):  # type: ignore[no-untyped-def]
    """The dot product in float64, always summed in the same order: the exact score before rounding."""
    first = 0.0
    second = 0.0
    third = 0.0
    fourth = 0.0
    whole = len(left) // 4 * 4
    for i in range(0, whole, 4):
        first += np.float64(left[i]) * np.float64(right[i])
        second += np.float64(left[i + 1]) * np.float64(right[i + 1])
        third += np.float64(left[i + 2]) * np.float64(right[i + 2])
        fourth += np.float64(left[i + 3]) * np.float64(right[i + 3])
    for i in range(whole, len(left)):
        first += np.float64(left[i]) * np.float64(right[i])
    return (first + second) + (third + fourth)


@_compiled
def _is_before(score, item, other_score, other_item):  # type: ignore[no-untyped-def]
    """The order of every answer: larger score first, then smaller item index."""
    return score > other_score or (score == other_score and item < other_item)


@_compiled
def _sort(items, scores, count):  # type: ignore[no-untyped-def]
    """Sort the first `count` pairs in the order of the answer (heap sort: in place, no worst case)."""
    for start in range(count // 2 - 1, -1, -1):
        _sift(items, scores, start, count)
    for end in range(count - 1, 0, -1):
        items[0], items[end] = items[end], items[0]
        scores[0], scores[end] = scores[end], scores[0]
        _sift(items, scores, 0, end)


@_compiled
def _sift(items, scores, start, count):  # type: ignore[no-untyped-def]
    root = start
    while 2 * root + 1 < count:
        child = 2 * root + 1
        if child + 1 < count and _is_before(scores[child], items[child], scores[child + 1], items[child + 1]):
            child += 1
        if not _is_before(scores[root], items[root], scores[child], items[child]):
            return
        items[root], items[child] = items[child], items[root]
        scores[root], scores[child] = scores[child], scores[root]
        root = child


@_compiled
def _rescore(user, factors, order, places, scores, count, items, exact):  # type: ignore[no-untyped-def]
    """Exact scores and item indices of the first `count` candidates, sorted in the order of the answer."""
    for i in range(count):
        items[i] = order[places[i]]
        exact[i] = np.float32(_dot(user, factors[places[i]])) + np.float32(0.0)
    _sort(items, exact, count)


@_compiled
def _tighten(places, scores, count, k, floor, slack):  # type: ignore[no-untyped-def]
    """Raise the floor as far as k candidates allow and drop what is below it: (candidates left, floor)."""
    floor = max(floor, _bar(scores, count, k) - np.float32(2.0) * slack)
    kept = 0
    for i in range(count):
        if scores[i] >= floor:
            places[kept] = places[i]
            scores[kept] = scores[i]
            kept += 1
    return kept, floor


@_compiled
def _settle(user, factors, order, position, places, scores, count, k, slack):  # type: ignore[no-untyped-def]
    """Keep the exact best k where ties leave too many candidates for screen scores to tell apart: the new floor."""
    items = np.empty(count, np.int32)
    exact = np.empty(count, np.float32)
    _rescore(user, factors, order, places, scores, count, items, exact)
    for i in range(k):
        places[i] = position[items[i]]
        scores[i] = exact[i]
    return exact[k - 1] - slack


@_compiled
def collect(  # type: ignore[no-untyped-def]
    scores, active, first, users, factors, order, position, k, slack, floor, counts, places, kept_scores
):
    """Add to each active user's candidates what reaches the floor among scores [active × items from `first`]."""
    capacity = places.shape[1]
    width = scores.shape[1]
    for slot in range(len(active)):
        row = active[slot]
        line = scores[slot]
        bar = floor[row]
        count = counts[row]
        before = count
        for start in range(0, width, CHUNK):
            end = min(start + CHUNK, width)
            hits = 0
            for i in range(start, end):
                hits += line[i] >= bar
            if hits == 0:
                continue
            if count + CHUNK > capacity:
                count, bar = _tighten(places[row], kept_scores[row], count, k, bar, slack[row])
                if count + CHUNK > capacity:
                    bar = max(
                        bar,
                        _settle(
                            users[row], factors, order, position, places[row], kept_scores[row], count, k, slack[row]
                        ),
                    )
                    count = k
            for i in range(start, end):
                if line[i] >= bar and line[i] > -np.inf:
                    places[row, count] = first + i
                    kept_scores[row, count] = line[i]
                    count += 1
        if count > before and count > k + k // 4 + 4:
            count, bar = _tighten(places[row], kept_scores[row], count, k, bar, slack[row])
        floor[row] = bar
        counts[row] = count


@_compiled
def advance(active, norms, longest, floor):  # type: ignore[no-untyped-def]
    """Move the users that items no longer than `longest` can still reach to the front of `active`: how many."""
    left = 0
    for row in active:
        if norms[row] * longest >= floor[row]:
            active[left] = row
            left += 1
    return left


@_compiled
def _add_unscored(items, scores, count, k, unscored, seen):  # type: ignore[no-untyped-def]
    """Merge items whose score is zero by nature (ascending index) into a sorted answer: how many there are then."""
    consumed = np.sort(seen)
    entry = 0
    added = 0
    for item in unscored:
        while entry < len(consumed) and consumed[entry] < item:
            entry += 1
        if entry < len(consumed) and consumed[entry] == item:
            continue
        if added == k:
            break
        items[count + added] = item
        scores[count + added] = 0.0
        added += 1
    _sort(items, scores, count + added)
    return min(count + added, k)


@_compiled
def finish(  # type: ignore[no-untyped-def]
    rows,
    users,
    norms,
    factors,
    order,
    zeros,
    everything,
    indptr,
    indices,
    k,
    counts,
    places,
    kept_scores,
    items,
    scores,
):
    """Write the exact, sorted answers of the block's users to rows `rows` of items and scores [n × k]."""
    room = max(places.shape[1], k) + k
    answer = np.empty(room, np.int32)
    exact = np.empty(room, np.float32)
    for row in range(len(rows)):
        count = counts[row]
        target = rows[row]
        _rescore(users[row], factors, order, places[row], kept_scores[row], count, answer, exact)
        count = min(count, k)
        if count < k or exact[count - 1] <= 0.0:
            unscored = everything if norms[row] == 0.0 else zeros
            count = _add_unscored(answer, exact, count, k, unscored, indices[indptr[target] : indptr[target + 1]])
        items[target, :count] = answer[:count]
        scores[target, :count] = exact[:count]
