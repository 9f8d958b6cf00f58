"""One file of staged recommendations, made of positions: each text stands in it once, however many rows say it.

What belongs here: how columns are put together and become Parquet. What does not: what the columns are (see `staged`)
and what is in them (see `build_lists`).

Whoever asked stands in every row of a list, and an item wherever it is recommended. Parquet keeps such columns as the
distinct texts and their positions, so they are made in that form and never spelled out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import polars as pl

if TYPE_CHECKING:
    import pyarrow as pa

DICTIONARY_BYTES: Final = 1 << 30  # beyond these Parquet would spell the texts out


def gather_columns(frame: pl.DataFrame, rows: npt.NDArray[np.integer]) -> dict[str, pa.Array]:
    """The columns of `frame[rows]`, the texts of those rows that occur as dictionaries."""
    first = int(rows.min(initial=len(frame)))  # rows of a block stand near each other: all others are not looked at
    is_used = np.zeros(int(rows.max(initial=first - 1)) + 1 - first, np.bool_)
    is_used[rows - first] = True
    positions = (np.cumsum(is_used, dtype=np.int32) - 1)[rows - first]
    used = frame.slice(first, len(is_used)).filter(pl.Series(is_used, dtype=pl.Boolean))
    return {column.name: _spread(column, pl.Series(positions).to_arrow()) for column in used}


def _spread(values: pl.Series, positions: pa.Array) -> pa.Array:
    """The values at these positions, which come as polars makes them: `pa.array` would import pandas, for 0.2 s."""
    import pyarrow as pa  # noqa: PLC0415 - late, like all that only campaigns need
    from pyarrow import compute  # noqa: PLC0415

    if values.dtype != pl.String:
        return compute.take(values.to_arrow(), positions, boundscheck=False)
    encoded = values.to_arrow().cast(pa.large_string()).dictionary_encode()
    indices = compute.take(encoded.indices, positions, boundscheck=False)
    return pa.DictionaryArray.from_arrays(indices, encoded.dictionary)


def write_part(columns: Mapping[str, pa.Array], schema: pl.Schema, path: Path) -> None:
    """Write those of the columns that `schema` names, in its order, as one row group; same input, same bytes."""
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    # Of what is never null a reader has two thirds as much to do.
    fields = [pa.field(name, columns[name].type, nullable=columns[name].null_count > 0) for name in schema]
    table = pa.table([columns[name] for name in schema], pa.schema(fields))
    parquet.write_table(
        table,
        path,
        row_group_size=max(1, table.num_rows),
        compression="lz4",  # a third larger than with zstd, but each part is read four times
        use_dictionary=[name for name, kind in schema.items() if kind == pl.String],
        dictionary_pagesize_limit=DICTIONARY_BYTES,
        column_encoding={name: "DELTA_BINARY_PACKED" for name, kind in schema.items() if kind == pl.Int64},
        write_statistics=False,
        store_schema=False,  # or readers would take the texts for categories
    )
