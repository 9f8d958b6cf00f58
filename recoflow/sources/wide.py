# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="misc"
"""Text eight bytes at a time: searching, comparing and copying, compiled with numba.

What belongs here: loops over bytes in which ingest spends its time. What does not: what the bytes mean.

Positions are unsigned inside of loops, because those need no test for negative ones. Words are read from and written to
any position, so the last bytes of an array are always handled one by one: nothing is touched outside of it.

Source of the search: "Determine if a word has a zero byte" in S. E. Anderson, Bit Twiddling Hacks. It can name a byte
too many above one that it found, never below, and only the first one counts here.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from recoflow.compiled import inlined

_U = np.uint64
_ONES, _HIGHS = _U(0x0101010101010101), _U(0x8080808080808080)
_QUOTES, _BACKSLASHES, _COMMAS, _SPACES = _ONES * _U(0x22), _ONES * _U(0x5C), _ONES * _U(0x2C), _ONES * _U(0x20)
_QUOTE, _BACKSLASH, _COMMA, _SPACE = 0x22, 0x5C, 0x2C, 0x20
_ONE, _EIGHT = np.uintp(1), np.uintp(8)
_WORD: Final = ir.IntType(64)


def _place_of_word(context, builder, array_type, array, place):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [place]), _WORD.as_pointer())


@intrinsic
def load(_typing, array, place):  # noqa: ARG001 (numba calls it by these names)
    """The eight bytes from a position on, the first one lowest."""

    def generate(context, builder, signature, values):
        pointer = _place_of_word(context, builder, signature.args[0], *values)
        return builder.load(pointer, align=1)

    return types.uint64(array, types.uintp), generate


@intrinsic
def store(_typing, array, place, word):  # noqa: ARG001
    """Write eight bytes from a position on."""

    def generate(context, builder, signature, values):
        pointer = _place_of_word(context, builder, signature.args[0], *values[:2])
        builder.store(values[2], pointer, align=1)
        return context.get_dummy_value()

    return types.void(array, types.uintp, types.uint64), generate


@intrinsic
def _zeros_below(_typing, word):  # noqa: ARG001
    """How many bits stand below the lowest one that is set; the word must not be 0."""

    def generate(_context, builder, _signature, values):
        return builder.cttz(values[0], ir.IntType(1)(1))

    return types.uint64(types.uint64), generate


@inlined
def _has_zero(word):
    """The high bit of each byte that is zero."""
    return (word - _ONES) & ~word & _HIGHS


@inlined
def _special(word):
    """The high bit of each byte that is a backslash or a control character."""
    return _has_zero(word ^ _BACKSLASHES) | ((word - _SPACES) & ~word & _HIGHS)


@inlined
def text_end(data, at, end):
    """Position of the closing quote; -1 when there is none before a control character or an escape."""
    place, last = np.uintp(at), np.uintp(end)
    while place + _EIGHT <= last:
        word = load(data, place)
        found = _has_zero(word ^ _QUOTES) | _special(word)
        if found != _U(0):
            place += np.uintp(_zeros_below(found) >> _U(3))
            return np.int64(place) if data[place] == _QUOTE else -1
        place += _EIGHT
    while place < last:
        byte = data[place]
        if byte == _QUOTE:
            return np.int64(place)
        if byte < _SPACE or byte == _BACKSLASH:
            return -1
        place += _ONE
    return -1


@inlined
def cell_end(data, at, end):
    """Position behind a bare cell of CSV; -1 when it has a quote, a control character or a backslash."""
    place, last = np.uintp(at), np.uintp(end)
    while place + _EIGHT <= last:
        word = load(data, place)
        found = _has_zero(word ^ _COMMAS) | _has_zero(word ^ _QUOTES) | _special(word)
        if found != _U(0):
            place += np.uintp(_zeros_below(found) >> _U(3))
            return np.int64(place) if data[place] == _COMMA else -1
        place += _EIGHT
    while place < last and data[place] != _COMMA:
        byte = data[place]
        if byte < _SPACE or byte in (_QUOTE, _BACKSLASH):
            return -1
        place += _ONE
    return np.int64(place)


@inlined
def equals(data, at, other, other_at, length):
    """Whether so many bytes are the same."""
    first, second, rest = np.uintp(at), np.uintp(other_at), np.uintp(length)
    while rest >= _EIGHT:
        if load(data, first) != load(other, second):
            return False
        first += _EIGHT
        second += _EIGHT
        rest -= _EIGHT
    if rest == np.uintp(0):
        return True
    if first + _EIGHT <= np.uintp(len(data)) and second + _EIGHT <= np.uintp(len(other)):
        return low_bytes(load(data, first) ^ load(other, second), rest) == _U(0)
    for index in range(rest):  # noqa: SIM110 (numba compiles no generators)
        if data[first + index] != other[second + index]:
            return False
    return True


@inlined
def low_bytes(word, count):
    """The first bytes of a word, 1 to 8 of them; the others 0."""
    return word & (~_U(0) >> ((_EIGHT - np.uintp(count)) << np.uintp(3)))


@inlined
def copy_bytes(source, begin, length, target, at):
    """Copy so many bytes and return the position behind them; up to seven bytes behind that may be overwritten."""
    first, to, rest = np.uintp(begin), np.uintp(at), np.uintp(length)
    while rest >= _EIGHT:
        store(target, to, load(source, first))
        first += _EIGHT
        to += _EIGHT
        rest -= _EIGHT
    if rest > np.uintp(0):
        if first + _EIGHT <= np.uintp(len(source)) and to + _EIGHT <= np.uintp(len(target)):
            store(target, to, load(source, first))
        else:
            for index in range(rest):
                target[to + index] = source[first + index]
    return at + length


@inlined
def first_word(data, at, length):
    """The first bytes of a text, up to eight of them, as a word; 0 where the text has no more."""
    place, count = np.uintp(at), np.uintp(min(length, 8))
    if count == np.uintp(0):
        return _U(0)
    if place + _EIGHT <= np.uintp(len(data)):
        return low_bytes(load(data, place), count)
    word = _U(0)
    for index in range(count):
        word |= _U(data[place + index]) << _U(index << np.uintp(3))
    return word
