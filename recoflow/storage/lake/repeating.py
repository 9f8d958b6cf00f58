# mypy: allow-untyped-defs, allow-untyped-calls
"""Text columns of few different values as Arrow dictionaries, found at the speed of memory.

What belongs here: finding which rows hold the same text. What does not: which columns are worth it (table_format.py).

Arrow's string views are 16 bytes each: the text itself when it has up to 12 bytes, else its position. Rows with equal
views hold equal texts, so no text is read. A text that lies in several places has several views, which are joined
afterwards: little work for few words.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from recoflow.compute.jit import jit

MAX_WORDS: Final = 1 << 13  # more of them than this do not fit into the processor's cache

_SHIFT: Final = np.uint64(64 - 14)  # the table has twice as many slots as there may be words
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)


def dictionary_encoded(texts: pl.Series) -> Any:
    """The texts as a pyarrow DictionaryArray, the words in the order of their first rows; None when they are many."""
    array = texts.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    valid, views = array.buffers()[:2]
    end = array.offset + len(array)
    codes: NDArray[np.int32] = np.zeros(end, np.int32)
    firsts: NDArray[np.int64] = np.empty(MAX_WORDS, np.int64)
    bits = np.frombuffer(valid if valid is not None else b"", np.uint8)
    count = 0
    if array.null_count < len(array):  # a column that nobody fills is frequent
        count = _find(np.frombuffer(views, np.uint64, 2 * end).reshape(-1, 2), bits, array.offset, codes, firsts)
    if count < 0:
        return None
    views_of = texts[firsts[:count] - array.offset].to_list()
    words = {word: code for code, word in enumerate(dict.fromkeys(views_of))}
    if len(words) < count:
        codes = np.array([words[word] for word in views_of], np.int32)[codes]
    indices = pa.Array.from_buffers(pa.int32(), len(array), [valid, pa.py_buffer(codes)], offset=array.offset)
    dictionary = pl.Series([*words], dtype=pl.String).to_arrow(compat_level=pl.CompatLevel.oldest())
    return pa.DictionaryArray.from_arrays(indices, dictionary, safe=False)  # our codes need no second look


@jit
def _find(views, bits, begin, codes, firsts):
    """Number the different views of the rows from `begin` on, and return how many there are; -1 when too many."""
    slots = np.full(2 * len(firsts), -1, np.int32)
    last = np.uintp(len(slots) - 1)
    count = 0
    for row in range(begin, len(views)):
        if len(bits) and not (bits[row >> 3] >> (row & 7)) & 1:
            continue
        head, tail = views[row, 0], views[row, 1]
        slot = np.uintp(((head ^ (tail * _ODD)) * _ODD) >> _SHIFT)
        while slots[slot] >= 0 and (views[firsts[slots[slot]], 0] != head or views[firsts[slots[slot]], 1] != tail):
            slot = (slot + np.uintp(1)) & last
        if slots[slot] < 0:
            if count == len(firsts):
                return -1
            slots[slot], firsts[count] = count, row
            count += 1
        codes[row] = slots[slot]
    return count
