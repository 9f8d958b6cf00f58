"""One number for all that a subject did, so that who did something since a training is found without comparing rows.

What belongs here: that number. What does not: what is done about those whose number changed (campaigns).
"""

from __future__ import annotations

from typing import Final

import duckdb
import polars as pl

from recoflow.storage import sql

# A sum, so that a row that stands twice in a damaged table is noticed, which an exclusive or would not.
# DuckDB's hash may change with its version: then everybody counts as changed until the next training, nobody is missed.
SIGNATURE: Final = "(sum(hash(item_id, events, event_types, last_at)) % 18446744073709551616)::UBIGINT"
COLUMNS: Final = pl.Schema({"subject": pl.String, "signature": pl.UInt64})


def signatures_of(connection: duckdb.DuckDBPyConnection, rows: str) -> pl.DataFrame:
    """The signature of each subject: subject, signature, ordered by subject.

    Two sets of rows of a subject have one signature when they speak of the same events; weights are left out, because
    they fade with every day.

    Args:
        connection: where `rows` can be selected from.
        rows: name of a table or view of `schema.INTERACTIONS`.
    """
    query = f"SELECT subject, {SIGNATURE} AS signature FROM {rows} GROUP BY subject ORDER BY subject"
    return sql.frame(connection, query, COLUMNS)


def of_frame(interactions: pl.DataFrame) -> pl.DataFrame:
    """The same of a frame."""
    with sql.connect() as connection:
        # As views of texts, which polars has: anything else would be a copy of all ids.
        connection.register("rows_of_frame", interactions.to_arrow(compat_level=pl.CompatLevel.newest()))
        return signatures_of(connection, "rows_of_frame")
