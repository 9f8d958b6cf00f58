"""The catalogue: item updates folded into one row per item.

What belongs here: which update wins, and what the attributes say about publication and availability. What does not: who
may be recommended (campaigns), the parsing of updates (sources).

`uri` is another name of `url`, and `is_available` of `availability`; what `availability` says must be one of the words
that mean yes, else the item is not available. An attribute's value is the one of the latest update that carries it;
absent and null leave it as it was. Updates of the same time: a delete wins, then the larger content hash, so that the
order of arrival does not matter. A delete disables, a later upsert enables again.
"""

from __future__ import annotations

from typing import Final

import duckdb
import polars as pl

from recoflow import schema
from recoflow.formats.fields import AVAILABLE, BLANK
from recoflow.interactions.identity import IS_ID
from recoflow.storage import sql

ALIASES: Final = {"uri": "url", "is_available": "availability"}  # of two in one update the second name's value counts

# Epoch numbers from here on are milliseconds (as seconds: the year 5138), a thousand times further they are nothing.
MILLISECONDS_FROM: Final = 100_000_000_000

_CANONICAL: Final = " ".join(f"WHEN {sql.quoted(name)} THEN {sql.quoted(own)}" for name, own in ALIASES.items())
_YES: Final = ", ".join(sql.quoted(word) for word, is_yes in AVAILABLE.items() if is_yes)

FOLD: Final = f"""
WITH ranked AS (
    SELECT
        entity_id AS item_id, entity_type AS item_type, operation, timestamp, fields,
        row_number() OVER (ORDER BY timestamp, operation = 'delete', content_hash, event_id) AS turn
    FROM updates WHERE entity = 'item' AND {IS_ID.format("entity_id")}
), heads AS (
    SELECT
        item_id,
        arg_max(item_type, turn) FILTER (item_type IS NOT NULL) AS item_type,
        arg_max(operation, turn) <> 'delete' AS is_enabled,
        max(timestamp) AS updated_at
    FROM ranked GROUP BY item_id
), pairs AS (
    SELECT item_id, turn, unnest(map_entries(json_transform(fields, '"MAP(VARCHAR, JSON)"'))) AS pair
    FROM ranked WHERE operation = 'upsert' AND fields IS NOT NULL
), latest AS (
    SELECT
        item_id,
        CASE pair.key {_CANONICAL} ELSE pair.key END AS name,
        arg_max(pair.value, (turn, pair.key = name)) AS value
    FROM pairs WHERE pair.value::VARCHAR <> 'null' GROUP BY item_id, name
), attributes AS (
    SELECT
        item_id,
        '{{' || string_agg(to_json(name)::VARCHAR || ':' || value::VARCHAR, ',' ORDER BY name) || '}}' AS attributes,
        any_value(lower(trim(value ->> '$', '{BLANK}'))) FILTER (name = 'availability') AS availability,
        any_value(value ->> '$') FILTER (name = 'publication_datetime') AS publication,
        TRY_CAST(publication AS DOUBLE) AS epoch
    FROM latest GROUP BY item_id
)
SELECT
    item_id,
    item_type,
    is_enabled,
    coalesce(availability IN ({_YES}), true) AS is_available,
    coalesce(
        to_timestamp(
            CASE
                WHEN abs(epoch) < {MILLISECONDS_FROM} THEN epoch
                WHEN abs(epoch) < {MILLISECONDS_FROM} * 1000 THEN epoch / 1000
            END
        ),
        TRY_CAST(publication AS TIMESTAMPTZ)
    ) AS published_at,
    updated_at,
    coalesce(attributes, '{{}}') AS attributes
FROM heads LEFT JOIN attributes USING (item_id)
ORDER BY item_id
"""


def fold(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """All items that updates speak of, disabled ones too.

    Args:
        connection: has the lake's views (`Lake.views`).

    Returns:
        `schema.ITEMS`, ordered by item_id, without ids that no model can hold (`identity.IS_ID`). `published_at` is
        read from `publication_datetime`: ISO 8601 (UTC unless it names a zone) or epoch seconds or milliseconds; null
        when it is none of these.
    """
    return sql.frame(connection, FOLD, schema.ITEMS)
