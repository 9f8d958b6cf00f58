# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: PLR0917 (a kernel takes arrays, not objects)
"""Metarank's lists by the chunk: fields as JSON objects, the items of a ranking as rows, and the content's hash.

What belongs here: compiled reading of the easy form of both lists, and writing what `metarank` and `canonical` make of
them. Whatever is not easy is odd. What does not: keys outside of the lists, and what an event means.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recoflow.compute import xxh64
from recoflow.compute.jit import jit, jit_no_refcount
from recoflow.formats.spanfields import (
    KIND,
    MAX_FIELDS,
    NAME,
    NAME_LENGTH,
    VALUE,
    VALUE_LENGTH,
    after_colon,
    read_fields,
    write_object,
)
from recoflow.formats.spans import (
    CLOSE,
    CLOSE_LIST,
    COMMA,
    DECIMAL,
    OPEN,
    OPEN_LIST,
    QUOTE,
    TEXT,
    TRUTH,
    WHOLE,
    Bytes,
    Places,
    json_value,
    skip_blank,
    starts_with,
)
from recoflow.formats.spantext import write_whole
from recoflow.formats.spanvalues import plain_number
from recoflow.formats.wide import copy_bytes

ITEM, USER, RANKING, INTERACTION = range(4)  # what a record is
VISITOR, SESSION, SUBJECT, TYPE, LINK, FIELDS, ITEMS = range(7)  # the spans of a record that are read here

MAX_PROPERTIES: Final = 64 * 1024**2  # bytes of properties that the rankings of one chunk may give

_ID, _ID_LENGTH, _SCORE, _SCORE_LENGTH, _SCORE_KIND = range(5)  # of one item
SPACE_LEADS: Final = (0xC2, 0xE1, 0xE2, 0xE3)  # first bytes of the white space that is not ASCII


class Rows(NamedTuple):
    """Rows of events: the record of each, its part, and spans of its item (in the chunk) and properties (in `text`)."""

    records: NDArray[np.int32]
    parts: NDArray[np.int32]
    starts: NDArray[np.int32]
    lengths: NDArray[np.int32]
    relevancy: NDArray[np.float64]
    property_starts: NDArray[np.int32]
    property_lengths: NDArray[np.int32]


class RecordFields(NamedTuple):
    """What was read: rows in the order of their records, and the fields of each record as spans of `text`."""

    rows: Rows
    text: Bytes
    field_starts: NDArray[np.int32]
    field_lengths: NDArray[np.int32]
    hashes: NDArray[np.uint64]


def read(
    data: Bytes, what: NDArray[np.int8], moments: Places, starts: Places, lengths: Places, is_odd: NDArray[np.bool_]
) -> RecordFields:
    """Read the records that are not odd yet and mark those that turn out to be.

    Args:
        data: the chunk's bytes.
        what: ITEM, USER, RANKING or INTERACTION per record.
        moments: microseconds since 1970 per record.
        starts, lengths: spans [VISITOR … ITEMS × records], the length -1 where absent. SUBJECT is the item, or the user
            of a USER record.
        is_odd: changed in place.
    """
    count = len(what)
    capacity = int(np.count_nonzero(data == OPEN))
    whole = np.empty((6, capacity), np.int32)
    rows = Rows(whole[0], whole[1], whole[2], whole[3], np.empty(capacity), whole[4], whole[5])
    text = np.empty(len(data) + 2 * count, np.uint8)
    fields = np.zeros((2, count), np.int32)
    hashes = np.zeros(count, np.uint64)
    height, size = _read_records(
        data, what, moments, starts, lengths, is_odd, *rows, text, *fields, hashes, MAX_PROPERTIES
    )
    return RecordFields(_first(rows, height), text[:size], fields[0], fields[1], hashes)


def _first(rows: Rows, height: int) -> Rows:
    cut: Any = (column[:height] for column in rows)
    return Rows(*cut)


@jit
def _read_records(
    data, what, moments, starts, lengths, is_odd,
    records, parts, id_starts, id_lengths, relevancy, property_starts, property_lengths,
    text, field_starts, field_lengths, hashes, room,
):  # fmt: skip
    entries = np.zeros((MAX_FIELDS, 5), np.int64)
    item = np.zeros(5, np.int64)
    words64 = np.zeros(1024, np.uint64)
    row, size = 0, 0
    for record in range(len(what)):
        if is_odd[record]:
            continue
        begin, length = starts[FIELDS, record], lengths[FIELDS, record]
        fields, _ = read_fields(data, begin, begin + length, entries) if length > 0 else (0, begin)
        if fields < 0 or (what[record] == ITEM and _has_availability(data, entries, fields)):
            is_odd[record] = True
            continue
        first = size
        size = write_object(data, entries, fields, text, size)
        field_starts[record], field_lengths[record] = first, size - first
        words64 = _grown(words64, 1024 + 12 * lengths[:, record].sum() + lengths[ITEMS, record] * (size - first) // 4)
        content = words64.view(np.uint8)
        at = _write_head(data, what[record], moments[record], starts[:, record], lengths[:, record], content)
        at = _write_fields(what[record], text, first, size, content, at)
        if what[record] == RANKING:
            begin = starts[ITEMS, record]
            end = begin + lengths[ITEMS, record]
            shared = size - first if fields else -1
            at, added, written = _read_items(
                data, begin, end, entries, item, first, shared, record, row,
                records, parts, id_starts, id_lengths, relevancy, property_starts, property_lengths,
                text, size, content, at,
            )  # fmt: skip
            room -= added * max(shared, 0)
            if at < 0 or room < 0:
                is_odd[record] = True
                continue
            row += added
            size = written
        elif what[record] == INTERACTION:
            records[row], parts[row], relevancy[row] = record, 0, np.nan
            id_starts[row], id_lengths[row] = starts[SUBJECT, record], lengths[SUBJECT, record]
            property_starts[row], property_lengths[row] = first, size - first if fields else -1
            row += 1
        hashes[record] = xxh64.digest(words64, 0, at, np.uint64(0))
    return row, size


@jit_no_refcount
def _has_availability(data, entries, fields):
    """Whether one of the fields may be of `fields.AVAILABILITIES` and is no switch, so that its words must be read."""
    for index in range(fields):
        if entries[index, KIND] == TRUTH:
            continue
        name, length = entries[index, NAME], entries[index, NAME_LENGTH]
        if length == 12 and (
            starts_with(data, name, len(data), b"availability") or starts_with(data, name, len(data), b"is_available")
        ):
            return True
    return False


@jit
def _grown(words64, size):
    return words64 if size // 8 + 2 <= len(words64) else np.zeros(size // 4 + 2, np.uint64)


@jit_no_refcount
def _write_head(data, what, moment, starts, lengths, content):
    """What stands before the fields in the canonical text; returns its size."""
    if what == ITEM:
        at = _put(content, 0, b"entity=item\x1fitem=")
        at = copy_bytes(data, starts[SUBJECT], lengths[SUBJECT], content, at)
    elif what == USER:
        at = _put(content, 0, b"entity=user\x1fuser=")
        at = copy_bytes(data, starts[SUBJECT], lengths[SUBJECT], content, at)
    elif what == RANKING:
        at = _put(content, 0, b"kind=ranking")
    else:
        at = _put(content, 0, b"kind=interaction")
    at = write_whole(moment, content, _put(content, at, b"\x1ftimestamp="))
    if what >= RANKING:
        at = _put_text(content, at, b"\x1fuser_id=", data, starts[VISITOR], lengths[VISITOR])
        at = _put_text(content, at, b"\x1fsession_id=", data, starts[SESSION], lengths[SESSION])
    if what == INTERACTION:
        at = _put_text(content, at, b"\x1fitem_id=", data, starts[SUBJECT], lengths[SUBJECT])
        at = _put_text(content, at, b"\x1finteraction_type=", data, starts[TYPE], lengths[TYPE])
        at = _put_text(content, at, b"\x1frequest_id=", data, starts[LINK], lengths[LINK])
    return at


@jit_no_refcount
def _write_fields(what, text, first, last, content, at):
    if what <= USER:
        at = _put(content, at, b"\x1ffields=")
    elif what == RANKING or last - first > 2:
        at = _put(content, at, b"\x1fproperties=")
    else:
        return at
    return copy_bytes(text, first, last - first, content, at)


@jit_no_refcount
def _read_items(
    data, at, end, entries, item, shared_start, shared, record, row,
    records, parts, id_starts, id_lengths, relevancy, property_starts, property_lengths,
    text, size, content, written,
):  # fmt: skip
    """Add a ranking's rows and its items' canonical text; returns the content's end (-1: odd), rows, the text's end."""
    written = _put(content, written, b"\x1fitems=")
    part = 0
    mark = OPEN_LIST
    while data[at] == mark:
        fields, at = _item(data, skip_blank(data, at + 1, end), end, entries, item)
        if fields < 0 or (fields > 0 and shared >= 0):
            return -1, 0, size
        start, length = shared_start, shared
        if fields > 0:
            start, size = size, write_object(data, entries, fields, text, size)
            length = size - start
        value = np.nan
        if item[_SCORE_LENGTH] >= 0:
            value = plain_number(data, item[_SCORE], item[_SCORE] + item[_SCORE_LENGTH])
            if value == 0.0 and data[item[_SCORE]] == 0x2D:  # its text is not that of zero
                return -1, 0, size
        content[written] = mark
        written = _write_item(data, item, text, start, length, content, written + 1)
        place = row + part
        records[place], parts[place], relevancy[place] = record, part + 1, value
        id_starts[place], id_lengths[place] = item[_ID], item[_ID_LENGTH]
        property_starts[place], property_lengths[place] = start, length
        part += 1
        mark = COMMA
        at = skip_blank(data, at, end)
    if data[at] != CLOSE_LIST:
        return -1, 0, size
    content[written] = CLOSE_LIST
    return written + 1, part, size


@jit_no_refcount
def _write_item(data, item, text, start, length, content, at):
    """The item as `canonical.json_text` writes it."""
    at = _put(content, at, b'{"item_id":"')
    at = copy_bytes(data, item[_ID], item[_ID_LENGTH], content, at)
    if length < 0:
        at = _put(content, at, b'","properties":null,"relevancy":')
    else:
        at = _put(content, at, b'","properties":"')
        for index in range(start, start + length):
            if text[index] == QUOTE:
                content[at] = 0x5C
                at += 1
            content[at] = text[index]
            at += 1
        at = _put(content, at, b'","relevancy":')
    if item[_SCORE_LENGTH] < 0:
        at = _put(content, at, b"null")
    else:
        at = copy_bytes(data, item[_SCORE], item[_SCORE_LENGTH], content, at)
        if item[_SCORE_KIND] == WHOLE:
            at = _put(content, at, b".0")
    content[at] = CLOSE
    return at + 1


@jit_no_refcount
def _item(data, at, end, entries, item):
    """Number of the item's own fields (-1 when odd) and the position behind the item."""
    item[_ID_LENGTH] = item[_SCORE_LENGTH] = -1
    fields = -1
    mark = OPEN
    while at < end and data[at] == mark:
        at = skip_blank(data, at + 1, end)
        if item[_ID_LENGTH] < 0 and starts_with(data, at, end, b'"id"'):
            kind, item[_ID], item[_ID_LENGTH], at = json_value(data, after_colon(data, at + 4, end), end)
            if kind != TEXT or not is_identifier(data, item[_ID], item[_ID_LENGTH]):
                return -1, at
        elif item[_SCORE_LENGTH] < 0 and starts_with(data, at, end, b'"relevancy"'):
            item[_SCORE_KIND], item[_SCORE], item[_SCORE_LENGTH], at = json_value(
                data, after_colon(data, at + 11, end), end
            )
            if item[_SCORE_KIND] not in (WHOLE, DECIMAL):
                return -1, at
        elif fields < 0 and starts_with(data, at, end, b'"fields"'):
            fields, at = read_fields(data, after_colon(data, at + 8, end), end, entries)
            if fields < 0:
                return -1, at
        else:
            return -1, at
        at = skip_blank(data, at, end)
        mark = COMMA
    if item[_ID_LENGTH] < 0 or at >= end or data[at] != CLOSE:
        return -1, at
    return _take_relevancy(data, entries, max(fields, 0), item), at + 1


