# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: PLR0917 (a kernel takes arrays, not objects)
"""Writing values as the canonical text has them, compiled with numba.

What belongs here: digits, and the JSON object of a Froomle event's other fields. What does not: which fields an event
has, and Metarank's lists of fields (`spanfields`).
"""

from __future__ import annotations

import numpy as np

from recoflow.compute.jit import jit_inline, jit_no_refcount
from recoflow.compute.unaligned import store
from recoflow.formats.spans import ABSENT, TEXT
from recoflow.formats.wide import copy_bytes, digits_of_number

_EIGHT_DIGITS = np.uint64(100_000_000)


@jit_no_refcount
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
    while rest >= _EIGHT_DIGITS:
        end -= np.uintp(8)
        store(text, end, digits_of_number(rest % _EIGHT_DIGITS))
        rest //= _EIGHT_DIGITS
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


@jit_inline
def write_hexadecimal(number, text, at):
    """Write the 16 digits of a word."""
    for index in range(16):
        digit = np.uint8((number >> np.uint64(60 - 4 * index)) & np.uint64(15))
        text[at + index] = digit + np.uint8(0x30 if digit < 10 else 0x57)


@jit_inline
def write_object(data, kinds, starts, lengths, columns, word_data, word_starts, first_key, record, text, at):
    """Write a JSON object of a record's values in these columns, nothing when it has none; where it ends.

    Their keys are words from `first_key` on, in ascending order, as JSON texts with a colon, e.g. `"shelf":`.
    """
    begin_of_object = at
    for index in range(len(columns)):
        column = columns[index]
        kind = kinds[column, record]
        if kind == ABSENT:
            continue
        text[at] = 0x7B if at == begin_of_object else 0x2C
        key = word_starts[first_key + index]
        at = copy_bytes(word_data, key, word_starts[first_key + index + 1] - key, text, at + 1)
        if kind == TEXT:
            text[at] = 0x22
            at += 1
        at = copy_bytes(data, starts[column, record], lengths[column, record], text, at)
        if kind == TEXT:
            text[at] = 0x22
            at += 1
    if at > begin_of_object:
        text[at] = 0x7D
        at += 1
    return at
