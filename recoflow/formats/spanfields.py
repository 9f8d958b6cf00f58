# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: PLR0917 (a kernel takes arrays, not objects)
"""Metarank's list of fields, `[{"name": …, "value": …}, …]`, read and written as a JSON object with sorted keys.

What belongs here: the list's easy form, compiled. What does not: where such a list stands.

Fields are rows of an array of integers: position and length of the name, position, length and kind of the value.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from recoflow.compute.jit import jit_no_refcount
from recoflow.formats.spans import (
    ABSENT,
    CLOSE,
    CLOSE_LIST,
    COLON,
    COMMA,
    DECIMAL,
    LIST,
    OPEN,
    OPEN_LIST,
    QUOTE,
    TEXT,
    WHOLE,
    json_value,
    skip_blank,
    starts_with,
)
from recoflow.formats.wide import copy_bytes

MAX_FIELDS: Final = 64  # of one list; a longer one is odd
NAME, NAME_LENGTH, VALUE, VALUE_LENGTH, KIND = range(5)


@jit_no_refcount
def after_colon(data, at, end):
    """Position of the value behind a key; the end where there is no colon."""
    at = skip_blank(data, at, end)
    return skip_blank(data, at + 1, end) if at < end and data[at] == COLON else end


@jit_no_refcount
def read_fields(data, at, end, entries):
    """Read the fields of a list into `entries`, sorted by name; how many there are (-1 when odd), and where it ends."""
    if at >= end or data[at] != OPEN_LIST:
        return -1, at
    at = skip_blank(data, at + 1, end)
    if at < end and data[at] == CLOSE_LIST:
        return 0, at + 1
    count = 0
    while count < len(entries):
        at = _entry(data, at, end, entries[count])
        if at < 0 or not _sort_last(data, entries, count):
            return -1, at
        count += 1
        at = skip_blank(data, at, end)
        if at < end and data[at] == CLOSE_LIST:
            return count, at + 1
        if at >= end or data[at] != COMMA:
            return -1, at
        at = skip_blank(data, at + 1, end)
    return -1, at


@jit_no_refcount
def _entry(data, at, end, entry):
    """Read `{"name": …, "value": …}`; returns the position behind it, -1 when it is odd."""
    entry[NAME_LENGTH] = entry[VALUE_LENGTH] = -1
    mark = OPEN
    while at < end and data[at] == mark:
        at = skip_blank(data, at + 1, end)
        if entry[NAME_LENGTH] < 0 and starts_with(data, at, end, b'"name"'):
            kind, entry[NAME], entry[NAME_LENGTH], at = json_value(data, after_colon(data, at + 6, end), end)
            if kind != TEXT:
                return -1
        elif entry[VALUE_LENGTH] < 0 and starts_with(data, at, end, b'"value"'):
            at = after_colon(data, at + 7, end)
            if at < end and data[at] == OPEN_LIST:
                entry[VALUE], entry[KIND] = at, LIST
                at = _flat_list_end(data, at, end)
                entry[VALUE_LENGTH] = at - entry[VALUE]
            else:
                entry[KIND], entry[VALUE], entry[VALUE_LENGTH], at = json_value(data, at, end)
            if at < 0 or entry[KIND] <= ABSENT:
                return -1
        else:
            return -1
        at = skip_blank(data, at, end)
        mark = COMMA
    is_whole = entry[NAME_LENGTH] >= 0 and entry[VALUE_LENGTH] >= 0 and at < end and data[at] == CLOSE
    return at + 1 if is_whole else -1


@jit_no_refcount
def _flat_list_end(data, at, end):
    """Position behind a list of texts or of numbers, -1 when it is another."""
    at = skip_blank(data, at + 1, end)
    if at < end and data[at] == CLOSE_LIST:
        return at + 1
    have_texts = at < end and data[at] == QUOTE
    while at < end:
        kind, _, _, at = json_value(data, at, end)
        if (kind != TEXT) if have_texts else (kind not in (WHOLE, DECIMAL)):
            return -1
        at = skip_blank(data, at, end)
        if at < end and data[at] == CLOSE_LIST:
            return at + 1
        if at >= end or data[at] != COMMA:
            return -1
        at = skip_blank(data, at + 1, end)
    return -1


@jit_no_refcount
def _sort_last(data, entries, last):
    """Move the last entry to its place by name; false when the name stands twice."""
    place = last
    while place > 0:
        order = _compare(data, entries[place - 1], entries[place])
        if order == 0:
            return False
        if order < 0:
            return True
        for column in range(entries.shape[1]):
            kept = entries[place, column]
            entries[place, column] = entries[place - 1, column]
            entries[place - 1, column] = kept
        place -= 1
    return True


@jit_no_refcount
def _compare(data, first, second):
    for index in range(min(first[NAME_LENGTH], second[NAME_LENGTH])):
        difference = np.int64(data[first[NAME] + index]) - np.int64(data[second[NAME] + index])
        if difference != 0:
            return difference
    return first[NAME_LENGTH] - second[NAME_LENGTH]


@jit_no_refcount
def write_object(data, entries, count, text, at):
    """Write fields as a JSON object and return the position behind it."""
    text[at] = OPEN
    at += 1
    for index in range(count):
        if index > 0:
            text[at] = COMMA
            at += 1
        at = _write_text(data, entries[index, NAME], entries[index, NAME_LENGTH], text, at)
        text[at] = COLON
        at = _write_value(data, entries[index, KIND], entries[index, VALUE], entries[index, VALUE_LENGTH], text, at + 1)
    text[at] = CLOSE
    return at + 1


@jit_no_refcount
def _write_value(data, kind, begin, length, text, at):
    if kind == TEXT:
        return _write_text(data, begin, length, text, at)
    if kind != LIST:
        return copy_bytes(data, begin, length, text, at)
    end = begin + length
    text[at] = OPEN_LIST
    at += 1
    place = skip_blank(data, begin + 1, end)
    while data[place] != CLOSE_LIST:
        if data[place] == COMMA:
            text[at] = COMMA
            at += 1
            place = skip_blank(data, place + 1, end)
        element, first, size, place = json_value(data, place, end)
        at = _write_text(data, first, size, text, at) if element == TEXT else copy_bytes(data, first, size, text, at)
        place = skip_blank(data, place, end)
    text[at] = CLOSE_LIST
    return at + 1


@jit_no_refcount
def _write_text(data, begin, length, text, at):
    text[at] = QUOTE
    at = copy_bytes(data, begin, length, text, at + 1)
    text[at] = QUOTE
    return at + 1
