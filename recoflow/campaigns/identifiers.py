"""Identifiers of the rows of a request, the same for the same row of the same campaign.

What belongs here: `request_id`. What does not: the campaign's own (see `request.campaign_id`).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from recoflow.storage import sql


def of_rows(rows: pl.DataFrame, campaign_id: str, columns: Sequence[str]) -> pl.Series:
    """`request_id`: one per combination of these columns in the campaign; texts are told apart by their lengths.

    Args:
        rows: in the order of their column `row`.
        campaign_id: of the campaign.
        columns: text columns of `rows`.
    """
    cells = [pl.format("{}:{}", pl.col(column).str.len_bytes(), pl.col(column)).fill_null("-") for column in columns]
    keys = rows.select("row", pl.concat_str(pl.lit(campaign_id), *cells, separator="|").alias("key"))
    with sql.connect() as connection:
        connection.register("asked", keys.to_arrow())
        query = "SELECT left(sha256(key), 20) AS request_id FROM asked ORDER BY row"
        return sql.frame(connection, query, pl.Schema({"request_id": pl.String})).to_series()
