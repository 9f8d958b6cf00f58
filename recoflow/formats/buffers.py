"""Large arrays in memory that is used again.

What belongs here: where arrays of a chunk's size come from. What does not: what is in them.

numpy gives memory of this size back to the kernel at once and Arrow's pool soon after, and the kernel wipes each page
before the next chunk may have it: an eighth of what an ingest takes. So while a file is read, memory that no array
points to any more waits here for the next chunk.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

SMALLEST: Final = 1 << 18  # bytes; fewer are nobody's concern
STEP: Final = 1 << 22  # bytes; sizes are rounded up to a multiple, because no two chunks have quite the same

_waiting: defaultdict[int, deque[NDArray[np.uint8]]] = defaultdict(deque)  # by size
_readers: set[object] = set()
_closing = threading.Lock()


class _Lent:
    """Stands between a block and the arrays that point to it: it ends with the last of them."""

    def __init__(self, block: NDArray[np.uint8]) -> None:
        self.__array_interface__ = block.__array_interface__


@contextmanager
def kept() -> Iterator[None]:
    """Memory is kept until this ends, for everybody who asks for arrays meanwhile."""
    reader = object()
    _readers.add(reader)
    try:
        yield
    finally:
        with _closing:
            _readers.remove(reader)
            if not _readers:
                _waiting.clear()


def empty(shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array that nothing has been written to yet, or something else."""
    kind = np.dtype(dtype)
    size = kind.itemsize * (math.prod(shape) if isinstance(shape, tuple) else shape)
    if size < SMALLEST or not _readers:
        return np.empty(shape, kind)
    try:
        block = _waiting[-(-size // STEP)].pop()
    except IndexError:
        block = np.empty(-(-size // STEP) * STEP, np.uint8)
    lent = _Lent(block)
    weakref.finalize(lent, _give_back, block).atexit = False
    return np.asarray(lent)[:size].view(kind).reshape(shape)


def _give_back(block: NDArray[np.uint8]) -> None:
    """Runs wherever the last array ends, in the middle of a collection of garbage too: it waits for nothing."""
    if _readers:
        _waiting[len(block) // STEP].append(block)
