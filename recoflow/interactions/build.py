"""Weighted interactions: one row per subject and item, from accepted events.

What belongs here: weights, decay and the types of what happened. What does not: who a subject is (identity.py), which
rows a model trains on (models), what makes an item consumed (campaigns).

Subjects and items are numbered in their order first, so that millions of rows are grouped and sorted by one integer
instead of two strings (a quarter of the time on 10 million events).
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import duckdb
import polars as pl

from recoflow import schema
from recoflow.interactions.identity import IS_ID, RESOLVE, SUBJECT
from recoflow.settings.environment import Environment
from recoflow.storage import sql

# Weights are summed as whole multiples of this: sums of integers do not depend on the order in which threads add.
UNIT: Final = 2.0**-32

PEOPLE: Final = f"""
CREATE OR REPLACE TEMP TABLE people AS
WITH device AS ({RESOLVE}), person AS (SELECT DISTINCT user_id, device_id FROM events)
SELECT
    person.user_id, person.device_id, {SUBJECT} AS subject, dense_rank() OVER (ORDER BY {SUBJECT}) - 1 AS subject_row
FROM person LEFT JOIN device USING (device_id)
WHERE coalesce(person.user_id, person.device_id) IS NOT NULL AND {IS_ID.format(SUBJECT)}
"""

THINGS: Final = f"""
CREATE OR REPLACE TEMP TABLE things AS
SELECT item_id, row_number() OVER (ORDER BY item_id) - 1 AS item_row
FROM (SELECT DISTINCT item_id FROM events WHERE item_id IS NOT NULL) WHERE {IS_ID.format("item_id")}
"""

# epoch_us because date_diff on times with a zone takes as long as all the rest.
INTERACTIONS: Final = f"""
WITH counted AS (
    SELECT
        (subject_row << 32) | item_row AS pair,
        timestamp,
        bit,
        round(weight * 0.5 ** ((epoch_us($as_of) - epoch_us(timestamp)) / $half_life) / {UNIT})::BIGINT AS units
    FROM events
    JOIN event_types USING (event_type)
    JOIN things USING (item_id)
    JOIN people ON events.user_id IS NOT DISTINCT FROM people.user_id
        AND events.device_id IS NOT DISTINCT FROM people.device_id
    WHERE timestamp <= $as_of
), summed AS (
    SELECT
        pair,
        (sum(units) * {UNIT})::DOUBLE AS weight,
        count(*) AS events,
        bit_or(bit) AS event_types,
        min(timestamp) AS first_at,
        max(timestamp) AS last_at
    FROM counted GROUP BY pair
)
SELECT pair >> 32 AS subject_row, pair & 4294967295 AS item_row, * EXCLUDE pair FROM summed ORDER BY pair
"""

NUMBERED: Final = pl.Schema({"subject_row": pl.UInt32, "item_row": pl.UInt32}) | {
    name: dtype for name, dtype in schema.INTERACTIONS.items() if name not in {"subject", "item_id"}
}


def interactions(connection: duckdb.DuckDBPyConnection, environment: Environment, as_of: datetime) -> pl.DataFrame:
    """What each subject did with each item, as of a time.

    Events count when their type has a weight or can make an item consumed (`Environment.counted_types`). An event's
    weight halves with every `half_life_days` of its age; events later than `as_of` are left out, and so are those of
    ids that no model can hold (`identity.IS_ID`).

    Args:
        connection: has the lake's views (`Lake.views`).
        environment: weights, half-life and counted types.
        as_of: the time that ages are counted from, with a zone.

    Returns:
        `schema.INTERACTIONS`, ordered by subject and item_id. A weight may be ≤ 0: no type has one, or taken back.
    """
    half_life = environment.events.half_life_days
    values = {"as_of": as_of, "half_life": half_life * 86_400e6 if half_life else float("inf")}
    connection.register("event_types", _event_types(environment).to_arrow())
    connection.execute(PEOPLE)
    connection.execute(THINGS)
    rows = sql.frame(connection, INTERACTIONS, NUMBERED, values)
    subjects = sql.frame(connection, "SELECT DISTINCT subject FROM people ORDER BY subject", _strings("subject"))
    items = sql.frame(connection, "SELECT item_id FROM things ORDER BY item_id", _strings("item_id"))
    return rows.select(
        subjects["subject"].gather(rows["subject_row"]),
        items["item_id"].gather(rows["item_row"]),
        pl.exclude("subject_row", "item_row"),
    )


def _event_types(environment: Environment) -> pl.DataFrame:
    names = sorted(environment.counted_types)
    return pl.DataFrame(
        {
            "event_type": names,
            "weight": [float(environment.events.weights.get(name, 0.0)) for name in names],
            "bit": pl.Series([schema.event_type_bits([name]) for name in names], dtype=pl.Int32),
        },
        schema_overrides={"event_type": pl.String, "weight": pl.Float64},
    )


def _strings(name: str) -> pl.Schema:
    return pl.Schema({name: pl.String})
