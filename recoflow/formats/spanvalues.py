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

from recoflow.compute.jit import jit_inline, jit_no_refcount
from recoflow.compute.unaligned import load
from recoflow.formats.spans import ABSENT, DECIMAL, TEXT, WHOLE, Bytes, Words, find_word
from recoflow.formats.times import EARLIEST, SECONDS_BELOW
from recoflow.formats.wide import are_digits, first_word, number_of_digits

MISSING: Final = np.iinfo(np.int64).min
ODD: Final = MISSING + 1
NOT_THERE, UNKNOWN = -1, -2  # instead of an index in a vocabulary
MAX_INLINE: Final = 12  # bytes of a text that stand in its view

_MAX_DIGITS: Final = 15
_SECOND: Final = 1_000_000


class Column(NamedTuple):
    """The spans of one name: kind, position and length per record."""

    kinds: NDArray[np.uint8]
    starts: NDArray[np.int32]
    lengths: NDArray[np.int32]


def times(data: Bytes, column: Column, latest: int, *, has_seconds: bool) -> NDArray[np.int64]:
    """Microseconds since 1970 of epoch milliseconds (or seconds) or ISO 8601; MISSING or ODD where there is none."""
    moments: NDArray[np.int64] = np.empty(len(column.kinds), np.int64)
    _times(data, *column, latest, SECONDS_BELOW if has_seconds else 0, moments)
    return moments


def codes(data: Bytes, column: Column, known: Words) -> NDArray[np.int16]:
    """Index of each text in `known`, NOT_THERE when absent, UNKNOWN when it is none of them."""
    found = np.empty(len(column.kinds), np.int16)
    _codes(data, *column, *known, found)
    return found


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
    return of_views(len(is_valid), np.packbits(is_valid, bitorder="little"), views, data)


def of_views(count: int, valid: Bytes, views: NDArray[np.uint64], *data: Bytes) -> pl.Series:
    """Arrow's string views as a column of so many texts that points into `data`; `valid` has a bit for each text.

    By way of a frame, because what polars does with a lone array begins with importing pyarrow's compute module.
    """
    buffers = [pa.py_buffer(part) for part in (valid, views, *data)]
    array = pa.Array.from_buffers(pa.string_view(), count, buffers)
    return pl.DataFrame(pa.record_batch([array], ["texts"]))["texts"]


@jit_no_refcount
def _times(data, kinds, starts, lengths, latest, seconds_below, moments):
    for record in range(len(kinds)):
        moments[record] = moment_of(data, kinds[record], starts[record], lengths[record], latest, seconds_below)


@jit_inline
def moment_of(data, kind, begin, length, latest, seconds_below):
    """Microseconds since 1970 of one value, MISSING or ODD; whole numbers below the last argument are seconds."""
    end = begin + length
    if kind == ABSENT or (kind == TEXT and end == begin):
        return MISSING
    moment = ODD
    if kind in (TEXT, WHOLE):
        value, after = _digits(data, begin, end)
        if after == end and 0 < end - begin <= _MAX_DIGITS:
            moment = value * _SECOND if value < seconds_below else value * 1000
        elif kind == TEXT:
            moment = _iso_time(data, begin, end)
    return moment if EARLIEST <= moment <= latest else ODD


@jit_inline
def _digits(data, at, end):
    """The whole number of the digits from `at`, at most 18 of them, and where they end."""
    value = np.int64(0)
    limit = min(end, at + 18)
    if at + 8 <= limit and are_digits(load(data, np.uintp(at))):
        value = number_of_digits(load(data, np.uintp(at)))
        at += 8
    while at < limit and 0x30 <= data[at] <= 0x39:
        value = value * 10 + (data[at] - 0x30)
        at += 1
    return value, at


@jit_inline
def _two_digits(data, at):
    tens, ones = data[at] - 0x30, data[at + 1] - 0x30
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else 100


@jit_no_refcount
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


@jit_no_refcount
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


@jit_no_refcount
def _days_of(year, month):
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


@jit_no_refcount
def _days_since_1970(year, month, day):
    """Howard Hinnant, chrono-compatible low-level date algorithms: days_from_civil."""
    if month <= 2:
        year -= 1
        month += 12
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month - 3) + 2) // 5 + day - 1
    return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468


@jit_inline
def number_of(data, kind, begin, length):
    """A plain decimal number, NaN where there is none."""
    return plain_number(data, begin, begin + length) if kind in (TEXT, WHOLE, DECIMAL) and length > 0 else np.nan


@jit_inline
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


@jit_no_refcount
def _codes(data, kinds, starts, lengths, word_data, word_starts, found):
    for record in range(len(kinds)):
        if kinds[record] == ABSENT:
            found[record] = NOT_THERE
            continue
        last = len(word_starts) - 1
        word = find_word(data, starts[record], lengths[record], word_data, word_starts, 0, last)
        found[record] = word if word >= 0 else UNKNOWN


@jit_no_refcount
def _is_any_of(data, kinds, starts, lengths, word_data, word_starts, found):
    for record in range(len(kinds)):
        if kinds[record] != ABSENT:
            last = len(word_starts) - 1
            found[record] = is_one_of(data, starts[record], lengths[record], word_data, word_starts, 0, last)


@jit_inline
def is_one_of(data, begin, length, word_data, word_starts, first, last):
    """Whether the text is one of the words from `first` to before `last`, in any case of letters."""
    for word in range(first, last):
        start = word_starts[word]
        # Only a letter and its capital become that letter.
        is_likely = word_starts[word + 1] - start == length and data[begin] | 0x20 == word_data[start]
        if is_likely and _is_lower(data, begin, length, word_data, start):
            return True
    return False


@jit_inline
def _is_lower(data, begin, length, word_data, word_start):
    for index in range(length):
        byte = data[begin + index]
        if 0x41 <= byte <= 0x5A:
            byte += 0x20
        if byte != word_data[word_start + index]:
            return False
    return True


@jit_no_refcount
def _views(data, kinds, starts, lengths, views):
    for record in range(len(kinds)):
        if kinds[record] != ABSENT:
            views[record, 0], views[record, 1] = view_of(data, starts[record], lengths[record], 0)


@jit_inline
def view_of(data, begin, length, buffer):
    """Arrow's string view as two words: length and the first four bytes, then the next eight or buffer and position."""
    head = np.uint64(length) | (first_word(data, begin, min(length, 4)) << np.uint64(32))
    tail = np.uint64(0)
    if length > MAX_INLINE:
        tail = np.uint64(buffer) | np.uint64(begin) << np.uint64(32)
    elif length > 4:
        tail = first_word(data, begin + 4, length - 4)
    return head, tail
