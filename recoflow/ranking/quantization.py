"""Factors as 16-bit integers, whose products bound scores (see `top_k`).

What belongs here: how factors are rounded, how far that moves a product, how integers lie in memory. What does not: the
product itself.

A row of factors times LARGEST / norm, rounded, is a row of 16-bit integers that is about LARGEST long, so the product
of two such rows fits into 32 bits and is exact. Processors multiply and add twice as many 16-bit integers at a time as
float32 numbers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Integers = NDArray[np.int32]
    Longs = NDArray[np.int64]

LARGEST: Final = 32_000
"""Norm of a row of integers: below 2¹⁵, so that each fits, and its square far enough below 2³¹."""
PANEL: Final = 16
"""Items that lie side by side, because their products are computed together."""
UNIT: Final = 2.0**-24
"""Half the distance from 1 to the next float32: the largest relative error of one rounding."""


def integers(rows: Doubles, norms: Doubles) -> Integers:
    """Rows of factors [n × f] of these norms, as pairs of 16-bit integers: int32 [n × ⌈f / 2⌉]."""
    count, columns = rows.shape
    scales = np.divide(LARGEST, norms, out=np.zeros_like(norms), where=norms > 0)
    pairs = np.zeros((count, -(-columns // 2) * 2), np.int16)
    pairs[:, :columns] = np.rint(rows * scales[:, None])
    return pairs.view(np.int32)


def panels(rows: Integers) -> Integers:
    """Rows of pairs [n × pairs] as `int16_dot` reads them: [⌈n / PANEL⌉ × pairs × PANEL], zeros at the end."""
    count, pairs = rows.shape
    padded = np.zeros((-(-count // PANEL) * PANEL, pairs), np.int32)
    padded[:count] = rows
    return np.ascontiguousarray(padded.reshape(-1, PANEL, pairs).transpose(0, 2, 1))


def unpacked(packed: Integers, rows: Longs) -> Integers:
    """Those rows of pairs that `panels` were made of."""
    chosen: Integers = packed[rows // PANEL, :, rows % PANEL]
    return chosen


def margin(columns: int) -> float:
    """How far the product of two rows of integers may be from LARGEST² × cosine, float32 arithmetic with it included.

    A rounded row is at most √f / 2 from its own; by Cauchy and Schwarz, each row's distance counts once, times the
    other's length, and both together once.
    """
    step = math.sqrt(columns) / 2 * (1 + UNIT)
    return 2 * step * LARGEST + step * step + 16 * UNIT * LARGEST**2
