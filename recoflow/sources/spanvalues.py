# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: PLR0917 (a kernel takes arrays, not objects)
"""Columns from spans: times, numbers, vocabulary codes, and strings, compiled with numba.

What belongs here: reading the easy form of a value, where there is no doubt what `times`, `fields` and `canonical` make
of it. Whatever is not easy is odd, and odd records go through those modules. What does not: which columns a dialect
has.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from recoflow.compiled import compiled, inlined
from recoflow.sources.spans import ABSENT, DECIMAL, TEXT, WHOLE, Bytes, Words, find_word
from recoflow.sources.times import EARLIEST, SECONDS_BELOW
from recoflow.sources.wide import copy_bytes, first_word

MISSING: Final = np.iinfo(np.int64).min
ODD: Final = MISSING + 1
NOT_THERE, UNKNOWN = -1, -2  # instead of an index in a vocabulary

_MAX_DIGITS: Final = 15
_SECOND: Final = 1_000_000


class Column(NamedTuple):
    """The spans of one name: kind, position and length per record."""

    kinds: NDArray[np.uint8]
    starts: NDArray[np.int32]
    lengths: NDArray[np.int32]


Text = tuple[Bytes, Column]  # the bytes that the spans lie in, which are UTF-8


def times(data: Bytes, column: Column, latest: int, *, has_seconds: bool) -> NDArray[np.int64]:
    """Microseconds since 1970 of epoch milliseconds (or seconds) or ISO 8601; MISSING or ODD where there is none."""
    moments: NDArray[np.int64] = np.empty(len(column.kinds), np.int64)
    _times(data, *column, latest, SECONDS_BELOW if has_seconds else 0, moments)
    return moments


def numbers(data: Bytes, column: Column) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Plain decimal numbers, NaN where absent, and which records have something else."""
    found = np.empty(len(column.kinds), np.float64)
    is_odd = np.zeros(len(column.kinds), bool)
    _numbers(data, *column, found, is_odd)
    return found, is_odd


def codes(data: Bytes, column: Column, known: Words) -> NDArray[np.int16]:
    """Index of each text in `known`, NOT_THERE when absent, UNKNOWN when it is none of them."""
    found = np.empty(len(column.kinds), np.int16)
    _codes(data, *column, *known, found)
    return found


def known(codes: NDArray[np.int16], words: Words) -> Text:
    """The texts by their indices in `words`, absent where those are negative."""
    begins = words.starts.astype(np.int32)
    return words.data, Column((codes >= 0).astype(np.uint8), begins[codes], np.diff(begins)[codes])


def is_any_of(data: Bytes, column: Column, lower_words: Words) -> NDArray[np.bool_]:
    """Whether each text is one of the words, in any case of letters."""
    found = np.zeros(len(column.kinds), bool)
    _is_any_of(data, *column, *lower_words, found)
    return found


def strings(data: Bytes, column: Column) -> pl.Series:
    """The texts as a string column that points into `data`; null where absent."""
    is_valid = column.kinds != ABSENT
    views = np.zeros((len(is_valid), 2), np.uint64)
    _views(data, *column, views)
    bits = pa.py_buffer(np.packbits(is_valid, bitorder="little").tobytes())
    buffers = [bits, pa.py_buffer(views), pa.py_buffer(data)]
    return pl.Series(pa.Array.from_buffers(pa.string_view(), len(is_valid), buffers))


def json_objects(data: Bytes, columns: list[Column], keys: Words) -> Text:
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
    return text, Column((sizes > 0).astype(np.uint8), ends[:-1].astype(np.int32), sizes.astype(np.int32))


@compiled
def _times(data, kinds, starts, lengths, latest, seconds_below, moments):
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
                moment = value * _SECOND if value < seconds_below else value * 1000
            elif kind == TEXT:
                moment = _iso_time(data, begin, end)
        moments[record] = moment if EARLIEST <= moment <= latest else ODD


@inlined
def _digits(data, at, end):
    """The whole number of the digits from `at`, at most 18 of them, and where they end."""
    value = np.int64(0)
    limit = min(end, at + 18)
    while at < limit and 0x30 <= data[at] <= 0x39:
        value = value * 10 + (data[at] - 0x30)
        at += 1
    return value, at


