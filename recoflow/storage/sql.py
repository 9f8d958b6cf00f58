"""DuckDB as the SQL engine: how a connection is opened and how rows come out of it.

What belongs here: settings and conversions that every query needs. What does not: queries.

A process has one DuckDB: to make one costs 30 ms of processor time, which a burst of small campaigns paid hundreds of
times. What a connection makes there is temporary, so that no other one sees it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb
import polars as pl

from recoflow.storage.lake import damage
from recoflow.storage.scratch import Scratch


@contextlib.contextmanager
def connect() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the process's DuckDB in memory whose times are UTC; make TEMP tables and views on it only.

    Raises:
        DamagedError: a query of the block met a Parquet file that cannot be read.
    """
    with _database(os.getpid()).cursor() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        with damage.explain_damage():
            yield connection


@contextlib.contextmanager
def at_most(connection: duckdb.DuckDBPyConnection, memory: str) -> Iterator[None]:
    """Queries of the whole process spill to the disk rather than take more memory, until this ends."""
    connection.execute(f"SET memory_limit = {quoted(memory)}")
    try:
        yield
    finally:
        connection.execute("RESET memory_limit")


@functools.cache
def _database(_process: int) -> duckdb.DuckDBPyConnection:
    """It spills into a folder that goes with the process, and that no other process uses."""
    spills = Scratch()
    atexit.register(spills.cleanup)
    return duckdb.connect(config={"temp_directory": f"{spills.name}/duckdb"})


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
