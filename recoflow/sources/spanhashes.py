# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: PLR0917 (a kernel takes arrays, not objects)
"""The canonical text of each record of a chunk and its hashes; the same as `canonical` makes, by columns.

What belongs here: joining fields and hashing. What does not: which fields an event has.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recoflow import xxh64
from recoflow.compiled import compiled
from recoflow.sources.spans import ABSENT, Bytes, words
from recoflow.sources.spanvalues import MISSING, Column
from recoflow.sources.wide import copy_bytes


class Content(NamedTuple):
    """One field of the canonical text: its name and either texts with the bytes they lie in, or whole numbers."""

    name: str
    texts: tuple[Bytes, Column] | None
    numbers: NDArray[np.int64] | None  # MISSING where absent


def hashes(fields: list[Content], count: int, *, seeds: int = 2) -> NDArray[np.uint64]:
    """XXH64 with the seeds from 0 on, [records × seeds], of the canonical text of each record; see `canonical`.

    All texts must lie in three arrays of bytes at most.
    """
    fields = [field for field in fields if _is_present(field)]
    names = words([f"{field.name}=" for field in fields])
    sources: list[Bytes] = []
    places = np.full(len(fields), -1, np.int64)  # which array a field's texts lie in, -1 for numbers
    begins = np.empty((len(fields), count), np.int64)  # of texts; numbers themselves
    lengths = np.full((len(fields), count), -1, np.int32)  # of texts, -1 when absent
    for index, (_, texts, numbers_) in enumerate(fields):
        if texts is not None:
            data, column = texts
            places[index] = next((place for place, source in enumerate(sources) if source is data), len(sources))
            if places[index] == len(sources):
                sources.append(data)
            begins[index] = column.starts
            np.copyto(lengths[index], column.lengths, where=column.kinds != ABSENT)
        elif numbers_ is not None:
            begins[index] = numbers_
    longest = int(lengths.max(axis=1, initial=0).sum()) + len(names.data) + 21 * len(fields)
    scratch = np.zeros(longest // 8 + 2, np.uint64)
    first, second, third = (*sources, *[np.zeros(0, np.uint8)] * 3)[:3]
    found = np.empty((count, seeds), np.uint64)
    _hash_records(first, second, third, *names, places, begins, lengths, scratch, found)
    return found


def _is_present(field: Content) -> bool:
    if field.texts is not None:
        return bool(field.texts[1].kinds.any())
    return field.numbers is not None and bool((field.numbers != MISSING).any())


def double_bits(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bits of doubles, MISSING for NaN."""
    return np.where(np.isnan(values), MISSING, (values + 0.0).view(np.int64))


def whole(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole doubles as integers, MISSING for NaN."""
    return np.where(np.isnan(values), MISSING, np.nan_to_num(values, posinf=0, neginf=0).astype(np.int64))


@compiled
def _hash_records(first, second, third, name_data, name_starts, places, begins, lengths, scratch, found):
    text = scratch.view(np.uint8)
    for record in range(begins.shape[1]):
        size = np.int64(0)
        for field in range(begins.shape[0]):
            begin, length = begins[field, record], lengths[field, record]
            place = places[field]
            if (begin == MISSING) if place < 0 else (length < 0):
                continue
            if size > 0:
                text[size] = 0x1F
                size += 1
            size = copy_bytes(name_data, name_starts[field], name_starts[field + 1] - name_starts[field], text, size)
            if place < 0:
                size = write_whole(begin, text, size)
            elif place == 0:
                size = copy_bytes(first, begin, length, text, size)
            else:
                size = copy_bytes(second if place == 1 else third, begin, length, text, size)
        for seed in range(found.shape[1]):
            found[record, seed] = xxh64.digest(scratch, size, np.uint64(seed))


@compiled
def write_whole(number, text, at):
    """Write the decimal digits of an integer and return the position behind them."""
    if number < 0:
        text[at] = 0x2D
        at += 1
    rest = np.uint64(-number) if number < 0 else np.uint64(number)
    count = 1
    above = rest // np.uint64(10)
    while above > np.uint64(0):
        above //= np.uint64(10)
        count += 1
    for index in range(count):
        text[at + count - 1 - index] = np.uint8(rest % np.uint64(10)) + 0x30
        rest //= np.uint64(10)
    return at + count