@inlined
def _two_digits(data, at):
    tens, ones = data[at] - 0x30, data[at + 1] - 0x30
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else 100


@compiled
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


@compiled
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


@compiled
def _days_of(year, month):
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


@compiled
def _days_since_1970(year, month, day):
    """Howard Hinnant, chrono-compatible low-level date algorithms: days_from_civil."""
    if month <= 2:
        year -= 1
        month += 12
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month - 3) + 2) // 5 + day - 1
    return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468


@compiled
def _numbers(data, kinds, starts, lengths, found, is_odd):
    for record in range(len(kinds)):
        found[record] = np.nan
        kind, begin = kinds[record], starts[record]
        end = begin + lengths[record]
        if kind == ABSENT or (kind == TEXT and begin == end):
            continue
        if kind in (TEXT, WHOLE, DECIMAL):
            found[record] = plain_number(data, begin, end)
        is_odd[record] = np.isnan(found[record])


@inlined
def plain_number(data, begin, end):
    """The number that plain decimal digits stand for, NaN for other texts; zero has no sign."""
    at = begin + 1 if data[begin] == 0x2D else begin
    whole, point = _digits(data, at, end)
    decimals, after = np.int64(0), point
    if point < end and data[point] == 0x2E:
        decimals, after = _digits(data, point + 1, end)
    digits = after - at - (1 if after > point else 0)
    if after != end or point == at or after == point + 1 or digits > _MAX_DIGITS:
        return np.nan
    # Both are whole and below 2^53, so that one division rounds as reading the text would (Clinger's fast path).
    power = 10 ** max(after - point - 1, 0)
    value = (whole * power + decimals) / power
    return (-value if at > begin else value) + 0.0


@compiled
def _codes(data, kinds, starts, lengths, word_data, word_starts, found):
    for record in range(len(kinds)):
        if kinds[record] == ABSENT:
            found[record] = NOT_THERE
            continue
        word = find_word(data, starts[record], starts[record] + lengths[record], word_data, word_starts)
        found[record] = word if word >= 0 else UNKNOWN


@compiled
def _is_any_of(data, kinds, starts, lengths, word_data, word_starts, found):
    for record in range(len(kinds)):
        if kinds[record] == ABSENT:
            continue
        first = data[starts[record]] | 0x20  # only a letter and its capital become that letter
        for word in range(len(word_starts) - 1):
            size = word_starts[word + 1] - word_starts[word]
            if first == word_data[word_starts[word]] and size == lengths[record]:
                found[record] |= _is_lower(data, starts[record], lengths[record], word_data, word_starts[word])


@inlined
def _is_lower(data, begin, length, word_data, word_start):
    for index in range(length):
        byte = data[begin + index]
        if 0x41 <= byte <= 0x5A:
            byte += 0x20
        if byte != word_data[word_start + index]:
            return False
    return True


@compiled
def _views(data, kinds, starts, lengths, views):
    """Arrow's string views, each as two words: length and the first four bytes, then the next eight or the position."""
    for record in range(len(kinds)):
        if kinds[record] == ABSENT:
            continue
        begin, length = starts[record], lengths[record]
        views[record, 0] = np.uint64(length) | (first_word(data, begin, min(length, 4)) << np.uint64(32))
        if length > 12:
            views[record, 1] = np.uint64(begin) << np.uint64(32)  # in buffer 0
        elif length > 4:
            views[record, 1] = first_word(data, begin + 4, length - 4)


@compiled
def _object_ends(kinds, lengths, key_starts, ends):
    for record in range(kinds.shape[1]):
        size = 0
        for column in range(kinds.shape[0]):
            kind = kinds[column, record]
            if kind != ABSENT:
                quotes = 2 if kind == TEXT else 0
                size += 1 + key_starts[column + 1] - key_starts[column] + lengths[column, record] + quotes
        ends[record + 1] = ends[record] + (size + 1 if size else 0)


@compiled
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
            at = copy_bytes(key_data, key_starts[column], key_starts[column + 1] - key_starts[column], text, at + 1)
            if kind == TEXT:
                text[at] = 0x22
                at += 1
            at = copy_bytes(data, starts[column, record], lengths[column, record], text, at)
            if kind == TEXT:
                text[at] = 0x22
                at += 1
        text[at] = 0x7D
