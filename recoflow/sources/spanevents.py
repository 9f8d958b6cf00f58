# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: PLR0917 (a kernel takes arrays, not objects)
"""Froomle events from spans: every value of a record, its content's hash and its id in one pass, compiled with numba.

What belongs here: reading the easy form of an event, where there is no doubt what `froomle.parse` makes of it. Whatever
is not easy is odd, and odd records go through that module. What does not: which fields there are and what they need.

A plan says what to read: one row of integers per field, in the order of the canonical text, the event type first and
the event's id last. Tuples of arrays are taken apart before the loop, because each look into one counts references.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recoflow import xxh64
from recoflow.compiled import inlined, lean
from recoflow.sources import memory
from recoflow.sources.spans import ABSENT, TEXT, Bytes, Form, Places, Words, empty, find_spans, find_word
from recoflow.sources.spantext import write_hexadecimal, write_object, write_whole
from recoflow.sources.spanvalues import MAX_INLINE, ODD, is_one_of, moment_of, number_of, of_views, view_of
from recoflow.sources.times import SECONDS_BELOW
from recoflow.sources.wide import copy_bytes, equals, first_word

# What a plan says of a field: what it is; its columns among the spans, -1 for none, two for two names; bits of the
# requirements that it meets; its name in the canonical text, -1 for none; and a range of words.
ROLE, COLUMN, OTHER_COLUMN, NEED, NAME, FIRST_WORD, LAST_WORD = range(7)

# What a field is, and what its words are: none, none, texts that are no identity in small letters, texts that it may
# have, the same, none, none, none, the keys of the properties as JSON texts with a colon.
UNIQUE, REPEATING, IDENTITY, KNOWN, TYPE, NUMBER, RANK, TIME, OTHERS = range(9)

_AT_ONCE: Final = 16  # records; a text that has just been written byte by byte is slow to read word by word
_IN_CACHE: Final = 1 << 12  # values whose spans, 9 bytes each, stay in a core's own cache until they are read
_SEEN_BITS: Final = 6  # of how many long texts are remembered per field
_ID_LENGTH: Final = 32
_HASH: Final = np.uint64(0x9E3779B97F4A7C15)
_SOURCE, _BEGIN, _LENGTH = range(3)  # of a record's value as it stands in the canonical text; its length, -1 if absent
_DATA, _WORDS, _OBJECTS, _WHOLE = range(4)  # sources; a whole number stands in the place of the begin
_ABSENT, _UNKNOWN = -1, -2  # instead of the index of a column or word


class Rules(NamedTuple):
    """What holds for all records of a chunk."""

    plan: Places  # [fields × 7]
    words: Words
    needed: Places  # bits of what each event type requires, in the order of its words
    default_type: int  # index of the word that stands for an absent event type, -1 for none
    latest: int  # microseconds since 1970
    max_rank: int
    others: Places  # columns of the properties, in the order of their keys


class Columns(NamedTuple):
    """What was read per field and record; values of odd records mean nothing."""

    views: NDArray[np.uint64]  # [fields × records × 2]: Arrow's string views
    valid: NDArray[np.uint8]  # [fields × records / 8]: which of them are there
    numbers: NDArray[np.float64]  # [fields × records], NaN where absent
    moments: Places  # microseconds since 1970
    hashes: NDArray[np.uint64]
    ids: Bytes  # those that were made
    objects: Bytes  # properties


def read(data: Bytes, begins: Places, ends: Places, form: Form, rules: Rules, is_odd: NDArray[np.bool_]) -> Columns:
    """Read the records of a chunk that are not odd yet and mark those that turn out to be in `is_odd`."""
    count, size = len(begins), len(rules.plan)
    key_size = int(rules.words.starts[-1]) + 3 * len(rules.others)  # of an object without its values
    found = Columns(
        memory.empty((size, count, 2), np.uint64),
        np.zeros((size, count // 8 + 1), np.uint8),
        memory.empty((size, count), np.float64),
        memory.empty(count, np.int64),
        memory.empty(count, np.uint64),
        memory.empty(count * _ID_LENGTH, np.uint8),
        memory.empty(len(data) + count * key_size if len(rules.others) else 0, np.uint8),
    )
    longest = int((ends - begins).max(initial=0)) + 2 * key_size + 21 * size
    scratch = np.zeros((longest // 8 + 2) * _AT_ONCE, np.uint64)
    parts, seen = np.zeros((size, 3), np.int64), np.zeros((size, 1 << _SEEN_BITS), np.int64)
    bits, text = found.numbers.view(np.int64), scratch.view(np.uint8)
    sizes, end_of_objects = np.zeros(_AT_ONCE, np.int64), np.zeros(1, np.int64)
    stretch = empty((_IN_CACHE // max(form.columns, 1) // _AT_ONCE + 1) * _AT_ONCE, form)
    _read_records(
        data, begins, ends, form, stretch, rules, found, is_odd, bits, scratch, text, sizes, parts, seen, end_of_objects
    )
    return found


def texts(found: Columns, field: int, *data: Bytes) -> pl.Series:
    """The texts of a field as a string column that points into `data`; null where absent."""
    return of_views(len(found.moments), found.valid[field], found.views[field], *data)


@lean
def _read_records(
    data, begins, ends, form, spans, rules, found, is_odd, bits, scratch, text, sizes, parts, seen, end_of_objects
):  # fmt: skip
    kinds, starts, lengths, is_odd_row = spans
    plan, (word_data, word_starts), needed, default_type, latest, max_rank, others = rules
    views, valid, numbers, moments, hashes, ids, objects = found
    size_of_one = len(scratch) // _AT_ONCE
    for first in range(0, len(is_odd), len(is_odd_row)):
        last = min(first + len(is_odd_row), len(is_odd))
        find_spans(data, begins, ends, first, last, form, spans)
        for block in range(first, last, _AT_ONCE):
            end_of_block = min(block + _AT_ONCE, last)
            _clear(views, block, end_of_block)
            for record in range(block, end_of_block):
                row, begin = record - first, (record - block) * size_of_one * 8
                is_odd[record] |= is_odd_row[row]
                if not is_odd[record]:
                    is_odd[record] = not _read_record(
                        data, kinds, starts, lengths, plan, word_data, word_starts, needed, default_type, latest,
                        max_rank, others, row, record, parts, seen, end_of_objects, views, valid, numbers, bits,
                        moments, objects,
                    )  # fmt: skip
                    end = _write_content(data, word_data, word_starts, objects, plan, parts, text, begin)
                    sizes[record - block] = end - begin
            for record in range(block, end_of_block):
                if not is_odd[record]:
                    index = record - block
                    _sign(scratch, index * size_of_one, sizes[index], record, views, valid, hashes, ids)


@inlined
def _clear(views, begin, end):
    for field in range(len(views)):
        for record in range(begin, end):
            views[field, record, 0] = views[field, record, 1] = 0


@inlined
def _read_record(
    data, kinds, starts, lengths, plan, word_data, word_starts, needed, default_type, latest, max_rank,
    others, row, record, parts, seen, end_of_objects, views, valid, numbers, bits, moments, objects,
):  # fmt: skip
    """Read all fields from a row of the spans; whether the record is easy and has what its event type needs."""
    present, event_type = 0, -1
    for field in range(len(plan)):
        role = plan[field, ROLE]
        parts[field, _LENGTH] = _ABSENT
        is_easy = True
        if role in (UNIQUE, REPEATING, IDENTITY):
            is_easy = _read_text(
                data, kinds, starts, lengths, plan, word_data, word_starts, field, row, record, parts, seen, views,
                valid,
            )  # fmt: skip
        elif role in (KNOWN, TYPE):
            default = default_type if role == TYPE else _ABSENT
            word = _read_word(
                data, kinds, starts, lengths, plan, word_data, word_starts, default, field, row, record, parts, views,
                valid,
            )  # fmt: skip
            event_type = word - plan[field, FIRST_WORD] if role == TYPE and word >= 0 else event_type
            is_easy = word != _UNKNOWN
        elif role in (NUMBER, RANK):
            is_easy = _read_number(
                data, kinds, starts, lengths, plan, max_rank, field, row, record, parts, numbers, bits
            )
        elif role == TIME:
            column = plan[field, COLUMN]
            kind, begin, length = kinds[column, row], starts[column, row], lengths[column, row]
            moments[record] = moment_of(data, kind, begin, length, latest, SECONDS_BELOW)
            is_easy = moments[record] > ODD
            _set_part(parts, field, _WHOLE, moments[record], 0)
        else:
            begin = end_of_objects[0]
            keys = plan[field, FIRST_WORD]
            end = write_object(data, kinds, starts, lengths, others, word_data, word_starts, keys, row, objects, begin)
            end_of_objects[0] = end
            if end > begin:
                _set_part(parts, field, _OBJECTS, begin, end - begin)
                _put_view(views, valid, field, record, objects, begin, end - begin, 0)
        if not is_easy:
            return False
        if parts[field, _LENGTH] != _ABSENT:
            present |= plan[field, NEED]
    return event_type >= 0 and (present & needed[event_type]) == needed[event_type]


@inlined
def _column(kinds, lengths, plan, field, row):
    """Which of a text's names has it: _ABSENT when none has, _UNKNOWN when both have or it is no text."""
    found = _ABSENT
    for place in (COLUMN, OTHER_COLUMN):
        column = plan[field, place]
        if column >= 0 and lengths[column, row] > 0 and kinds[column, row] != ABSENT:
            if found != _ABSENT or kinds[column, row] != TEXT:
                return _UNKNOWN
            found = column
    return found


