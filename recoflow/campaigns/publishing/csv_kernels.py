"""The compiled loops that put rows of CSV together out of their cells.

What belongs here: copying bytes. What does not: how a cell is written (see `csv_rows`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from recoflow.compute.jit import jit
from recoflow.formats import wide

if TYPE_CHECKING:
    from recoflow.campaigns.publishing.csv_cells import Bytes, Codes, DistinctCells


@jit
def size_of_cells(codes: Codes, cells: DistinctCells) -> int:
    """How many bytes the rows take."""
    total = 0
    for column in range(len(cells.first)):
        for code in codes[column]:
            cell = cells.first[column] + code
            total += cells.starts[cell + 1] - cells.starts[cell]
    return total


@jit
def write_cells(codes: Codes, cells: DistinctCells, out: Bytes) -> None:
    """Write all rows into `out`, uint8 of their size."""
    at = 0
    for row in range(codes.shape[1]):
        for column in range(len(cells.first)):
            cell = cells.first[column] + codes[column, row]
            begin = cells.starts[cell]
            at = wide.copy_bytes(cells.texts, begin, cells.starts[cell + 1] - begin, out, at)
