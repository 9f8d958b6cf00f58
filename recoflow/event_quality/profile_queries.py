"""What event files hold, in numbers: the queries behind a profile.

What belongs here: counting. What does not: what the counts make possible (profile.py). A share is null where there is
nothing to take a share of.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, cast

import duckdb
import polars as pl

from recoflow.event_quality import readiness
from recoflow.interactions import build, catalogue, identity
from recoflow.settings.environment import Environment

SHOWN_GAPS: Final = 10
SHOWN_ATTRIBUTES: Final = 30

# A Metarank ranking is many impressions; an interaction of the type impression repeats one of them.
IMPRESSION: Final = (
    "event_type = 'impression' AND (kind <> 'interaction' OR NOT (SELECT bool_or(kind = 'ranking') FROM events))"
)
SUBJECTS: Final = (
    f"SELECT person.*, {identity.SUBJECT} AS subject FROM events AS person LEFT JOIN device USING (device_id)"
)

FIRST: Final = "SELECT event_type, min(timestamp) AS first_at FROM events GROUP BY event_type"

IDENTITY: Final = f"""
WITH device AS ({identity.RESOLVE})
SELECT
    avg((user_id IS NOT NULL)::INT) AS with_user,
    avg((events.device_id IS NOT NULL)::INT) AS with_device,
    avg((user_id IS NOT NULL AND events.device_id IS NOT NULL)::INT) AS with_both,
    avg((user_id IS NULL)::INT) AS anonymous,
    avg((user_id IS NULL AND owner IS NOT NULL)::INT) AS anonymous_but_known,
    avg((user_id IS NULL AND events.device_id IS NULL)::INT) AS without_identity,
    count(DISTINCT user_id) AS users,
    count(DISTINCT events.device_id) AS devices,
    (SELECT count(*) FROM device WHERE user_id IS NULL) AS shared_devices
FROM events LEFT JOIN (SELECT device_id, user_id AS owner FROM device) AS owned USING (device_id)
"""

JOINS: Final = f"""
WITH device AS ({identity.RESOLVE}), acts AS ({SUBJECTS}),
shown AS (SELECT DISTINCT request_id, item_id FROM events WHERE {IMPRESSION} AND request_id IS NOT NULL),
requests AS (SELECT DISTINCT request_id FROM shown),
mailed AS (SELECT DISTINCT request_id, item_id FROM events WHERE event_type = 'batch_impression'),
clicks AS (FROM events WHERE event_type = 'click_on_recommendation'),
clicked AS (SELECT DISTINCT request_id, item_id FROM clicks),
mail_clicks AS (FROM events WHERE event_type = 'batch_click_on_recommendation'),
recommended AS (
    SELECT subject, item_id, min(timestamp) AS first_at FROM acts
    WHERE event_type IN ('click_on_recommendation', 'batch_click_on_recommendation') GROUP BY ALL
),
seen AS (SELECT DISTINCT item_id FROM events WHERE item_id IS NOT NULL)
SELECT name, looked_for, found, found / nullif(looked_for, 0) AS share FROM (
SELECT 'clicks_with_a_request' AS name, count(*) AS looked_for, count(request_id) AS found FROM clicks
UNION ALL SELECT 'impressions_with_a_request', count(*), count(request_id) FROM events WHERE {IMPRESSION}
UNION ALL SELECT 'clicks_to_a_known_request', count(*), count(*) FILTER (request_id IN (FROM requests)) FROM clicks
UNION ALL SELECT 'clicks_to_their_impression', count(*), count(shown.item_id)
    FROM clicks LEFT JOIN shown USING (request_id, item_id)
UNION ALL SELECT 'impressions_to_a_click', count(*), count(clicked.item_id)
    FROM shown LEFT JOIN clicked USING (request_id, item_id)
UNION ALL SELECT 'batch_clicks_to_their_impression', count(*), count(mailed.item_id)
    FROM mail_clicks LEFT JOIN mailed USING (request_id, item_id)
UNION ALL SELECT 'purchases_to_a_click_before', count(*), count(*) FILTER (timestamp >= recommended.first_at)
    FROM acts LEFT JOIN recommended USING (subject, item_id) WHERE event_type = 'purchase'
UNION ALL SELECT 'events_to_the_catalogue', count(*), count(items.item_id)
    FROM events LEFT JOIN items USING (item_id) WHERE events.item_id IS NOT NULL
UNION ALL SELECT 'items_to_the_catalogue', count(*), count(items.item_id) FROM seen LEFT JOIN items USING (item_id)
UNION ALL SELECT 'catalogue_to_events', count(*), count(seen.item_id) FROM items LEFT JOIN seen USING (item_id)
)
"""

DAYS: Final = "SELECT DISTINCT timestamp::DATE AS day FROM events ORDER BY day"

# Share of the events of a type that carry a field that a KPI needs.
FIELDS: Final = f"""
SELECT
    avg((price IS NOT NULL)::INT) FILTER (event_type = 'purchase') AS purchases_with_price,
    avg((version IS NOT NULL OR user_group IS NOT NULL)::INT) FILTER ({IMPRESSION}) AS impressions_with_version,
    avg((list_name IS NOT NULL)::INT) FILTER ({IMPRESSION}) AS impressions_with_list,
    avg((rank IS NOT NULL)::INT) FILTER ({IMPRESSION}) AS impressions_with_rank
