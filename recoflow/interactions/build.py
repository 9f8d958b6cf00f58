"""Weighted interactions: one row per subject and item, from accepted events.

What belongs here: weights, decay and what counts as consumed. What does not: who a subject is (identity.py), which rows
a model trains on (models).
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import duckdb
import polars as pl

from recoflow import schema
from recoflow.environment import Environment
from recoflow.interactions.identity import RESOLVE, SUBJECT
from recoflow.storage import sql

# Weights are summed as whole multiples of this: sums of integers do not depend on the order in which threads add.
UNIT: Final = 2.0**-32

INTERACTIONS: Final = f"""
WITH device AS MATERIALIZED ({RESOLVE}), counted AS (
    SELECT
        {SUBJECT} AS subject,
        item_id,
        timestamp,
        is_consumed,
        round(weight * 0.5 ** (date_diff('microsecond', timestamp, $as_of) / $half_life) / {UNIT})::BIGINT AS units
    FROM events person
    JOIN event_types USING (event_type)
    LEFT JOIN device USING (device_id)
    WHERE item_id IS NOT NULL AND timestamp <= $as_of
)
SELECT
    subject,
    item_id,
    sum(units) * {UNIT} AS weight,
    count(*) AS events,
    bool_or(is_consumed) AS is_consumed,
    min(timestamp) AS first_at,
    max(timestamp) AS last_at
FROM counted GROUP BY subject, item_id ORDER BY subject, item_id
"""


def interactions(connection: duckdb.DuckDBPyConnection, environment: Environment, as_of: datetime) -> pl.DataFrame:
    """What each subject did with each item, as of a time.

    Events count when their type has a weight or makes an item consumed. An event's weight halves with every
    `half_life_days` of its age; events later than `as_of` are left out.

    Args:
        connection: has the lake's views (`Lake.views`).
        environment: weights, half-life and consumed types.
        as_of: the time that ages are counted from, with a zone.

    Returns:
        `schema.INTERACTIONS`, ordered by subject and item_id. A weight may be ≤ 0: consumed, or taken back.
    """
    settings = environment.events
    names = sorted({*settings.weights, *settings.consumed})
    types = pl.DataFrame(
        {
            "event_type": names,
            "weight": [float(settings.weights.get(name, 0.0)) for name in names],
            "is_consumed": [name in settings.consumed for name in names],
        }
    )
    connection.register("event_types", types.to_arrow())
    half_life = settings.half_life_days * 86_400e6 if settings.half_life_days else float("inf")
    return sql.frame(connection, INTERACTIONS, schema.INTERACTIONS, {"as_of": as_of, "half_life": half_life})
