"""DuckDB as the SQL engine: how a connection is opened and how rows come out of it.

What belongs here: settings and conversions that every query needs. What does not: queries.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb
import polars as pl


@contextlib.contextmanager
def connect() -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory DuckDB whose times are UTC and which spills to the system's temporary folder."""
    with tempfile.TemporaryDirectory(prefix="recoflow-") as spill, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET temp_directory = {quoted(spill)}")
        yield connection


def frame(
    connection: duckdb.DuckDBPyConnection, query: str, columns: pl.Schema, values: Mapping[str, Any] | None = None
) -> pl.DataFrame:
    """The rows of a query with exactly these columns and dtypes; `values` are bound to its `$names`."""
    rows = connection.sql(query, params=values).to_arrow_table()
    return pl.DataFrame(rows).cast(columns).select(columns.names())


def parquet(files: Sequence[str]) -> str:
    """DuckDB's table function over the files, in their order."""
    return f"read_parquet([{', '.join(map(quoted, files))}])"


def quoted(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("'", "''") + "'"
