"""Identifiers in a request: the ids of people as events read them, and `request_id`, one for each row of a campaign.

What belongs here: those two. What does not: the campaign's own (see `model.campaign_id`), and whose a device is (see
`interactions.identity`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import polars as pl

from recoflow.formats.fields import BLANK, NO_IDENTITY
from recoflow.storage import sql

PADDING: Final = "padding:"  # prefix of columns that say which blanks stood around an id: less than all that was sent
_NOBODY: Final = (
    rf"(?i)^[{BLANK}]*({'|'.join(map(re.escape, NO_IDENTITY))})?[{BLANK}]*$"  # a fifth of the time of `is_in`
)


def meant(column: str) -> pl.Expr:
    """An id without blanks around it; null for a placeholder, or all visitors without log-in would share lists.

    That is how events read it (see `formats.fields`); so a padded id is a known person.
    """
    text = pl.col(column).str.strip_chars(BLANK)
    return pl.when(~pl.col(column).str.contains(_NOBODY)).then(text).alias(column)


def padding(cell: pl.Expr) -> pl.Expr:
    """The blanks around a cell, with `_` in the place of what they are around; null where there are none."""
    size = cell.str.len_chars()
    before = cell.str.head(size - cell.str.strip_chars_start(BLANK).str.len_chars())
    after = cell.str.tail(size - cell.str.strip_chars_end(BLANK).str.len_chars())
    around = pl.concat_str(before, pl.lit("_"), after)
    return pl.when(around != "_").then(around)


def as_sent(rows: pl.DataFrame, columns: Sequence[str]) -> list[pl.Expr]:
    """These columns of the rows as the request spelled them."""
    return [_padded(column) for column in columns if PADDING + column in rows.columns]


def _padded(column: str) -> pl.Expr:
    around, text = pl.col(PADDING + column), pl.col(column)
    place = around.str.find("_", literal=True)
    padded = pl.concat_str(around.str.head(place), text, around.str.slice(place + 1))
    return pl.coalesce(padded, text).alias(column)


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
