"""Tables as CSV, made of the distinct values of each column: a text is quoted once, however many rows say it.

What belongs here: CSV as clients get it, strings quoted, integers not, an empty position for null; byte for byte what
pyarrow's writer gives with the quoting that it calls "needed". What does not: which rows and columns (see `render`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import polars as pl

from recoflow.campaigns.publishing.csv_cells import Bytes, Codes, DistinctCells, Longs

if TYPE_CHECKING:
    import pyarrow as pa

ROWS: Final = 1 << 14  # that are written at once: few enough to stay in the processor's cache


def csv_header(names: Iterable[str]) -> bytes:
    """The first line."""
    return (",".join('"' + name.replace('"', '""') + '"' for name in names) + "\n").encode()


class CsvRows(NamedTuple):
    """Rows of a table.

    Attributes:
        codes: for each column int32 [rows], which of its cells stands at each position.
        cells: of all columns.
    """

    codes: list[Codes]
    cells: DistinctCells


def encode_rows(table: pa.Table) -> CsvRows:
    """A table of columns of strings, of dictionaries of strings, and of integers."""
    codes, texts, lengths = [], [], []
    for number, column in enumerate(table.columns):
        places, written, ends = _column(column, "," if number < table.num_columns - 1 else "\n")
        codes.append(places)
        texts.append(written)
        lengths.append(np.diff(ends, prepend=0))
    first = np.cumsum([0, *(len(each) for each in lengths[:-1])])
    starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    return CsvRows(codes, DistinctCells(np.concatenate(texts), starts, first))


def csv_lines(tables: Iterable[CsvRows], kept: int = 1) -> Iterator[memoryview]:
    """The other lines, in stretches of at most ROWS.

    Args:
        tables: one behind the other.
        kept: how many stretches are used at once: memory is new only once, for it takes longer than to write into it.
    """
    from recoflow.campaigns.publishing import csv_kernels  # noqa: PLC0415 - imports numba

    buffers = deque([np.empty(0, np.uint8)] * kept)
    for table in tables:
        for begin in range(0, len(table.codes[0]), ROWS):
            codes = np.stack([column[begin : begin + ROWS] for column in table.codes])
            size = csv_kernels.size_of_cells(codes, table.cells)
            buffers.rotate()
            if size > len(buffers[0]):
                buffers[0] = np.empty(size + size // 8, np.uint8)
            csv_kernels.write_cells(codes, table.cells, buffers[0][:size])
            yield buffers[0][:size].data


def _column(column: pa.ChunkedArray, separator: str) -> tuple[Codes, Bytes, Longs]:
    """The codes of a column, the bytes of its cells and where each ends; the last cell is that of null."""
    import pyarrow as pa  # noqa: PLC0415 - late, like all that only campaigns need
    from pyarrow import compute  # noqa: PLC0415

    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    array = encoded.unify_dictionaries().combine_chunks()
    values = array.dictionary.cast(pa.large_string())
    quote = "" if pa.types.is_integer(array.type.value_type) else '"'
    # From polars, because `pa.scalar` would import pandas, for 0.2 s.
    before, behind, nothing = pl.Series([quote, quote + separator, ""]).to_arrow()
    of_null = pl.Series([separator]).to_arrow()
    doubled = compute.replace_substring(values, '"', '""')
    written = pa.concat_arrays([compute.binary_join_element_wise(before, doubled, behind, nothing), of_null])
    _, offsets, data = written.buffers()
    ends = np.frombuffer(offsets, np.int64)[1 : len(written) + 1]
    codes = pl.Series(array.indices).fill_null(len(values)).to_numpy()
    return codes, np.frombuffer(data, np.uint8)[: ends[-1]], ends
