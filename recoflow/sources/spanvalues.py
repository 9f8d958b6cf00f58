# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: PLR0917 (a kernel takes arrays, not objects)
"""Columns from spans: times, numbers, vocabulary codes, strings, canonical texts and their hashes, compiled with numba.

What belongs here: reading the easy form of a value, where there is no doubt what `times`, `fields` and `canonical` make
of it. Whatever is not easy is odd, and odd records go through those modules. What does not: which columns a dialect
has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numba
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from recoflow.sources.spans import ABSENT, DECIMAL, TEXT, WHOLE, Bytes, Words, find_word, words
from recoflow.sources.times import EARLIEST, SECONDS_BELOW

MISSING: Final = np.iinfo(np.int64).min
ODD: Final = MISSING + 1

_compiled: Callable[..., Any] = numba.njit(nogil=True, cache=True)

_MAX_DIGITS: Final = 15
_SECOND: Final = 1_000_000
_U = np.uint64
_P1, _P2, _P3 = _U(0x9E3779B185EBCA87), _U(0xC2B2AE3D27D4EB4F), _U(0x165667B19E3779F9)
_P4, _P5 = _U(0x85EBCA77C2B2AE63), _U(0x27D4EB2F165667C5)


class Column(NamedTuple):
    """The spans of one name: kind, position and length per record."""

    kinds: NDArray[np.uint8]
    starts: NDArray[np.int32]
    lengths: NDArray[np.int32]


def times(data: Bytes, column: Column, latest: int) -> NDArray[np.int64]:
    """Microseconds since 1970 of epoch seconds or milliseconds or ISO 8601; MISSING or ODD where there is none."""
    moments: NDArray[np.int64] = np.empty(len(column.kinds), np.int64)
    _times(data, *column, latest, moments)
    return moments


def numbers(data: Bytes, column: Column) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Plain decimal numbers, NaN where absent, and which records have something else."""
    found = np.empty(len(column.kinds), np.float64)
    is_odd = np.zeros(len(column.kinds), bool)
    _numbers(data, *column, found, is_odd)
    return found, is_odd


def codes(data: Bytes, column: Column, known: Words) -> NDArray[np.int16]:
    """Index of each text in `known`, -1 when absent, -2 when unknown."""
    found = np.empty(len(column.kinds), np.int16)
    _codes(data, *column, *known, found)
    return found


def is_any_of(data: Bytes, column: Column, lower_words: Words) -> NDArray[np.bool_]:
    """Whether each text is one of the words, in any case of letters."""
    found = np.zeros(len(column.kinds), bool)
    _is_any_of(data, *column, *lower_words, found)
    return found


def strings(text: bytes, column: Column) -> pl.Series:
    """The texts as a string column that points into `text`; null where absent. The text must be UTF-8."""
    is_valid = column.kinds != ABSENT
    views = np.zeros((len(is_valid), 4), np.uint32)
    _views(np.frombuffer(text, np.uint8), *column, views)
    bits = pa.py_buffer(np.packbits(is_valid, bitorder="little").tobytes())
    buffers = [bits, pa.py_buffer(views), pa.py_buffer(text)]
    return pl.Series(pa.Array.from_buffers(pa.string_view(), len(is_valid), buffers))


def json_objects(data: Bytes, columns: list[Column], keys: Words) -> tuple[bytes, Column]:
    """A JSON object per record of the columns' values, absent where there are none.

    `keys` are the columns' names in ascending order as JSON texts with a colon, e.g. `"shelf":`.
    """
    count = len(columns[0].kinds)
    kinds, starts, lengths = (np.stack(part) for part in zip(*columns, strict=True))
    ends = np.zeros(count + 1, np.int64)
    _object_ends(kinds, lengths, keys.starts, ends)
    text = np.empty(ends[-1], np.uint8)
    _write_objects(data, kinds, starts, lengths, *keys, ends, text)
    sizes = np.diff(ends)
    return text.tobytes(), Column((sizes > 0).astype(np.uint8), ends[:-1].astype(np.int32), sizes.astype(np.int32))


