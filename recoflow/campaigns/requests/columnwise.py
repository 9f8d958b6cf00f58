"""All rows of a request file at once, in little memory: column by column, and cells by their hashes.

What belongs here: joining, choosing and comparing such rows. What does not: what makes a row wrong (see `list_rows`,
`audience_rows`).

polars copies all columns of a table to choose some of its rows, and writes keys of several columns out row by row. Of
the largest request file either is a third of a GiB.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

PART: Final = 1 << 18  # cells that are compared at once


def kept(rows: pl.DataFrame, is_kept: pl.Series) -> pl.DataFrame:
    """Those of the rows; `rows` has no columns then."""
    if is_kept.all():
        return rows
    # As tables of one column, for the threads that made the rows: no other one can reuse the memory that they free.
    return pl.DataFrame([rows.drop_in_place(name).to_frame().filter(is_kept).to_series() for name in rows.columns])


def frequent(rows: pl.DataFrame, column: str, is_meant: pl.Expr, more_than: int) -> pl.Series:
    """The cells of this column that stand in more than so many (at least 1) of the rows that are meant."""
    code = pl.col(column).hash()
    codes = np.sort(rows.select(code.filter(is_meant)).to_series().to_numpy())
    often = np.unique(codes[more_than:][codes[more_than:] == codes[:-more_than]])
    cells = rows.select(pl.col(column).filter(is_meant & code.is_in(pl.Series(often).implode()))).to_series()
    return cells.value_counts().filter(pl.col("count") > more_than)[column]


def is_distinct(rows: pl.DataFrame, columns: Sequence[str]) -> bool:
    """Whether no two rows have the same cells in these columns; False where it takes `first_alike` to tell."""
    return row_hashes(rows, columns, 0).n_unique() == len(rows)


def is_repeated(rows: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """Whether an earlier row has the same cells in these columns."""
    return pl.Series(first_alike(rows, columns) < np.arange(len(rows)))


def first_alike(rows: pl.DataFrame, columns: Sequence[str]) -> npt.NDArray[np.uint32]:
    """For each row, the number of the first one that has the same cells in these columns.

    Hashes tell which rows may be alike, then their cells are compared; where they differ, other hashes are tried.
    """
    for seed in itertools.count():
        first = _first(row_hashes(rows, columns, seed).to_numpy())
        if all(_is_alike(rows[column], first) for column in columns):
            break
    return first


def _is_alike(cells: pl.Series, first: npt.NDArray[np.uint32]) -> bool:
    """Whether each cell equals the one at its first place."""
    cells, places = cells.rechunk(), np.flatnonzero(first != np.arange(len(first)))
    parts = (places[begin : begin + PART] for begin in range(0, len(places), PART))
    return all(cells.gather(part).eq_missing(cells.gather(first[part])).all() for part in parts)


def row_hashes(rows: pl.DataFrame, columns: Sequence[str], seed: int) -> pl.Series:
    """Of each row's cells in these columns; seeds of their own tell (a, b) from (b, a)."""
    each = [pl.col(column).hash(seed * len(columns) + place) for place, column in enumerate(columns)]
    return rows.select(functools.reduce(operator.xor, each)).to_series()


def _first(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    """For each number, the place of the first one that is equal."""
    order = np.argsort(numbers, kind="stable").astype(np.uint32)
    begins = np.ones(len(numbers), np.bool_)
    begins[1:] = np.diff(numbers[order]) != 0
    first = np.empty(len(numbers), np.uint32)
    first[order] = order[begins][np.cumsum(begins, dtype=np.uint32) - 1]
    return first
