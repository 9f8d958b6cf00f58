"""Go-live readiness: what has been seen of each event type, how much, and whether it can be attributed.

What belongs here: the table and its judgement. What does not: how it is shown (defs), checks with thresholds of their
own (`event_checks`). Priorities [F] are those of Froomle's public "User interactions" page.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import duckdb
import polars as pl

from recoflow import schema
from recoflow.event_quality import event_checks
from recoflow.settings.environment import Environment
from recoflow.storage import sql

BEFORE: Final = "must, before placements"
LIVE: Final = "must, for live placements"
COULD: Final = "could have"
OTHER: Final = "other"
BATCH: Final = "batch"

PRIORITIES: Final = {
    "page_visit": BEFORE,
    "detail_pageview": BEFORE,
    "impression": LIVE,
    "click_on_recommendation": LIVE,
    "start_subscription": COULD,
    "item_interaction": COULD,
    "user_interaction": OTHER,
    "cancel_subscription": OTHER,
    "checkpoint": OTHER,
    "add_to_cart": OTHER,
    "remove_from_cart": OTHER,
    "batch_open": BATCH,
    "batch_click_on_recommendation": BATCH,
    "batch_impression": BATCH,
    "purchase": BATCH,
}
# What an event needs, beside an identity, to be attributed to a list or to an item.
ATTRIBUTION: Final = {
    "page_visit": ("page_type",),
    "detail_pageview": ("item_id", "page_type"),
    "impression": ("item_id", "request_id", "list_name", "page_type"),
    "click_on_recommendation": ("item_id", "request_id", "list_name", "page_type"),
    "start_subscription": ("user_id",),
    "item_interaction": ("item_id", "interaction_type"),
    "user_interaction": ("interaction_type",),
    "cancel_subscription": ("user_id",),
    "checkpoint": ("item_id", "checkpoint"),
    "add_to_cart": ("item_id",),
    "remove_from_cart": ("item_id",),
    "batch_open": ("campaign_id",),
    "batch_click_on_recommendation": ("item_id", "request_id", "list_name", "campaign_id"),
    "batch_impression": ("item_id", "request_id", "list_name", "campaign_id"),
    "purchase": ("item_id", "price"),
}

_COLUMNS: Final[Mapping[str, pl.DataType | type[pl.DataType]]] = {
    "priority": pl.String,  # one of the five above
    "event_type": pl.String,
    "state": pl.String,  # ready | poor attribution | silent | missing | not sent
    "events": pl.Int64,  # in the window
    "per_day": pl.Float64,  # since the first of them
    "with_user": pl.Float64,  # share that names a user
    "attributed": pl.Float64,  # share that has every field of ATTRIBUTION
    "weakest_field": pl.String,  # the one of these that is missing most often, null when none is
    "last_at": schema.UTC_TIME,  # of all time
}
TABLE: Final = pl.Schema(_COLUMNS)
_FIELDS: Final = sorted({name for names in ATTRIBUTION.values() for name in names})
_COUNTS: Final = pl.Schema(
    {"event_type": pl.String, "days": pl.Float64} | dict.fromkeys(("events", "complete", "users", *_FIELDS), pl.Int64)
)


def table(connection: duckdb.DuckDBPyConnection, environment: Environment, as_of: datetime) -> pl.DataFrame:
    """One row per event type in the order of the priorities, over `quality.window_days` before the latest event.

    `missing` is said of a must that was never seen, `not sent` of another type; `silent` of one that was seen, but not
    in the window; `poor attribution` when more than `quality.max_unattributed_share` lack a field of ATTRIBUTION.

    Args:
        connection: has the lake's views (`Lake.views`).
        environment: window and threshold.
        as_of: now, with a zone.

    Returns:
        TABLE.
    """
    until = event_checks.latest_event_time(connection, as_of) or as_of
    days = environment.quality.window_days
    complete = " ".join(
        f"WHEN '{kind}' THEN {' AND '.join(f'{name} IS NOT NULL' for name in names)}"
        for kind, names in ATTRIBUTION.items()
    )
    query = f"""
    SELECT
        event_type, max(timestamp) AS last_at, count(*) FILTER (is_recent) AS events,
        greatest(date_diff('second', min(timestamp) FILTER (is_recent), $until) / 86400.0, 1.0) AS days,
        count(*) FILTER (is_recent AND CASE event_type {complete} END) AS complete,
        count(user_id) FILTER (is_recent) AS users,
        {", ".join(f'count({name}) FILTER (is_recent) AS "{name}"' for name in _FIELDS)}
    FROM (SELECT *, timestamp > $until - to_days($days) AS is_recent FROM events WHERE timestamp <= $until)
    GROUP BY event_type
    """
    counts = sql.frame(connection, query, _COUNTS | {"last_at": schema.UTC_TIME}, {"until": until, "days": days})
    found = {row["event_type"]: row for row in counts.iter_rows(named=True)}
    limit = environment.quality.max_unattributed_share
    return pl.DataFrame([_row(kind, found.get(kind), limit) for kind in PRIORITIES], schema=TABLE)


def is_ready(found: pl.DataFrame, *, with_placements: bool) -> bool:
    """Whether every must is ready: those before placements, and those of live placements when there are some."""
    musts = [BEFORE, LIVE] if with_placements else [BEFORE]
    return bool((found.filter(pl.col("priority").is_in(musts))["state"] == "ready").all())


def _row(kind: str, seen: dict[str, Any] | None, limit: float) -> dict[str, Any]:
    row: dict[str, Any] = {"priority": PRIORITIES[kind], "event_type": kind, "events": 0, "per_day": 0.0}
    if seen is None:
        return row | {"state": "missing" if PRIORITIES[kind] in {BEFORE, LIVE} else "not sent"}
    events = seen["events"]
    row |= {"last_at": seen["last_at"], "events": events}
    if not events:
        return row | {"state": "silent"}
    present = {name: seen[name] for name in ATTRIBUTION[kind]}
    weakest = min(present, key=lambda name: present[name])
    attributed = seen["complete"] / events
    return row | {
        "state": "ready" if 1 - attributed <= limit else "poor attribution",
        "per_day": events / seen["days"],
        "with_user": seen["users"] / events,
        "attributed": attributed,
        "weakest_field": weakest if present[weakest] < events else None,
    }