class Content(NamedTuple):
    """One field of the canonical text: its name and either texts with the bytes they lie in, or whole numbers."""

    name: str
    texts: tuple[Bytes, Column] | None
    numbers: NDArray[np.int64] | None  # MISSING where absent


def hashes(fields: list[Content], count: int) -> NDArray[np.uint64]:
    """XXH64 with the seeds 0 and 1, [records × 2], of the canonical text of each record; see `canonical`.

    All texts must lie in three arrays of bytes at most.
    """
    names = words([f"{field.name}=" for field in fields])
    sources: list[Bytes] = []
    places = np.full(len(fields), -1, np.int64)  # which array a field's texts lie in, -1 for numbers
    begins = np.zeros((len(fields), count), np.int64)  # of texts; numbers themselves
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
    found = np.empty((count, 2), np.uint64)
    _hash_records(first, second, third, *names, places, begins, lengths, scratch, found)
    return found


def double_bits(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bits of doubles, MISSING for NaN."""
    return np.where(np.isnan(values), MISSING, (values + 0.0).view(np.int64))


def whole(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole doubles as integers, MISSING for NaN."""
    return np.where(np.isnan(values), MISSING, np.nan_to_num(values, posinf=0, neginf=0).astype(np.int64))


@_compiled
def _times(data, kinds, starts, lengths, latest, moments):
    for record in range(len(kinds)):
        kind, begin = kinds[record], starts[record]
        end = begin + lengths[record]
        if kind == ABSENT or (kind == TEXT and end == begin):
            moments[record] = MISSING
            continue
        moment = ODD
        if kind in (TEXT, WHOLE):
            value, after = _digits(data, begin, end)
            if after == end and 0 < end - begin <= _MAX_DIGITS:
                moment = value * _SECOND if value < SECONDS_BELOW else value * 1000
            elif kind == TEXT:
                moment = _iso_time(data, begin, end)
        moments[record] = moment if EARLIEST <= moment <= latest else ODD


@_compiled
def _digits(data, at, end):
    """The whole number of the digits from `at`, at most 18 of them, and where they end."""
    value = np.int64(0)
    limit = min(end, at + 18)
    while at < limit and 0x30 <= data[at] <= 0x39:
        value = value * 10 + (data[at] - 0x30)
        at += 1
    return value, at


@_compiled
def _two_digits(data, at):
    tens, ones = data[at] - 0x30, data[at + 1] - 0x30
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else 100


@_compiled
def _iso_time(data, at, end):
    """`YYYY-MM-DDTHH:MM:SS`, up to six decimals, then `Z` or `±HH:MM`."""
    has_marks = end - at >= 20 and data[at + 4] == 0x2D and data[at + 7] == 0x2D and data[at + 10] == 0x54
    if not has_marks or data[at + 13] != 0x3A or data[at + 16] != 0x3A:
        return ODD
    year = _two_digits(data, at) * 100 + _two_digits(data, at + 2)
    month, day = _two_digits(data, at + 5), _two_digits(data, at + 8)
    hour, minute, second = _two_digits(data, at + 11), _two_digits(data, at + 14), _two_digits(data, at + 17)
    is_time = hour <= 23 and minute <= 59 and second <= 59
    if not is_time or not 1970 <= year <= 9998 or not 1 <= month <= 12 or not 1 <= day <= _days_of(year, month):
        return ODD
    at += 19
    fraction = 0
    if data[at] == 0x2E:
        value, after = _digits(data, at + 1, end)
        decimals = after - at - 1
        if not 1 <= decimals <= 6:
            return ODD
        fraction = value * 10 ** (6 - decimals)
        at = after
    offset = _zone(data, at, end)
    if offset == ODD:
        return ODD
    seconds = ((_days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset) * 60 + second
    return seconds * _SECOND + fraction


@_compiled
def _zone(data, at, end):
    """Minutes east of UTC."""
    if end - at == 1 and data[at] == 0x5A:
        return 0
    if end - at != 6 or data[at + 3] != 0x3A or (data[at] != 0x2B and data[at] != 0x2D):
        return ODD
    hours, minutes = _two_digits(data, at + 1), _two_digits(data, at + 4)
    if hours > 23 or minutes > 59:
        return ODD
    offset = hours * 60 + minutes
    return offset if data[at] == 0x2B else -offset


@_compiled
def _days_of(year, month):
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


@_compiled
def _days_since_1970(year, month, day):
    """Howard Hinnant, chrono-compatible low-level date algorithms: days_from_civil."""
    if month <= 2:
        year -= 1
        month += 12
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month - 3) + 2) // 5 + day - 1
    return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468