@inlined
def _read_text(
    data, kinds, starts, lengths, plan, word_data, word_starts, field, row, record, parts, seen, views, valid
):  # fmt: skip
    column = _column(kinds, lengths, plan, field, row)
    if column < 0:
        return column == _ABSENT
    begin, length = np.int64(starts[column, row]), np.int64(lengths[column, row])
    role = plan[field, ROLE]
    if role == IDENTITY and is_one_of(
        data, begin, length, word_data, word_starts, plan[field, FIRST_WORD], plan[field, LAST_WORD]
    ):
        return True
    _set_part(parts, field, _DATA, begin, length)
    if role == REPEATING and length > MAX_INLINE:
        begin = _first_place(data, begin, length, seen, field)
    _put_view(views, valid, field, record, data, begin, length, 0)
    return True


@inlined
def _first_place(data, begin, length, seen, field):
    """Where the same text stood before, if that is remembered: rows with equal texts get equal views."""
    mixed = first_word(data, begin, 8) ^ (first_word(data, begin + length - 8, 8) * _HASH)
    slot = np.int64((mixed * _HASH) >> np.uint64(64 - _SEEN_BITS))
    before = seen[field, slot]
    if before >> 32 == length and equals(data, before & 0xFFFFFFFF, data, begin, length):
        return before & 0xFFFFFFFF
    seen[field, slot] = length << 32 | begin
    return begin


