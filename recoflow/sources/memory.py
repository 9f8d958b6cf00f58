"""Large arrays in memory that has been used before.

What belongs here: where arrays of a chunk's size come from. What does not: what is in them.

numpy gives memory of this size back to the kernel at once, which wipes each page before the next chunk may have it: a
tenth of what reading a chunk takes. Arrow's pool keeps what was freed for a moment.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray


def empty(shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array that nothing has been written to."""
    size = math.prod(shape) if isinstance(shape, tuple) else shape
    kind = np.dtype(dtype)
    return np.frombuffer(pa.allocate_buffer(size * kind.itemsize), kind).reshape(shape)


def full(shape: int | tuple[int, ...], value: int, dtype: DTypeLike) -> NDArray[Any]:
    """An array of one value."""
    array = empty(shape, dtype)
    array.fill(value)
    return array