FROM events
"""

ATTRIBUTES: Final = f"""
SELECT name, count(*) / (SELECT count(*) FROM items) AS share
FROM (SELECT unnest(json_keys(attributes)) AS name FROM items)
GROUP BY name ORDER BY share DESC, name LIMIT {SHOWN_ATTRIBUTES}
"""


@dataclass(frozen=True)
class EventType:
    """One row of `readiness.TABLE` over all of the events, and the time of the first."""

    event_type: str
    priority: str
    state: str
    events: int
    with_user: float | None
    attributed: float | None
    weakest_field: str | None
    first_at: datetime | None
    last_at: datetime | None


@dataclass(frozen=True)
class Identity:
    """Who events are of: shares of all events, and numbers of people."""

    with_user: float | None
    with_device: float | None
    with_both: float | None
    anonymous: float | None  # no user_id
    anonymous_but_known: float | None  # no user_id, on a device that belongs to one user
    without_identity: float | None  # neither
    users: int
    devices: int
    shared_devices: int  # two users or more were seen on them


@dataclass(frozen=True)
class Join:
    """How many rows find their partner."""

    name: str
    looked_for: int
    found: int
    share: float | None


@dataclass(frozen=True)
class Gap:
    """Whole days (UTC) on which nothing happened, from the first to the last of them."""

    first: date
    last: date
    days: int


@dataclass(frozen=True)
class Times:
    """When events happened."""

    first_at: datetime | None
    last_at: datetime | None
    days: int  # with events, UTC
    gaps: tuple[Gap, ...]  # the longest first


@dataclass(frozen=True)
class Fields:
    """Shares of events that carry what a KPI needs."""

    purchases_with_price: float | None
    impressions_with_version: float | None  # version or user_group
    impressions_with_list: float | None
    impressions_with_rank: float | None


@dataclass(frozen=True)
class CatalogueFacts:
    """What the item feed says."""

    items: int
    recommendable: int  # enabled and available
    with_publication: float | None  # share of the items
    attributes: dict[str, float]  # name → share of the items, the most frequent first


@dataclass(frozen=True)
class Interactions:
    """What a model would learn from: pairs of subject and item with a positive weight."""

    pairs: int
    subjects: int
    items: int
    per_subject_median: float | None
    per_subject_p90: float | None
    per_subject_max: int | None
    repeat_subjects: int  # with two items or more
    repeat_items: int  # with two subjects or more


@dataclass(frozen=True)
class Facts:
    """Everything that is counted."""

    event_types: tuple[EventType, ...]
    identity: Identity
    times: Times
    joins: tuple[Join, ...]
    fields: Fields
    catalogue: CatalogueFacts
    interactions: Interactions

    def events_of(self, event_type: str) -> int:
        """Number of events of a type."""
        return sum(each.events for each in self.event_types if each.event_type == event_type)

    def join(self, name: str) -> Join:
        """The join of that name."""
        return next(each for each in self.joins if each.name == name)


def gather_facts(connection: duckdb.DuckDBPyConnection, environment: Environment, as_of: datetime) -> Facts:
    """Count what is in a lake.

    Args:
        connection: has the lake's views (`Lake.views`); `items` becomes what the item updates say.
        environment: weights and half-life of the interactions, thresholds of readiness.
        as_of: now, with a zone; where there are events, the last of them is what ages are counted from.
    """
    connection.register("folded", catalogue.fold(connection).to_arrow())
    connection.execute("CREATE OR REPLACE TEMP VIEW items AS FROM folded")
    times = _times(connection)
    until = times.last_at or as_of
    return Facts(
        event_types=_event_types(connection, environment, times, until),
        identity=Identity(**_rows(connection, IDENTITY)[0]),
        times=times,
        joins=tuple(Join(**row) for row in _rows(connection, JOINS)),
        fields=Fields(**_rows(connection, FIELDS)[0]),
        catalogue=_catalogue(connection),
        interactions=_interactions(connection, environment, until),
    )


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    return pl.DataFrame(connection.sql(query).to_arrow_table()).to_dicts()


def _times(connection: duckdb.DuckDBPyConnection) -> Times:
    [bounds] = _rows(connection, "SELECT min(timestamp) AS first_at, max(timestamp) AS last_at FROM events")
    days = [row["day"] for row in _rows(connection, DAYS)]
    one = timedelta(days=1)
    gaps = [
        Gap(before + one, after - one, (after - before).days - 1)
        for before, after in itertools.pairwise(days)
        if after - before > one
    ]
    gaps.sort(key=lambda gap: (-gap.days, gap.first))
    return Times(**bounds, days=len(days), gaps=tuple(gaps[:SHOWN_GAPS]))


def _event_types(
    connection: duckdb.DuckDBPyConnection, environment: Environment, times: Times, until: datetime
) -> tuple[EventType, ...]:
    """The readiness table over the whole time that the events span, not over its usual window."""
    span = (until - times.first_at).days + 1 if times.first_at else 1
    whole = environment.quality.model_copy(update={"window_days": span})
    found = readiness.table(connection, environment.model_copy(update={"quality": whole}), until)
    first = {row["event_type"]: row["first_at"] for row in _rows(connection, FIRST)}
    return tuple(
        EventType(
            **{key: value for key, value in row.items() if key != "per_day"}, first_at=first.get(row["event_type"])
        )
        for row in found.iter_rows(named=True)
    )


def _catalogue(connection: duckdb.DuckDBPyConnection) -> CatalogueFacts:
    [counts] = _rows(
        connection,
        "SELECT count(*) AS items, count(*) FILTER (is_enabled AND is_available) AS recommendable,"
        " avg((published_at IS NOT NULL)::INT) AS with_publication FROM items",
    )
    return CatalogueFacts(**counts, attributes={row["name"]: row["share"] for row in _rows(connection, ATTRIBUTES)})


def _interactions(connection: duckdb.DuckDBPyConnection, environment: Environment, as_of: datetime) -> Interactions:
    pairs = build.interactions(connection, environment, as_of).filter(pl.col("weight") > 0)
    per_subject = pairs.group_by("subject").len()["len"]
    per_item = pairs.group_by("item_id").len()["len"]
    return Interactions(
        pairs=pairs.height,
        subjects=len(per_subject),
        items=len(per_item),
        per_subject_median=per_subject.quantile(0.5),
        per_subject_p90=per_subject.quantile(0.9),
        per_subject_max=cast("int | None", per_subject.max()),
        repeat_subjects=int((per_subject >= 2).sum()),
        repeat_items=int((per_item >= 2).sum()),
    )
