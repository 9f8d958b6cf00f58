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

from recoflow.compute import xxh64
from recoflow.compute.jit import jit_inline, jit_no_refcount
from recoflow.formats import buffers
from recoflow.formats.spanplan import (
    IDENTITY,
    KNOWN,
    NAME,
    NOT_THERE,
    NUMBER,
    RANK,
    REPEATING,
    ROLE,
    SEEN_BITS,
    TIME,
    TYPE,
    UNIQUE,
    Stretch,
    known,
    mark_incomplete,
    put_view,
    read_moments,
    read_numbers,
    read_texts,
    read_words,
    write_objects,
)
from recoflow.formats.spans import Bytes, Form, Places, Words, empty, find_spans
from recoflow.formats.spantext import write_hexadecimal, write_whole
from recoflow.formats.spanvalues import of_views
from recoflow.formats.wide import copy_bytes

_AT_ONCE: Final = 16  # records; a text that has just been written byte by byte is slow to read word by word
_IN_CACHE: Final = 1 << 12  # values whose spans, 9 bytes each, stay in a core's own cache until they are read
_ID_LENGTH: Final = 32


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
        buffers.empty((size, count, 2), np.uint64),
        np.zeros((size, count // 8 + 1), np.uint8),
        buffers.empty((size, count), np.float64),
        buffers.empty(count, np.int64),
        buffers.empty(count, np.uint64),
        buffers.empty(count * _ID_LENGTH, np.uint8),
        buffers.empty(len(data) + count * key_size if len(rules.others) else 0, np.uint8),
    )
    longest = int((ends - begins).max(initial=0)) + 2 * key_size + 21 * size
    scratch = np.zeros((longest // 8 + 2) * _AT_ONCE, np.uint64)
    rows = (_IN_CACHE // max(form.columns, 1) // _AT_ONCE + 1) * _AT_ONCE
    values, per_record = np.empty((2, size, rows), np.int64), np.empty((2, rows), np.int64)
    stretch = Stretch(empty(rows, form), values[0], values[1], per_record[0])
    known_words = known(rules.plan, rules.words)
    seen = np.zeros((size, 1 << SEEN_BITS), np.int64)
    bits, text = found.numbers.view(np.int64), scratch.view(np.uint8)
    _read_records(
        data, begins, ends, form, stretch, rules, found, is_odd, bits, per_record[1], known_words, seen, scratch, text
    )
    return found


def texts(found: Columns, field: int, *data: Bytes) -> pl.Series:
    """The texts of a field as a string column that points into `data`; null where absent."""
    return of_views(len(found.moments), found.valid[field], found.views[field], *data)


@jit_no_refcount
def _read_records(
    data, begins, ends, form, stretch, rules, found, is_odd, bits, work, known_words, seen, scratch, text
):  # fmt: skip
    spans, plan, end_of_objects = stretch.spans, rules.plan, 0
    for first in range(0, len(is_odd), len(work)):
        last = min(first + len(work), len(is_odd))
        find_spans(data, begins, ends, first, last, form, spans)
        for record in range(first, last):
            is_odd[record] |= spans.is_odd[record - first]
        for field in range(len(plan)):
            end_of_objects = _read_field(
                data, field, stretch, rules, found, first, last, is_odd, bits, known_words, seen, end_of_objects
            )
        mark_incomplete(plan, rules.needed, stretch, work, first, last, is_odd)
        for block in range(first, last, _AT_ONCE):
            _sign_block(
                data, rules, stretch, found, first, block, min(block + _AT_ONCE, last), is_odd, work, scratch, text
            )


@jit_no_refcount
def _read_field(
    data, field, stretch, rules, found, first, last, is_odd, bits, known_words, seen, end_of_objects
):  # fmt: skip
    plan, words, _, default_type, latest, max_rank, others = rules
    views, valid, numbers, moments, _, _, objects = found
    role = plan[field, ROLE]
    if role in (UNIQUE, REPEATING, IDENTITY):
        read_texts(data, plan, words, field, stretch, first, last, is_odd, seen, views, valid)
    elif role in (KNOWN, TYPE):
        default = default_type if role == TYPE else NOT_THERE
        read_words(data, plan, words, known_words, default, field, stretch, first, last, is_odd, views, valid)
    elif role in (NUMBER, RANK):
        read_numbers(data, plan, max_rank, field, stretch, first, last, is_odd, numbers, bits)
    elif role == TIME:
        read_moments(data, plan, latest, field, stretch, first, last, is_odd, moments)
    else:
        return write_objects(
            data, plan, words, others, field, stretch, first, last, is_odd, views, valid, objects, end_of_objects
        )
    return end_of_objects


@jit_no_refcount
def _sign_block(data, rules, stretch, found, first, block, end_of_block, is_odd, sizes, scratch, text):
    """Hashes and ids of some records: all their texts first, then the hash of each."""
    plan, (word_data, word_starts) = rules.plan, rules.words
    _, part_begins, part_lengths, _ = stretch
    size_of_one = len(scratch) // _AT_ONCE
    for record in range(block, end_of_block):
        if not is_odd[record]:
            begin = (record - block) * size_of_one * 8
            end = _write_content(
                data,
                word_data,
                word_starts,
                found.objects,
                plan,
                part_begins,
                part_lengths,
                record - first,
                text,
                begin,
            )
            sizes[record - block] = end - begin
    for record in range(block, end_of_block):
        if not is_odd[record]:
            index = record - block
            _sign(scratch, index * size_of_one, sizes[index], record, found.views, found.valid, found.hashes, found.ids)


@jit_inline
def _write_content(data, word_data, word_starts, objects, plan, part_begins, part_lengths, row, text, at):
    """Write the canonical text; where it ends."""
    begin_of_text = at
    for field in range(len(plan)):
        role, word = plan[field, ROLE], plan[field, NAME]
        begin, length = part_begins[field, row], part_lengths[field, row]
        if length == NOT_THERE or word < 0:
            continue
        # Every name begins with the separator, which is left out before the first one.
        name = word_starts[word] + (1 if at == begin_of_text else 0)
        at = copy_bytes(word_data, name, word_starts[word + 1] - name, text, at)
        if role <= IDENTITY:
            at = copy_bytes(data, begin, length, text, at)
        elif role <= TYPE:
            at = copy_bytes(word_data, begin, length, text, at)
        elif role <= TIME:
            at = write_whole(begin, text, at)
        else:
            at = copy_bytes(objects, begin, length, text, at)
    return at


@jit_inline
def _sign(scratch, first, size, record, views, valid, hashes, ids):
    """The hash of the content, and an id made of it where the event has none."""
    hashes[record] = xxh64.digest(scratch, first, size, np.uint64(0))
    field = len(valid) - 1
    if not (valid[field, record >> 3] >> np.uint8(record & 7)) & 1:
        begin = record * _ID_LENGTH
        write_hexadecimal(hashes[record], ids, begin)
        write_hexadecimal(xxh64.digest(scratch, first, size, np.uint64(1)), ids, begin + _ID_LENGTH // 2)
        put_view(views, valid, field, record, ids, begin, _ID_LENGTH, 1)
