"""The distinct cells of a table, as bytes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]


class DistinctCells(NamedTuple):
    """What stands in the positions of a table.

    Attributes:
        texts: uint8, all distinct cells as they are written, one behind the other, with what separates each from the
            next.
        starts: int64 [cells + 1], where each begins.
        first: int64 [columns], the first cell of each column.
    """

    texts: Bytes
    starts: Longs
    first: Longs