@_compiled
def _numbers(data, kinds, starts, lengths, found, is_odd):
    for record in range(len(kinds)):
        found[record] = np.nan
        kind, begin = kinds[record], starts[record]
        end = begin + lengths[record]
        if kind == ABSENT or (kind == TEXT and begin == end):
            continue
        is_negative = kind in (TEXT, WHOLE, DECIMAL) and data[begin] == 0x2D
        at = begin + 1 if is_negative else begin
        whole, point = _digits(data, at, end)
        decimals, after = np.int64(0), point
        if point < end and data[point] == 0x2E:
            decimals, after = _digits(data, point + 1, end)
        digits = after - at - (1 if after > point else 0)
        is_odd[record] = after != end or point == at or after == point + 1 or digits > _MAX_DIGITS
        places = max(after - point - 1, 0)
        # Both are whole and below 2^53, so that one division rounds as reading the text would (Clinger's fast path).
        value = (whole * 10**places + decimals) / 10**places if not is_odd[record] else np.nan
        found[record] = (-value if is_negative else value) + 0.0


@_compiled
def _codes(data, kinds, starts, lengths, word_data, word_starts, found):
    for record in range(len(kinds)):
        if kinds[record] == ABSENT:
            found[record] = -1
            continue
        word = find_word(data, starts[record], starts[record] + lengths[record], word_data, word_starts)
        found[record] = word if word >= 0 else -2


@_compiled
def _is_any_of(data, kinds, starts, lengths, word_data, word_starts, found):
    for record in range(len(kinds)):
        if kinds[record] == ABSENT:
            continue
        for word in range(len(word_starts) - 1):
            if word_starts[word + 1] - word_starts[word] == lengths[record]:
                found[record] |= _is_lower(data, starts[record], lengths[record], word_data, word_starts[word])


@_compiled
def _is_lower(data, begin, length, word_data, word_start):
    for index in range(length):
        byte = data[begin + index]
        if 0x41 <= byte <= 0x5A:
            byte += 0x20
        if byte != word_data[word_start + index]:
            return False
    return True


@_compiled
def _views(data, kinds, starts, lengths, views):
    """Arrow's string views: length, then twelve bytes inline or a prefix of four, the buffer and the position in it."""
    for record in range(len(kinds)):
        if kinds[record] == ABSENT:
            continue
        begin, length = starts[record], lengths[record]
        views[record, 0] = length
        first = np.uintp(begin)
        for index in range(np.uintp(length if length <= 12 else 4)):
            byte = np.uint32(data[first + index])
            views[record, np.uintp(1) + (index >> np.uintp(2))] |= byte << np.uint32(8 * (index & np.uintp(3)))
        if length > 12:
            views[record, 3] = begin


@_compiled
def _object_ends(kinds, lengths, key_starts, ends):
    for record in range(kinds.shape[1]):
        size = 0
        for column in range(kinds.shape[0]):
            kind = kinds[column, record]
            if kind != ABSENT:
                quotes = 2 if kind == TEXT else 0
                size += 1 + key_starts[column + 1] - key_starts[column] + lengths[column, record] + quotes
        ends[record + 1] = ends[record] + (size + 1 if size else 0)


