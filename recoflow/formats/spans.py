# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: PLR0917 (a kernel takes arrays, not objects)
"""Where the values of flat JSON objects and CSV records lie in a chunk of text, found at the speed of memory.

What belongs here: tokenizers compiled with numba. They know the easy shape only and say of any other text that it is
odd: escapes, nesting, unknown or doubled keys, numbers that could be printed in another way. Odd text goes to the exact
path, so a tokenizer never has to explain or repair. What does not: what a value means.

All functions take `data`, the chunk's bytes (uint8), and the half-open bounds of each record. A `Spans` is three
matrices [names × records]: the kind of each value, and the position and length of its text, without quotes. It holds a
whole chunk, or a stretch of it that stays in the processor's cache until it has been read.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recoflow.compute.jit import jit_inline, jit_no_refcount
from recoflow.formats import buffers
from recoflow.formats.wide import CELL_WIDTH, WIDTH, cell_end, cell_marks, equals, next_mark, text_end

ABSENT: Final = 0
TEXT: Final = 1
WHOLE: Final = 2  # a JSON number without a point, as every printer prints it
DECIMAL: Final = 3  # a JSON number with a point, as every printer prints it
TRUTH: Final = 4  # true or false
LIST: Final = 5  # from bracket to bracket; only its brackets and texts have been looked at

COMMA, QUOTE, COLON, _BACKSLASH, _SPACE = 0x2C, 0x22, 0x3A, 0x5C, 0x20
OPEN, CLOSE, OPEN_LIST, CLOSE_LIST, _MINUS, _POINT, _ZERO, _NINE = 0x7B, 0x7D, 0x5B, 0x5D, 0x2D, 0x2E, 0x30, 0x39
_TAB, _RETURN = 0x09, 0x0D
_MAX_DIGITS: Final = 15  # so many decimal digits survive a double unchanged

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]


class Words(NamedTuple):
    """A list of byte strings as one array, word i from `starts[i]` to `starts[i + 1]`; some bytes stand behind all."""

    data: Bytes
    starts: Places


class Spans(NamedTuple):
    """Kind, position and length of the values of each record; `is_odd` marks records for the exact path."""

    kinds: NDArray[np.uint8]
    starts: NDArray[np.int32]
    lengths: NDArray[np.int32]
    is_odd: NDArray[np.bool_]


def words(names: list[str]) -> Words:
    """Names as the kernels read them."""
    encoded = [name.encode() for name in names]
    starts = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return Words(np.frombuffer(b"".join(encoded) + bytes(int(WIDTH)), np.uint8), starts)


class Form(NamedTuple):
    """How the records of a chunk are written: as CSV with so many cells, or as JSON objects with these keys."""

    columns: int
    is_csv: bool
    has_lists: bool  # JSON: values are flat, or lists where that is allowed
    names: Words
    guesses: Places  # JSON: index of the key at this place in the record before


def csv_form(columns: int) -> Form:
    """Records with as many cells as `columns`; an empty cell is absent."""
    return Form(columns, True, False, words([]), np.zeros(1, np.int64))


def json_form(names: list[str], *, has_lists: bool = False) -> Form:
    """JSON objects, one per record; columns as in `names`."""
    return Form(len(names), False, has_lists, words(names), np.zeros(len(names) + 1, np.int64))


def empty(records: int, form: Form) -> Spans:
    """Room for the spans of so many records."""
    shape = (form.columns, records)  # one column after the other in memory, because all that follows goes by columns
    return Spans(
        buffers.empty(shape, np.uint8),
        buffers.empty(shape, np.int32),
        buffers.empty(shape, np.int32),
        np.empty(records, bool),
    )


def of_chunk(data: Bytes, begins: Places, ends: Places, form: Form) -> Spans:
    """Spans of all records."""
    spans = empty(len(begins), form)
    find_spans(data, begins, ends, 0, len(begins), form, spans)
    return spans


@jit_no_refcount
def find_spans(data, begins, ends, first, last, form, spans):
    """Write the spans of the records from `first` to before `last`."""
    kinds, starts, lengths, is_odd = spans
    columns, is_csv, has_lists, (word_data, word_starts), guesses = form
    if is_csv:
        for row in range(last - first):
            at, end = begins[first + row], ends[first + row]
            is_odd[row] = not _csv_record(data, at, end, columns, row, kinds, starts, lengths)
        return
    for column in range(columns):
        for row in range(last - first):
            kinds[column, row], lengths[column, row] = ABSENT, -1
    for row in range(last - first):
        at, end = begins[first + row], ends[first + row]
        is_odd[row] = not _json_record(
            data, at, end, word_data, word_starts, has_lists, guesses, row, kinds, starts, lengths
        )


@jit_inline
def find_word(data, begin, length, word_data, word_starts, first, last):
    """Index of the word from `first` to before `last` that equals the text, -1 when there is none."""
    for word in range(first, last):
        start = word_starts[word]
        if word_starts[word + 1] - start == length and equals(data, begin, word_data, start, length):
            return word
    return -1


@jit_inline
def _json_record(data, at, end, word_data, word_starts, has_lists, guesses, record, kinds, starts, lengths):
    at = skip_blank(data, at, end)
    place = 0
    while at < end and data[at] == (OPEN if place == 0 else COMMA):
        key, at = _json_key(data, skip_blank(data, at + 1, end), end, word_data, word_starts, guesses, place)
        if key < 0 or lengths[key, record] >= 0:  # not known, or it stands twice
            return False
        at = skip_blank(data, at, end)
        if has_lists and at < end and data[at] == OPEN_LIST:
            close = _list_end(data, at, end)
            kind, begin, length, at = LIST if close > 0 else -1, at, close - at, close
        else:
            kind, begin, length, at = json_value(data, at, end)
        if kind < 0:
            return False
        kinds[key, record], starts[key, record], lengths[key, record] = kind, begin, length
        at = skip_blank(data, at, end)
        place += 1
    return place > 0 and at < end and data[at] == CLOSE and skip_blank(data, at + 1, end) == end


@jit_inline
def _json_key(data, at, end, word_data, word_starts, guesses, place):
    """Index of the key at this place (-1 when odd), and the position behind its colon."""
    if at >= end or data[at] != QUOTE or len(word_starts) == 1:
        return -1, at
    key = guesses[place]
    start = word_starts[key]
    close = at + 1 + word_starts[key + 1] - start
    # Keys of easy records hold no quote, so that the same bytes and a quote behind them are the same key.
    if close >= end or data[close] != QUOTE or not equals(data, at + 1, word_data, start, close - at - 1):
        close = text_end(data, at + 1, end)
        if close < 0:
            return -1, at
        key = find_word(data, at + 1, close - at - 1, word_data, word_starts, 0, len(word_starts) - 1)
    colon = skip_blank(data, close + 1, end)
    if key < 0 or colon >= end or data[colon] != COLON:
        return -1, at
    guesses[place] = key
    return key, colon + 1


@jit_no_refcount
def json_value(data, at, end):
    """Kind (-1 when odd), start and length of the value at this place, and where the text goes on."""
    if at >= end:
        return -1, 0, 0, at
    first = data[at]
    if first == QUOTE:
        close = text_end(data, at + 1, end)
        if close < 0 or _has_outer_space(data, at + 1, close):
            return -1, 0, 0, at
        return TEXT, at + 1, close - at - 1, close + 1
    if first == _MINUS or _ZERO <= first <= _NINE:
        kind, after = _json_number(data, at, end)
        return kind, at, after - at, after
    for literal, kind in ((b"true", TRUTH), (b"false", TRUTH), (b"null", ABSENT)):
        if starts_with(data, at, end, literal):
            return kind, at, len(literal), at + len(literal)
    return -1, 0, 0, at


@jit_no_refcount
def _list_end(data, at, end):
    """Position behind the list that begins here, -1 when it does not end or has an escape."""
    depth = 0
    while at < end:
        byte = data[at]
        if byte == QUOTE:
            at = text_end(data, at + 1, end)
            if at < 0:
                return -1
        elif byte == OPEN_LIST:
            depth += 1
        elif byte == CLOSE_LIST:
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return -1


@jit_inline
def _json_number(data, at, end):
    begin = at
    if data[at] == _MINUS:
        at += 1
    whole = _digits_end(data, at, end)
    digits = whole - at
    if digits == 0 or (digits > 1 and data[at] == _ZERO):
        return -1, at
    is_zero = digits == 1 and data[at] == _ZERO
    if whole >= end or data[whole] != _POINT:
        is_plain = digits <= _MAX_DIGITS and not (is_zero and data[begin] == _MINUS)
        return (WHOLE if is_plain and not _goes_on(data, whole, end) else -1), whole
    after = _digits_end(data, whole + 1, end)
    decimals = after - whole - 1
    if decimals == 0 or digits + decimals > _MAX_DIGITS or _goes_on(data, after, end):
        return -1, after
    if decimals > 1 and data[after - 1] == _ZERO:
        return -1, after
    if is_zero and decimals > 2 and data[whole + 1] == _ZERO:
        return -1, after  # 0.00012 may be printed as 1.2e-4
    return DECIMAL, after


@jit_inline
def _goes_on(data, at, end):
    """Whether something other than the end of the value follows: an exponent, a second point, letters."""
    return at < end and data[at] not in (COMMA, CLOSE, CLOSE_LIST, _SPACE, _TAB, _RETURN)


@jit_inline
def _digits_end(data, at, end):
    while at < end and _ZERO <= data[at] <= _NINE:
        at += 1
    return at


@jit_inline
def starts_with(data, at, end, literal):
    """Whether the literal stands at this place."""
    return at + len(literal) <= end and equals(data, at, literal, 0, len(literal))


@jit_inline
def _has_outer_space(data, begin, end):
    return begin < end and (data[begin] == _SPACE or data[end - 1] == _SPACE)


@jit_inline
def skip_blank(data, at, end):
    """Position of the next byte that is no blank."""
    while at < end and (data[at] == _SPACE or data[at] == _TAB or data[at] == _RETURN):
        at += 1
    return at


@jit_inline
def _csv_record(data, at, end, columns, record, kinds, starts, lengths):
    if end > at and data[end - 1] == _RETURN:
        end -= 1
    if at >= end:
        return False
    if end + CELL_WIDTH <= len(data) and _bare_cells(data, at, end, columns, record, kinds, starts, lengths):
        return True
    return _cells(data, at, end, columns, record, kinds, starts, lengths)


@jit_inline
def _bare_cells(data, at, end, columns, record, kinds, starts, lengths):
    """Read a record without quotes, many bytes at a time; False when one has to look closer."""
    begin, column = at, 0
    for place in range(at, end, CELL_WIDTH):
        commas, others = cell_marks(data, place, end)
        if others != np.uint64(0):
            return False
        while commas != np.uint64(0):
            close, commas = next_mark(place, commas)
            if column == columns or not _put_cell(data, begin, close, column, record, kinds, starts, lengths):
                return False
            begin, column = close + 1, column + 1
    return column == columns - 1 and _put_cell(data, begin, end, column, record, kinds, starts, lengths)


@jit_inline
def _cells(data, at, end, columns, record, kinds, starts, lengths):
    """The same one cell at a time, in quotes or not; False when the record is odd."""
    for column in range(columns):
        is_quoted = at < end and data[at] == QUOTE
        begin = at + 1 if is_quoted else at
        close = text_end(data, begin, end) if is_quoted else cell_end(data, begin, end)
        if close < 0 or not _put_cell(data, begin, close, column, record, kinds, starts, lengths):
            return False
        at = close + 1 if is_quoted else close
        if column == columns - 1:
            return at == end
        if at >= end or data[at] != COMMA:
            return False
        at += 1
    return False


@jit_inline
def _put_cell(data, begin, close, column, record, kinds, starts, lengths):
    """Write the span of a cell, ABSENT when it is empty; False when it has spaces around its text."""
    kinds[column, record] = TEXT if close > begin else ABSENT
    starts[column, record], lengths[column, record] = begin, close - begin
    return not _has_outer_space(data, begin, close)
