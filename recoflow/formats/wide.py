# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="misc"
"""Text many bytes at a time: searching, comparing and copying, compiled with numba.

What belongs here: loops over bytes in which ingest spends its time. What does not: what the bytes mean.

Positions are unsigned inside of loops, because those need no test for negative ones. Vectors and words are read from
and written to any position, so the last bytes of an array are always handled one by one: nothing is touched outside.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from recoflow.compute.jit import jit_inline, jit_no_refcount
from recoflow.compute.unaligned import load, pointer

_U = np.uint64
_QUOTE, _BACKSLASH, _COMMA, _SPACE, _LINE_END, _NOT_ASCII = 0x22, 0x5C, 0x2C, 0x20, 0x0A, 0x80
_ONE, _EIGHT, WIDTH = np.uintp(1), np.uintp(8), np.uintp(32)
CELL_WIDTH: Final = int(WIDTH)
_ALL: Final = _U((1 << int(WIDTH)) - 1)
_WORD: Final = ir.IntType(64)
_VECTOR: Final = ir.VectorType(ir.IntType(8), int(WIDTH))


@intrinsic
def _zeros_below(_typing, word):  # noqa: ARG001
    """How many bits stand below the lowest one that is set; the word must not be 0."""

    def generate(_context, builder, _signature, values):
        return builder.cttz(values[0], ir.IntType(1)(1))

    return types.uint64(types.uint64), generate


@intrinsic
def _count_bits(_typing, word):  # noqa: ARG001
    """How many bits are set."""

    def generate(_context, builder, _signature, values):
        return builder.ctpop(values[0])

    return types.uint64(types.uint64), generate


@intrinsic
def _copy_vector(_typing, source, first, target, to):  # noqa: ARG001
    """Copy `WIDTH` bytes."""

    def generate(context, builder, signature, values):
        from_pointer = pointer(context, builder, signature.args[0], values[:2], _VECTOR)
        to_pointer = pointer(context, builder, signature.args[2], values[2:], _VECTOR)
        builder.store(builder.load(from_pointer, align=1), to_pointer, align=1)
        return context.get_dummy_value()

    return types.void(source, types.uintp, target, types.uintp), generate


@intrinsic
def _places_of(_typing, array, place, byte):  # noqa: ARG001
    """Which of the `WIDTH` bytes from a position on are this one: a bit for each, the first one lowest."""
    return types.uint64(array, types.uintp, types.uint8), _compared("==")


@intrinsic
def _places_below(_typing, array, place, byte):  # noqa: ARG001
    """The same for bytes that are smaller than this one."""
    return types.uint64(array, types.uintp, types.uint8), _compared("<")


@intrinsic
def _differences(_typing, array, place, other, other_place):  # noqa: ARG001
    """The same for bytes that are not those of another array."""

    def generate(context, builder, signature, values):
        first = builder.load(pointer(context, builder, signature.args[0], values[:2], _VECTOR), align=1)
        second = builder.load(pointer(context, builder, signature.args[2], values[2:], _VECTOR), align=1)
        return _bits(builder, builder.icmp_unsigned("!=", first, second))

    return types.uint64(array, types.uintp, other, types.uintp), generate


def _compared(sign):
    def generate(context, builder, signature, values):
        vector = builder.load(pointer(context, builder, signature.args[0], values[:2], _VECTOR), align=1)
        return _bits(builder, builder.icmp_unsigned(sign, vector, _splat(builder, values[2])))

    return generate


def _splat(builder, byte):
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), byte, ir.IntType(32)(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), _VECTOR.count), None))


def _bits(builder, booleans):
    return builder.zext(builder.bitcast(booleans, ir.IntType(_VECTOR.count)), _WORD)


@jit_no_refcount
def count_byte(data, byte):
    """How often a byte stands in a text."""
    place, last, count = np.uintp(0), np.uintp(len(data)), np.uint64(0)
    while place + WIDTH <= last:
        count += _count_bits(_places_of(data, place, byte))
        place += WIDTH
    while place < last:
        count += np.uint64(data[place] == byte)
        place += _ONE
    return np.int64(count)


@jit_no_refcount
def survey(data):
    """How many line ends, quotes and backslashes a text has, and whether all of it is ASCII."""
    place, last, is_ascii = np.uintp(0), np.uintp(len(data)), True
    line_ends = quotes = backslashes = _U(0)
    while place + WIDTH <= last:
        line_ends += _count_bits(_places_of(data, place, _LINE_END))
        quotes += _count_bits(_places_of(data, place, _QUOTE))
        backslashes += _count_bits(_places_of(data, place, _BACKSLASH))
        is_ascii &= _places_below(data, place, _NOT_ASCII) == _ALL
        place += WIDTH
    while place < last:
        line_ends += _U(data[place] == _LINE_END)
        quotes += _U(data[place] == _QUOTE)
        backslashes += _U(data[place] == _BACKSLASH)
        is_ascii &= data[place] < _NOT_ASCII
        place += _ONE
    return np.int64(line_ends), np.int64(quotes), np.int64(backslashes), is_ascii


@jit_no_refcount
def find_byte(data, byte, found):
    """Write the positions of a byte, so many as `found` holds."""
    place, last, count = np.uintp(0), np.uintp(len(data)), 0
    while place + WIDTH <= last:
        bits = _places_of(data, place, byte)
        while bits != _U(0):
            found[count] = place + np.uintp(_zeros_below(bits))
            count += 1
            bits &= bits - _U(1)
        place += WIDTH
    while place < last:
        if data[place] == byte:
            found[count] = place
            count += 1
        place += _ONE


@jit_inline
def text_end(data, at, end):
    """Position of the closing quote; -1 when there is none before a control character or an escape."""
    place, last = np.uintp(at), np.uintp(end)
    while place + WIDTH <= last:
        found = _places_of(data, place, _QUOTE) | _places_of(data, place, _BACKSLASH)
        found |= _places_below(data, place, _SPACE)
        if found != _U(0):
            place += np.uintp(_zeros_below(found))
            return np.int64(place) if data[place] == _QUOTE else -1
        place += WIDTH
    while place < last:
        byte = data[place]
        if byte == _QUOTE:
            return np.int64(place)
        if byte < _SPACE or byte == _BACKSLASH:
            return -1
        place += _ONE
    return -1


@jit_inline
def cell_end(data, at, end):
    """Position behind a bare cell of CSV; -1 when it has a quote, a control character or a backslash."""
    place, last = np.uintp(at), np.uintp(end)
    while place + WIDTH <= last:
        found = _places_of(data, place, _COMMA) | _places_of(data, place, _QUOTE)
        found |= _places_of(data, place, _BACKSLASH) | _places_below(data, place, _SPACE)
        if found != _U(0):
            place += np.uintp(_zeros_below(found))
            return np.int64(place) if data[place] == _COMMA else -1
        place += WIDTH
    while place < last and data[place] != _COMMA:
        byte = data[place]
        if byte < _SPACE or byte in (_QUOTE, _BACKSLASH):
            return -1
        place += _ONE
    return np.int64(place)


@jit_inline
def cell_marks(data, at, end):
    """Of the `CELL_WIDTH` bytes from a position on, all of them there: which ones before `end` are commas, and which
    are none that a bare cell may have. A bit for each, the first one lowest.
    """
    place = np.uintp(at)
    before_end = (_U(1) << _U(min(end - at, CELL_WIDTH))) - _U(1)
    others = _places_of(data, place, _QUOTE) | _places_of(data, place, _BACKSLASH) | _places_below(data, place, _SPACE)
    return _places_of(data, place, _COMMA) & before_end, others & before_end


@jit_inline
def next_mark(at, marks):
    """Position of the first mark, of those from a position on, and the marks behind it."""
    return at + np.int64(_zeros_below(marks)), marks & (marks - _U(1))


@jit_inline
def equals(data, at, other, other_at, length):
    """Whether so many bytes are the same."""
    first, second, rest = np.uintp(at), np.uintp(other_at), np.uintp(length)
    while rest > np.uintp(0) and first + WIDTH <= np.uintp(len(data)) and second + WIDTH <= np.uintp(len(other)):
        found = _differences(data, first, other, second)
        if found != _U(0) and np.uintp(_zeros_below(found)) < rest:
            return False
        if rest <= WIDTH:
            return True
        first += WIDTH
        second += WIDTH
        rest -= WIDTH
    for index in range(rest):  # noqa: SIM110 (numba compiles no generators)
        if data[first + index] != other[second + index]:
            return False
    return True


@jit_inline
def low_bytes(word, count):
    """The first bytes of a word, 1 to 8 of them; the others 0."""
    return word & (~_U(0) >> ((_EIGHT - np.uintp(count)) << np.uintp(3)))


@jit_inline
def are_digits(word):
    """Whether all eight bytes are decimal digits: 0x30 to 0x39, which stay below 0x40 when 6 is added."""
    above = (word & _U(0xF0F0F0F0F0F0F0F0)) | ((word + _U(0x0606060606060606)) & _U(0xF0F0F0F0F0F0F0F0)) >> _U(4)
    return above == _U(0x3333333333333333)


@jit_inline
def number_of_digits(word):
    """The number that eight digits are: neighbours become pairs, these fours, and these one number."""
    pairs = (word & _U(0x0F0F0F0F0F0F0F0F)) * _U(10 * 256 + 1) >> _U(8) & _U(0x00FF00FF00FF00FF)
    fours = pairs * _U(100 * 65536 + 1) >> _U(16) & _U(0x0000FFFF0000FFFF)
    return np.int64(fours * _U(10000 * 4294967296 + 1) >> _U(32))


@jit_inline
def digits_of_number(number):
    """The eight digits of a number below 100,000,000: split into fours, these into pairs, and these into digits."""
    fours = number // _U(10000) | number % _U(10000) << _U(32)
    hundreds = fours * _U(10486) >> _U(20) & _U(0x0000007F0000007F)
    pairs = hundreds | fours - hundreds * _U(100) << _U(16)
    tens = pairs * _U(103) >> _U(10) & _U(0x000F000F000F000F)
    return (tens | pairs - tens * _U(10) << _U(8)) + _U(0x3030303030303030)


@jit_inline
def copy_bytes(source, begin, length, target, at):
    """Copy so many bytes and return the position behind them; up to 31 bytes behind that may be overwritten."""
    first, to, rest = np.uintp(begin), np.uintp(at), np.uintp(length)
    while rest > np.uintp(0) and first + WIDTH <= np.uintp(len(source)) and to + WIDTH <= np.uintp(len(target)):
        _copy_vector(source, first, target, to)
        if rest <= WIDTH:
            return at + length
        first += WIDTH
        to += WIDTH
        rest -= WIDTH
    for index in range(rest):
        target[to + index] = source[first + index]
    return at + length


@jit_inline
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
