# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: PLR0917 (a kernel takes arrays, not objects)
"""The fields of Froomle events from spans, one field of some records after the other, compiled with numba.

What belongs here: what can be said of a field (its plan), and reading its values in the easy form, where there is no
doubt what `froomle.parse` makes of them. What does not: which fields there are, and what records are made of them.

A field at a time, because a loop that does one thing runs several times as fast as one that does what each field needs.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recoflow.compute.jit import jit_inline, jit_no_refcount
from recoflow.formats.spans import ABSENT, TEXT, Places, Spans, Words
from recoflow.formats.spantext import write_object
from recoflow.formats.spanvalues import MAX_INLINE, ODD, is_one_of, moment_of, number_of, view_of
from recoflow.formats.times import SECONDS_BELOW
from recoflow.formats.wide import equals, first_word

# What a plan says of a field: what it is; its columns among the spans, -1 for none, two for two names; bits of the
# requirements that it meets; its name in the canonical text, -1 for none; and a range of words.
ROLE, COLUMN, OTHER_COLUMN, NEED, NAME, FIRST_WORD, LAST_WORD = range(7)

# What a field is, and what its words are: none, none, texts that are no identity in small letters, texts that it may
# have, the same, none, none, none, the keys of the properties as JSON texts with a colon.
UNIQUE, REPEATING, IDENTITY, KNOWN, TYPE, NUMBER, RANK, TIME, OTHERS = range(9)

NOT_THERE: Final = -1  # the length of a value, or instead of the index of a column or word
SEEN_BITS: Final = 8  # of how many texts are remembered per field
_UNKNOWN: Final = -2  # instead of the index of a column or word
_HASH: Final = np.uint64(0x9E3779B97F4A7C15)


class Stretch(NamedTuple):
    """Some records that are read together, and the value of each field as it stands in the canonical text."""

    spans: Spans
    begins: Places  # [fields × records]: its place in the chunk, the words or the objects; a number's value
    lengths: Places  # [fields × records]: NOT_THERE where absent
    types: Places  # [records]: index of the event type, NOT_THERE where there is none


class Known(NamedTuple):
    """The words that fields may have, as what is compared with texts."""

    slots: Places  # [fields × a power of two]: words of the field by their hash, NOT_THERE where there is none
    keys: NDArray[np.uint64]  # [words × 2]
    views: NDArray[np.uint64]  # [words × 2]: Arrow's string views


def known(plan: Places, words: Words) -> Known:
    """The words of all fields, ready to be looked up."""
    count = len(words.starts) - 1
    most = int((plan[:, LAST_WORD] - plan[:, FIRST_WORD]).max(initial=0))
    slots = np.full((len(plan), 2 << most.bit_length()), NOT_THERE, np.int64)
    found = Known(slots, np.empty((count, 2), np.uint64), np.empty((count, 2), np.uint64))
    _fill(plan, words, found)
    return found


@jit_no_refcount
def read_texts(data, plan, words, field, stretch, first, last, is_odd, seen, views, valid):
    """Read a field that has any text from the records `first` to before `last`, and mark odd ones."""
    (kinds, starts, lengths, _), part_begins, part_lengths, _ = stretch
    word_data, word_starts = words
    role, first_word_, last_word = plan[field, ROLE], plan[field, FIRST_WORD], plan[field, LAST_WORD]
    column, other = plan[field, COLUMN], plan[field, OTHER_COLUMN]
    for record in range(first, last):
        row = record - first
        _put_absent(views, part_lengths, field, record, row)
        found = _column(kinds, lengths, column, other, row)
        if is_odd[record] or found < 0:
            is_odd[record] |= found == _UNKNOWN
            continue
        begin, length = np.int64(starts[found, row]), np.int64(lengths[found, row])
        if role == IDENTITY and is_one_of(data, begin, length, word_data, word_starts, first_word_, last_word):
            continue
        if role == REPEATING and length > MAX_INLINE:
            begin = _first_place(data, begin, length, seen, field)
        part_begins[field, row], part_lengths[field, row] = begin, length
        put_view(views, valid, field, record, data, begin, length, 0)


@jit_no_refcount
def read_words(data, plan, words, known, default, field, stretch, first, last, is_odd, views, valid):
    """The same for a field that has one of its words; the default where it is absent."""
    (kinds, starts, lengths, _), part_begins, part_lengths, types = stretch
    word_starts, word_views = words[1], known.views
    column, other = plan[field, COLUMN], plan[field, OTHER_COLUMN]
    for record in range(first, last):
        row = record - first
        _put_absent(views, part_lengths, field, record, row)
        found = _column(kinds, lengths, column, other, row)
        word = default if found == NOT_THERE else _UNKNOWN
        if found >= 0 and not is_odd[record]:
            word = _known_word(data, np.int64(starts[found, row]), np.int64(lengths[found, row]), words, known, field)
        is_odd[record] |= word == _UNKNOWN
        if plan[field, ROLE] == TYPE:
            types[row] = word - plan[field, FIRST_WORD] if word >= 0 else NOT_THERE
        if word >= 0:
            index = np.uintp(word)
            part_begins[field, row] = word_starts[index]
            part_lengths[field, row] = word_starts[index + np.uintp(1)] - word_starts[index]
            _put(views, valid, field, record, word_views[index, 0], word_views[index, 1])


@jit_no_refcount
def read_numbers(data, plan, max_rank, field, stretch, first, last, is_odd, numbers, bits):
    """The same for a number; NaN where it is absent. Its bits stand in the canonical text, a rank as it is."""
    (kinds, starts, lengths, _), part_begins, part_lengths, _ = stretch
    column, is_rank = plan[field, COLUMN], plan[field, ROLE] == RANK
    for record in range(first, last):
        row = record - first
        part_lengths[field, row] = NOT_THERE
        numbers[field, record] = np.nan
        if is_odd[record] or kinds[column, row] == ABSENT or lengths[column, row] <= 0:
            continue
        value = number_of(data, kinds[column, row], starts[column, row], lengths[column, row])
        if np.isnan(value) or (is_rank and (value != np.floor(value) or value < 0 or value > max_rank)):
            is_odd[record] = True
            continue
        numbers[field, record] = value
        part_begins[field, row] = np.int64(value) if is_rank else bits[field, record]
        part_lengths[field, row] = 0


@jit_no_refcount
def read_moments(data, plan, latest, field, stretch, first, last, is_odd, moments):
    """The same for a time; a record that has none is odd."""
    (kinds, starts, lengths, _), part_begins, part_lengths, _ = stretch
    column = plan[field, COLUMN]
    for record in range(first, last):
        row = record - first
        if is_odd[record]:
            continue
        moment = moment_of(data, kinds[column, row], starts[column, row], lengths[column, row], latest, SECONDS_BELOW)
        is_odd[record] = moment <= ODD
        moments[record] = part_begins[field, row] = moment
        part_lengths[field, row] = 0


@jit_no_refcount
def write_objects(data, plan, words, others, field, stretch, first, last, is_odd, views, valid, objects, at):
    """Write the properties of these records behind those of others, and return where they end."""
    (kinds, starts, lengths, _), part_begins, part_lengths, _ = stretch
    word_data, word_starts = words
    keys = plan[field, FIRST_WORD]
    for record in range(first, last):
        row = record - first
        _put_absent(views, part_lengths, field, record, row)
        if is_odd[record]:
            continue
        end = write_object(data, kinds, starts, lengths, others, word_data, word_starts, keys, row, objects, at)
        if end > at:
            part_begins[field, row], part_lengths[field, row] = at, end - at
            put_view(views, valid, field, record, objects, at, end - at, 0)
        at = end
    return at


@jit_no_refcount
def mark_incomplete(plan, needed, stretch, present, first, last, is_odd):
    """Mark records that lack what their event type needs, given bits of that per type; `present` is room for work."""
    _, _, part_lengths, types = stretch
    for row in range(last - first):
        present[row] = 0
    for field in range(len(plan)):
        for row in range(last - first):
            present[row] |= plan[field, NEED] if part_lengths[field, row] != NOT_THERE else 0
    for record in range(first, last):
        row = record - first
        if not is_odd[record]:
            is_odd[record] = types[row] < 0 or (present[row] & needed[types[row]]) != needed[types[row]]


@jit_inline
def _put_absent(views, part_lengths, field, record, row):
    part_lengths[field, row] = NOT_THERE
    views[field, record, 0] = views[field, record, 1] = 0


@jit_inline
def put_view(views, valid, field, record, data, begin, length, buffer):
    """Put the view of a text that is there; `buffer` tells which of the column's data it lies in."""
    head, tail = view_of(data, begin, length, buffer)
    _put(views, valid, field, record, head, tail)