@_compiled
def _write_objects(data, kinds, starts, lengths, key_data, key_starts, ends, text):
    for record in range(kinds.shape[1]):
        at = ends[record]
        if ends[record + 1] == at:
            continue
        for column in range(kinds.shape[0]):
            kind = kinds[column, record]
            if kind == ABSENT:
                continue
            text[at] = 0x7B if at == ends[record] else 0x2C
            at = _copy(key_data, key_starts[column], key_starts[column + 1] - key_starts[column], text, at + 1)
            if kind == TEXT:
                text[at] = 0x22
                at += 1
            at = _copy(data, starts[column, record], lengths[column, record], text, at)
            if kind == TEXT:
                text[at] = 0x22
                at += 1
        text[at] = 0x7D


@_compiled
def _copy(source, begin, length, target, at):
    # Unsigned positions need no test for negative ones, so that this becomes a block copy.
    first, to = np.uintp(begin), np.uintp(at)
    for index in range(np.uintp(length)):
        target[to + index] = source[first + index]
    return at + length


@_compiled
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
            size = _copy(name_data, name_starts[field], name_starts[field + 1] - name_starts[field], text, size)
            if place < 0:
                size = _write_number(begin, text, size)
            elif place == 0:
                size = _copy(first, begin, length, text, size)
            else:
                size = _copy(second if place == 1 else third, begin, length, text, size)
        found[record, 0] = _xxh64(scratch, size, np.uint64(0))
        found[record, 1] = _xxh64(scratch, size, np.uint64(1))


@_compiled
def _write_number(number, text, at):
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


@_compiled
def _xxh64(words64, size, seed):
    """XXH64 of the first `size` bytes, as the xxHash specification 0.2.0 has it; little endian machines only."""
    word = np.uintp(0)
    rest = np.uint64(size)
    if size >= 32:
        lane1, lane2, lane3, lane4 = seed + _P1 + _P2, seed + _P2, seed, seed - _P1
        while rest >= np.uint64(32):
            lane1 = _round(lane1, words64[word])
            lane2 = _round(lane2, words64[word + np.uintp(1)])
            lane3 = _round(lane3, words64[word + np.uintp(2)])
            lane4 = _round(lane4, words64[word + np.uintp(3)])
            word += np.uintp(4)
            rest -= np.uint64(32)
        total = _rotate(lane1, 1) + _rotate(lane2, 7) + _rotate(lane3, 12) + _rotate(lane4, 18)
        for lane in (lane1, lane2, lane3, lane4):
            total = (total ^ _round(np.uint64(0), lane)) * _P1 + _P4
    else:
        total = seed + _P5
    total += np.uint64(size)
    while rest >= np.uint64(8):
        total = _rotate(total ^ _round(np.uint64(0), words64[word]), 27) * _P1 + _P4
        word += np.uintp(1)
        rest -= np.uint64(8)
    last = words64[word]
    if rest >= np.uint64(4):
        total = _rotate(total ^ ((last & np.uint64(0xFFFFFFFF)) * _P1), 23) * _P2 + _P3
        last >>= np.uint64(32)
        rest -= np.uint64(4)
    while rest > np.uint64(0):
        total = _rotate(total ^ ((last & np.uint64(0xFF)) * _P5), 11) * _P1
        last >>= np.uint64(8)
        rest -= np.uint64(1)
    total = (total ^ (total >> np.uint64(33))) * _P2
    total = (total ^ (total >> np.uint64(29))) * _P3
    return total ^ (total >> np.uint64(32))


@_compiled
def _round(lane, word):
    return _rotate(lane + word * _P2, 31) * _P1


@_compiled
def _rotate(value, bits):
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))