@inlined
def _read_word(
    data, kinds, starts, lengths, plan, word_data, word_starts, default, field, row, record, parts, views, valid
):  # fmt: skip
    """Index of the word; the default where the text is absent."""
    column = _column(kinds, lengths, plan, field, row)
    if column == _UNKNOWN:
        return _UNKNOWN
    found = default
    if column >= 0:
        begin, length = np.int64(starts[column, row]), np.int64(lengths[column, row])
        first, last = plan[field, FIRST_WORD], plan[field, LAST_WORD]
        found = find_word(data, begin, length, word_data, word_starts, first, last)
        if found < 0:
            return _UNKNOWN
    if found >= 0:
        begin, length = word_starts[found], word_starts[found + 1] - word_starts[found]
        _set_part(parts, field, _WORDS, begin, length)
        _put_view(views, valid, field, record, word_data, begin, length, 1)
    return found


@inlined
def _read_number(data, kinds, starts, lengths, plan, max_rank, field, row, record, parts, numbers, bits):
    column = plan[field, COLUMN]
    value = number_of(data, kinds[column, row], starts[column, row], lengths[column, row])
    numbers[field, record] = value
    if np.isnan(value):
        return kinds[column, row] == ABSENT or lengths[column, row] <= 0
    is_rank = plan[field, ROLE] == RANK
    if is_rank and (value != np.floor(value) or value < 0 or value > max_rank):
        return False
    _set_part(parts, field, _WHOLE, np.int64(value) if is_rank else bits[field, record], 0)
    return True


@inlined
def _set_part(parts, field, source, begin, length):
    parts[field, _SOURCE], parts[field, _BEGIN], parts[field, _LENGTH] = source, begin, length


@inlined
def _put_view(views, valid, field, record, data, begin, length, buffer):
    views[field, record, 0], views[field, record, 1] = view_of(data, begin, length, buffer)
    valid[field, record >> 3] |= np.uint8(1 << (record & 7))


@inlined
def _write_content(data, word_data, word_starts, objects, plan, parts, text, at):
    """Write the canonical text; where it ends."""
    begin_of_text = at
    for field in range(len(plan)):
        source, begin, length = parts[field, _SOURCE], parts[field, _BEGIN], parts[field, _LENGTH]
        word = plan[field, NAME]
        if length == _ABSENT or word < 0:
            continue
        # Every name begins with the separator, which is left out before the first one.
        name = word_starts[word] + (1 if at == begin_of_text else 0)
        at = copy_bytes(word_data, name, word_starts[word + 1] - name, text, at)
        if source == _WHOLE:
            at = write_whole(begin, text, at)
        elif source == _DATA:
            at = copy_bytes(data, begin, length, text, at)
        elif source == _WORDS:
            at = copy_bytes(word_data, begin, length, text, at)
        else:
            at = copy_bytes(objects, begin, length, text, at)
    return at


@inlined
def _sign(scratch, first, size, record, views, valid, hashes, ids):
    """The hash of the content, and an id made of it where the event has none."""
    hashes[record] = xxh64.digest(scratch, first, size, np.uint64(0))
    field = len(valid) - 1
    if not (valid[field, record >> 3] >> np.uint8(record & 7)) & 1:
        begin = record * _ID_LENGTH
        write_hexadecimal(hashes[record], ids, begin)
        write_hexadecimal(xxh64.digest(scratch, first, size, np.uint64(1)), ids, begin + _ID_LENGTH // 2)
        _put_view(views, valid, field, record, ids, begin, _ID_LENGTH, 1)