@jit_no_refcount
def _take_relevancy(data, entries, fields, item):
    """Use a field `relevancy` where the item has no other; returns how many fields are left."""
    if item[_SCORE_LENGTH] >= 0:
        return fields
    for index in range(fields):
        is_named = entries[index, NAME_LENGTH] == 9 and starts_with(data, entries[index, NAME], len(data), b"relevancy")
        if is_named and (entries[index, KIND] == WHOLE or entries[index, KIND] == DECIMAL):
            item[_SCORE], item[_SCORE_LENGTH] = entries[index, VALUE], entries[index, VALUE_LENGTH]
            item[_SCORE_KIND] = entries[index, KIND]
            for later in range(index + 1, fields):
                for column in range(entries.shape[1]):
                    entries[later - 1, column] = entries[later, column]
            return fields - 1
    return fields


@jit_no_refcount
def is_identifier(data, begin, length):
    """Whether the text is surely more than white space."""
    return length > 0 and data[begin] not in SPACE_LEADS


@jit_no_refcount
def _put(text, at, literal):
    for index in range(len(literal)):
        text[at + index] = literal[index]
    return at + len(literal)


@jit_no_refcount
def _put_text(text, at, name, data, begin, length):
    if length < 0:
        return at
    return copy_bytes(data, begin, length, text, _put(text, at, name))
