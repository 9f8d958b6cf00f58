# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: PLR0917 (a kernel takes arrays, not objects)
"""The canonical text of each record of a chunk and its hashes; the same as `canonical` makes, by columns.

What belongs here: joining fields and hashing. What does not: which fields an event has.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recoflow import xxh64
from recoflow.compiled import compiled
from recoflow.sources.spans import ABSENT, Bytes, words
from recoflow.sources.spanvalues import MISSING, Column
from recoflow.sources.wide import copy_bytes

BLOCK: Final = 2048  # records whose spans of all fields fit into the processor's cache
TEXTS_AT_ONCE: Final = 16  # a text that has just been written byte by byte is slow to read word by word


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
    names = words([f"\x1f{field.name}=" for field in fields])
    sources: list[Bytes] = []
    places = np.full(len(fields), -1, np.int64)  # which array a field's texts lie in, -1 for numbers
    longest = len(names.data) + 21 * len(fields)
    for index, field in enumerate(fields):
        if field.texts is not None:
            data, column = field.texts
            places[index] = next((place for place, source in enumerate(sources) if source is data), len(sources))
            if places[index] == len(sources):
                sources.append(data)
            longest += max(int(column.lengths.max()), 0)
    scratch = np.zeros((longest // 8 + 2) * TEXTS_AT_ONCE, np.uint64)
    first, second, third = (*sources, *[np.zeros(0, np.uint8)] * 3)[:3]
    found = np.empty((count, seeds), np.uint64)
    begins = np.empty((len(fields), min(count, BLOCK)), np.int64)  # of texts; numbers themselves
    lengths = np.empty(begins.shape, np.int32)  # of texts, -1 when absent
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        for index, field in enumerate(fields):
            _fill(field, slice(start, stop), begins[index, : stop - start], lengths[index, : stop - start])
        _hash_records(first, second, third, *names, places, begins, lengths, scratch, found[start:stop])
    return found


def _fill(field: Content, records: slice, begins: NDArray[np.int64], lengths: NDArray[np.int32]) -> None:
    if field.texts is not None:
        column = field.texts[1]
        begins[:] = column.starts[records]
        lengths[:] = np.where(column.kinds[records] != ABSENT, column.lengths[records], -1)
    elif field.numbers is not None:
        begins[:] = field.numbers[records]


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
    size_of_one = len(scratch) // TEXTS_AT_ONCE
    sizes = np.zeros(TEXTS_AT_ONCE, np.int64)
    for block in range(0, len(found), TEXTS_AT_ONCE):
        count = min(TEXTS_AT_ONCE, len(found) - block)
        for index in range(count):
            record = block + index
            begin_of_text = size = index * size_of_one * 8
            for field in range(begins.shape[0]):
                begin, length = begins[field, record], lengths[field, record]
                place = places[field]
                if (begin == MISSING) if place < 0 else (length < 0):
                    continue
                # Every name begins with the separator, which is left out before the first one.
                name = name_starts[field] + (1 if size == begin_of_text else 0)
                size = copy_bytes(name_data, name, name_starts[field + 1] - name, text, size)
                if place < 0:
                    size = write_whole(begin, text, size)
                elif place == 0:
                    size = copy_bytes(first, begin, length, text, size)
                elif place == 1:
                    size = copy_bytes(second, begin, length, text, size)
                else:
                    size = copy_bytes(third, begin, length, text, size)
            sizes[index] = size - begin_of_text
        for index in range(count):
            words64 = scratch[index * size_of_one : (index + 1) * size_of_one]
            for seed in range(found.shape[1]):
                found[block + index, seed] = xxh64.digest(words64, sizes[index], np.uint64(seed))


@compiled
def write_whole(number, text, at):
    """Write the decimal digits of an integer and return the position behind them."""
    if number < 0:
        text[at] = 0x2D
        at += 1
    rest = np.uint64(-number) if number < 0 else np.uint64(number)
    count, limit = 1, np.uint64(10)
    while rest >= limit and count < 19:
        limit *= np.uint64(10)
        count += 1
    end = np.uintp(at + count)
    while rest >= np.uint64(100):
        above = rest // np.uint64(100)
        pair = rest - above * np.uint64(100)
        rest = above
        tens = pair // np.uint64(10)
        text[end - np.uintp(2)] = np.uint8(tens) + 0x30
        text[end - np.uintp(1)] = np.uint8(pair - tens * np.uint64(10)) + 0x30
        end -= np.uintp(2)
    if rest >= np.uint64(10):
        text[end - np.uintp(2)] = np.uint8(rest // np.uint64(10)) + 0x30
    text[end - np.uintp(1)] = np.uint8(rest % np.uint64(10)) + 0x30
    return at + count