@jit_inline
def _put(views, valid, field, record, head, tail):
    views[field, record, 0], views[field, record, 1] = head, tail
    valid[field, record >> 3] |= np.uint8(1 << (record & 7))


@jit_inline
def _column(kinds, lengths, first, second, row):
    """Which of a text's columns has it: NOT_THERE when none has, _UNKNOWN when both have or it is no text."""
    found = NOT_THERE
    for column in (first, second):
        if column >= 0 and lengths[column, row] > 0 and kinds[column, row] != ABSENT:
            if found != NOT_THERE or kinds[column, row] != TEXT:
                return _UNKNOWN
            found = column
    return found


@jit_inline
def _first_place(data, begin, length, seen, field):
    """Where the same text stood before, if that is remembered: rows with equal texts get equal views."""
    slot = _mixed(*_key(data, begin, length)) & np.uintp(seen.shape[1] - 1)
    before = seen[field, slot]
    if before >> 32 == length and equals(data, before & 0xFFFFFFFF, data, begin, length):
        return before & 0xFFFFFFFF
    seen[field, slot] = length << 32 | begin
    return begin


@jit_inline
def _known_word(data, begin, length, words, known, field):
    """Index of the field's word that the text is, _UNKNOWN when it is none."""
    (word_data, word_starts), (slots, keys, _) = words, known
    last_slot = np.uintp(slots.shape[1] - 1)
    head, tail = _key(data, begin, length)
    slot = _mixed(head, tail) & last_slot
    while slots[field, slot] >= 0:
        word = np.uintp(slots[field, slot])
        is_likely = keys[word, 0] == head and keys[word, 1] == tail
        if is_likely and (length <= MAX_INLINE or equals(data, begin, word_data, word_starts[word], length)):
            return np.int64(word)
        slot = (slot + np.uintp(1)) & last_slot
    return _UNKNOWN


