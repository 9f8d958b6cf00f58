"""Checks of the raw events: is everything there, as much of it as usual, and lately; and the entry to all of them.

What belongs here: checks of counts and of the configuration against the data. What does not: checks that are made of
shares (`tracking`), which also says where each check comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import duckdb

from recoflow import schema
from recoflow.event_quality import ratio_check, tracking
from recoflow.event_quality.ratio_check import EXAMPLES
from recoflow.quality.finding import Finding
from recoflow.settings.environment import Environment

Connection = duckdb.DuckDBPyConnection
ENOUGH_CLICKS: Final = 10  # fewer say nothing about positions
WEEKS: Final = 4  # that a day is compared with
USED_VALUES: Final = 0.5  # [M] warns below this share

CHECKS: Final = {check.name: check.description for check in tracking.CHECKS} | {
    "event_kinds_present": "[M] event types: there are items, impressions or rankings, and interactions.",
    "click_positions_spread": f"[M] interaction positions: clicks (from {ENOUGH_CLICKS} on) are not all on one rank.",
    "attributes_exist": "[M] field references: each item attribute that the configuration names exists on some item.",
    "filter_values_used": (
        "[M] use of item string values: half of the values that a configuration's filter names occur in the items."
        " Its twin for users does not apply: no setting names values of user attributes."
    ),
    "volume_as_usual": f"[R] The last whole day has about as many events as that weekday in the {WEEKS} weeks before.",
    "events_fresh": "[R] The latest event is not older than `max_silence_hours`.",
}


def check_events(connection: Connection, environment: Environment, as_of: datetime) -> list[Finding]:
    """Judge the events of the last `quality.window_days` before the latest event.

    Args:
        connection: has the lake's views (`Lake.views`); gets the temporary table `recent`.
        environment: thresholds, weights and configurations.
        as_of: now, with a zone; later events are not looked at.

    Returns:
        A finding for each of CHECKS, severity warn: such events are odd, not wrong.
    """
    settings = environment.quality
    until = latest_event_time(connection, as_of)
    values: dict[str, Any] = {
        "since": (until or as_of) - timedelta(days=settings.window_days),
        "until": until or as_of,
        "click_seconds": settings.click_seconds,
        "age_seconds": settings.max_event_age_days * 86_400.0,
        "weighted": sorted({*environment.events.weights, *environment.events.consumed}),
    }
    connection.execute(tracking.RECENT, {name: values[name] for name in ("since", "until")})
    findings = [
        ratio_check.check_ratio(connection, each, getattr(settings, each.limit), values) for each in tracking.CHECKS
    ]
    others: Sequence[Callable[[], Finding]] = (
        lambda: _kinds(connection),
        lambda: _positions(connection),
        lambda: _attributes(connection, environment),
        lambda: _filter_values(connection, environment),
        lambda: _volume(connection, environment, until),
        lambda: fresh("events_fresh", until, settings.max_silence_hours, as_of),
    )
    return [*findings, *(judged() for judged in others)]


def fresh(name: str, latest: datetime | None, hours: float, as_of: datetime) -> Finding:
    """Whether the latest time of a table is young enough."""
    if latest is None:
        return _warn(name, False, "there is no event yet; see whether files arrive", {"limit_hours": hours})
    age = (as_of - latest).total_seconds() / 3600
    message = f"the latest event is {age:.1f} hours old; {hours:g} are tolerated"
    if age > hours:
        message += ". See whether files still arrive and what was quarantined"
    return _warn(name, age <= hours, message, {"age_hours": age, "limit_hours": hours, "latest": latest.isoformat()})


def latest_event_time(connection: Connection, as_of: datetime) -> datetime | None:
    """The time of the latest event that is not later than `as_of`, None when there is none."""
    [(found,)] = connection.execute("SELECT max(timestamp) FROM events WHERE timestamp <= $1", [as_of]).fetchall()
    return found.astimezone(UTC) if found else None


def _kinds(connection: Connection) -> Finding:
    [(impressions, interactions)] = connection.execute(
        f"""SELECT count(*) FILTER (event_type IN {tracking.IMPRESSIONS}),
        count(*) FILTER (item_id IS NOT NULL AND event_type NOT IN {tracking.IMPRESSIONS}) FROM events"""
    ).fetchall()
    [(items,)] = connection.execute("SELECT count(*) FROM items").fetchall()
    counts = {"items": items, "impressions": impressions, "interactions": interactions}
    missing = [name for name, count in counts.items() if not count]
    message = ", ".join(f"{count} {name}" for name, count in counts.items())
    if missing:
        message += f". Without {' and '.join(missing)} recommendations cannot be made or measured: send them"
    return _warn("event_kinds_present", not missing, message, counts)


def _positions(connection: Connection) -> Finding:
    ranks = connection.execute(
        f"""SELECT rank, count(*) FROM (
            SELECT coalesce(click.rank, any_value(shown.rank)) AS rank FROM recent AS click
            LEFT JOIN (FROM events WHERE event_type IN {tracking.IMPRESSIONS} AND request_id IS NOT NULL) AS shown
            USING (request_id, item_id) WHERE click.event_type IN {tracking.CLICKS} GROUP BY click.number, click.rank
        ) WHERE rank IS NOT NULL GROUP BY rank ORDER BY rank"""
    ).fetchall()
    clicks = sum(count for _, count in ranks)
    passed = clicks < ENOUGH_CLICKS or len(ranks) > 1
    message = f"{clicks} clicks with a known rank on {len(ranks)} ranks"
    if not passed:
        message += ". Send the rank that the item had in its list, and the impressions of all of its items"
    histogram = {str(rank): count for rank, count in ranks[:100]}
    return _warn("click_positions_spread", passed, message, {"clicks": clicks, "clicks_by_rank": histogram})


def _attributes(connection: Connection, environment: Environment) -> Finding:
    settings = environment.campaigns
    filtered = {name for each in settings.configurations.values() for name in each.filters}
    asked = {*settings.information_fields, *settings.aliases.values(), *(settings.aliases.get(n, n) for n in filtered)}
    rows = connection.execute("SELECT DISTINCT unnest(json_keys(attributes)) FROM items").fetchall()
    known = {name for (name,) in rows} | {"item_type"}
    asked.discard(schema.BECAUSE_OF)
    missing = sorted(asked - known)
    message = f"{len(asked)} attributes are named, {len(missing)} of them no item has"
    if missing:
        message += f": {', '.join(missing)}. Correct the name in campaigns, or send the attribute with the items"
    return _warn("attributes_exist", not missing, message, {"missing": missing, "known": sorted(known)[:50]})


def _filter_values(connection: Connection, environment: Environment) -> Finding:
    aliases = environment.campaigns.aliases
    named: dict[str, set[str]] = {}
    for configuration in environment.campaigns.configurations.values():
        for name, values in configuration.filters.items():
            named.setdefault(aliases.get(name, name), set()).update([values] if isinstance(values, str) else values)
    unused = {name: sorted(values - _item_values(connection, name)) for name, values in sorted(named.items())}
    poor = [name for name, values in unused.items() if len(values) > (1 - USED_VALUES) * len(named[name])]
    message = f"filters name values of {len(named)} attributes"
    if poor:
        message += "; most of them no item has: " + "; ".join(f"{n}: {', '.join(unused[n][:EXAMPLES])}" for n in poor)
        message += ". Correct the values in campaigns.configurations"
    return _warn("filter_values_used", not poor, message, {"unused": unused})


def _item_values(connection: Connection, attribute: str) -> set[str]:
    if attribute == "item_type":
        rows = connection.execute("SELECT DISTINCT item_type FROM items WHERE item_type IS NOT NULL").fetchall()
    else:
        rows = connection.execute(
            """SELECT DISTINCT unnest(CASE json_type(value) WHEN 'ARRAY' THEN value ->> '$[*]' ELSE [value ->> '$'] END)
            FROM (SELECT unnest(map_entries(json_transform(attributes, '"MAP(VARCHAR, JSON)"')), recursive := true)
            FROM items) WHERE key = $1""",
            [attribute],
        ).fetchall()
    return {value for (value,) in rows if value is not None}


def _volume(connection: Connection, environment: Environment, until: datetime | None) -> Finding:
    name, settings = "volume_as_usual", environment.quality
    if until is None:
        return _warn(name, True, "there is no event yet", {})
    zone = environment.schedules.timezone
    day = until.astimezone(ZoneInfo(zone)).date() - timedelta(days=1)  # the day of the latest event may go on
    days = [day - timedelta(weeks=week) for week in range(WEEKS + 1)]
    rows = connection.execute(
        """SELECT timezone($zone, timestamp)::DATE AS day, count(*) FROM events
        WHERE timestamp BETWEEN $since AND $until GROUP BY day""",
        {"zone": zone, "since": until - timedelta(weeks=WEEKS, days=3), "until": until},
    ).fetchall()
    counts = dict(rows)
    earlier = [counts[each] for each in days[1:] if each in counts]
    about: dict[str, Any] = {"day": str(day), "events": counts.get(day, 0), "same_weekday_before": earlier}
    if len(earlier) < 2:
        return _warn(name, True, f"{len(earlier)} such weekdays before {day} are too few to compare with", about)
    ratio = counts.get(day, 0) / (sum(earlier) / len(earlier))
    passed = settings.min_volume_ratio <= ratio <= settings.max_volume_ratio
    message = f"{day} has {ratio:.2f} times the events of that weekday in the weeks before"
    if not passed:
        message += f"; {settings.min_volume_ratio:g} to {settings.max_volume_ratio:g} is usual. Look at the files of it"
    return _warn(name, passed, message, about | {"ratio": ratio})


def _warn(name: str, passed: bool, message: str, metadata: dict[str, Any]) -> Finding:
    return Finding(name, passed=passed, message=message, severity="warn", metadata=metadata)
