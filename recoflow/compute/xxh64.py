# mypy: allow-untyped-defs, allow-untyped-calls
"""XXH64 by the column: the hash that the lake keeps, because its values are specified and never change.

What belongs here: the hash function, compiled, as the xxHash specification 0.2.0 has it; little endian machines only.
What does not: which text is hashed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recoflow.compute.jit import jit_inline, jit_no_refcount
from recoflow.compute.unaligned import load_at, store

_U = np.uint64
_P1, _P2, _P3 = _U(0x9E3779B185EBCA87), _U(0xC2B2AE3D27D4EB4F), _U(0x165667B19E3779F9)
_P4, _P5 = _U(0x85EBCA77C2B2AE63), _U(0x27D4EB2F165667C5)
_AT_ONCE = 16  # texts; one that has just been written in other words is slow to read word by word
_LENGTH = _U(0xFFFFFFFF)  # the lower half of either word of a string view: its length, and which data it points into
_INLINE = 12  # bytes


def of_texts(
    texts: pl.Series, *, words: Sequence[str] = ("",), codes: NDArray[np.int32] | None = None
) -> NDArray[np.uint64]:
    """The hash with seed 0 of each text's UTF-8 behind the word that its code tells, the first one unless given.

    No text may be null.
    """
    array = texts.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())  # one array of string views
    _, views, *data = array.buffers()
    heads_and_tails = np.frombuffer(views, np.uint64).reshape(-1, 2)[array.offset : array.offset + len(array)]
    addresses = np.array([part.address for part in data], np.uint64)
    encoded = [word.encode() for word in words]
    starts = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    codes = np.zeros(len(texts), np.int32) if codes is None else codes
    longest = int((heads_and_tails[:, 0] & _LENGTH).max(initial=0)) + max(map(len, encoded))
    scratch = np.zeros((longest // 8 + 3) * _AT_ONCE, np.uint64)
    found = np.empty(len(texts), np.uint64)
    word_data = np.frombuffer(b"".join(encoded) or b"\0", np.uint8)
    _of_views(heads_and_tails, addresses, word_data, starts, codes, scratch, scratch.view(np.uint8), found)
    return found


@jit_no_refcount
def _of_views(views, addresses, word_data, starts, codes, scratch, text, found):  # noqa: PLR0917 (a kernel takes arrays)
    size_of_one = len(scratch) // _AT_ONCE
    for block in range(0, len(found), _AT_ONCE):
        end = min(block + _AT_ONCE, len(found))
        for index in range(block, end):
            at = np.uintp((index - block) * size_of_one * 8)
            first, last = np.uintp(starts[codes[index]]), np.uintp(starts[codes[index] + 1])
            for place in range(first, last):
                text[at + place - first] = word_data[place]
            _copy_view(views[index, 0], views[index, 1], addresses, text, at + last - first)
        for index in range(block, end):
            code = codes[index]
            size = starts[code + 1] - starts[code] + np.int64(views[index, 0] & _LENGTH)
            found[index] = digest(scratch, (index - block) * size_of_one, size, _U(0))


@jit_inline
def _copy_view(head, tail, addresses, text, at):
    """Write the text of Arrow's string view: up to 12 bytes stand in it, longer ones where it says."""
    length = np.uintp(head & _LENGTH)
    if length <= np.uintp(_INLINE):
        store(text, at, (head >> _U(32)) | (tail << _U(32)))
        store(text, at + np.uintp(8), tail >> _U(32))
        return
    begin = np.uintp(addresses[tail & _LENGTH] + (tail >> _U(32)))
    last = length - np.uintp(8)
    place = np.uintp(0)
    while place < last:
        store(text, at + place, load_at(begin + place))
        place += np.uintp(8)
    store(text, at + last, load_at(begin + last))


@jit_no_refcount
def digest(words64, first, size, seed):
    """XXH64 of the `size` bytes from the word `first` on."""
    word = np.uintp(first)
    rest = np.uint64(size)
    if size >= 32:
        lane1, lane2, lane3, lane4 = seed + _P1 + _P2, seed + _P2, seed, seed - _P1
        while rest >= np.uint64(32):
            lane1 = _round(lane1, words64[word])
            lane2 = _round(lane2, words64[word + np.uintp(1)])
            lane3 = _round(lane3, words64[word + np.uintp(2)])
            lane4 = _round(lane4, words64[word + np.uintp(3)])
            word += np.uintp(4)
            rest -= np.uint64(32)
        total = _rotate(lane1, 1) + _rotate(lane2, 7) + _rotate(lane3, 12) + _rotate(lane4, 18)
        for lane in (lane1, lane2, lane3, lane4):
            total = (total ^ _round(np.uint64(0), lane)) * _P1 + _P4
    else:
        total = seed + _P5
    total += np.uint64(size)
    while rest >= np.uint64(8):
        total = _rotate(total ^ _round(np.uint64(0), words64[word]), 27) * _P1 + _P4
        word += np.uintp(1)
        rest -= np.uint64(8)
    last = words64[word]
    if rest >= np.uint64(4):
        total = _rotate(total ^ ((last & np.uint64(0xFFFFFFFF)) * _P1), 23) * _P2 + _P3
        last >>= np.uint64(32)
        rest -= np.uint64(4)
    while rest > np.uint64(0):
        total = _rotate(total ^ ((last & np.uint64(0xFF)) * _P5), 11) * _P1
        last >>= np.uint64(8)
        rest -= np.uint64(1)
    total = (total ^ (total >> np.uint64(33))) * _P2
    total = (total ^ (total >> np.uint64(29))) * _P3
    return total ^ (total >> np.uint64(32))


@jit_inline
def _round(lane, word):
    return _rotate(lane + word * _P2, 31) * _P1


@jit_inline
def _rotate(value, bits):
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))