@jit_no_refcount
def _fill(plan, words, known):
    (word_data, word_starts), (slots, keys, views) = words, known
    last_slot = np.uintp(slots.shape[1] - 1)
    for word in range(len(keys)):
        begin, length = word_starts[word], word_starts[word + 1] - word_starts[word]
        keys[word, 0], keys[word, 1] = _key(word_data, begin, length)
        views[word, 0], views[word, 1] = view_of(word_data, begin, length, 1)
    for field in range(len(plan)):
        if plan[field, ROLE] in (KNOWN, TYPE):
            for word in range(plan[field, FIRST_WORD], plan[field, LAST_WORD]):
                slot = _mixed(keys[word, 0], keys[word, 1]) & last_slot
                while slots[field, slot] >= 0:
                    slot = (slot + np.uintp(1)) & last_slot
                slots[field, slot] = word


@jit_inline
def _key(data, begin, length):
    """A text's length and first four bytes, and its last eight: all of it when it has up to twelve."""
    head = np.uint64(length) | (first_word(data, begin, min(length, 4)) << np.uint64(32))
    return head, first_word(data, begin + max(length - 8, 0), length)


@jit_inline
def _mixed(head, tail):
    """Its hash; the lowest bits tell where it belongs in a table."""
    return np.uintp(((head ^ (tail * _HASH)) * _HASH) >> np.uint64(40))
