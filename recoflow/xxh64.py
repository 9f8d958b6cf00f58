# mypy: allow-untyped-defs, allow-untyped-calls
"""XXH64 by the column: the hash that the lake keeps, because its values are specified and never change.

What belongs here: the hash function, compiled, as the xxHash specification 0.2.0 has it; little endian machines only.
What does not: which text is hashed.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recoflow.compiled import compiled

_U = np.uint64
_P1, _P2, _P3 = _U(0x9E3779B185EBCA87), _U(0xC2B2AE3D27D4EB4F), _U(0x165667B19E3779F9)
_P4, _P5 = _U(0x85EBCA77C2B2AE63), _U(0x27D4EB2F165667C5)


def of_texts(texts: pl.Series) -> NDArray[np.uint64]:
    """The hash with seed 0 of each text's UTF-8; no text may be null."""
    array = texts.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())  # one large_string array
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(array.buffers()[2] or b"\0", np.uint8)
    found = np.empty(len(texts), np.uint64)
    _of_texts(data, offsets, np.zeros(int(np.diff(offsets).max(initial=0)) // 8 + 2, np.uint64), found)
    return found


@compiled
def _of_texts(data, offsets, scratch, found):
    text = scratch.view(np.uint8)
    for index in range(len(found)):
        begin, size = np.uintp(offsets[index]), offsets[index + 1] - offsets[index]
        for place in range(np.uintp(size)):
            text[place] = data[begin + place]
        found[index] = digest(scratch, size, np.uint64(0))


@compiled
def digest(words64, size, seed):
    """XXH64 of the first `size` bytes of the words."""
    word = np.uintp(0)
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


@compiled
def _round(lane, word):
    return _rotate(lane + word * _P2, 31) * _P1


@compiled
def _rotate(value, bits):
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))
