"""Checks of the interactions that models learn from.

What belongs here: whether the table is sound and large enough to learn from. What does not: the events it is made of
(`event_checks`), the models (`models.training.promotion_gate`). All of them are [R], recoflow's own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import duckdb

from recoflow.event_quality import ratio_check
from recoflow.event_quality.event_checks import fresh
from recoflow.event_quality.ratio_check import ShareCheck
from recoflow.quality.finding import Finding
from recoflow.settings.environment import Environment

KNOWN: Final = ShareCheck(
    "items_known",
    "[R] Items that subjects interacted with are in the catalogue; each item counts once.",
    "SELECT DISTINCT item_id AS example,"
    " item_id NOT IN (SELECT item_id FROM items WHERE item_id IS NOT NULL) AS is_wrong FROM interactions",
    "max_unknown_items_share",
    "items have no metadata, so that no filter can choose them",
    "Send the items' feed; look for item ids that differ between feed and events",
)
CHECKS: Final = {
    "rows_sound": "Each pair of subject and item stands once, with a finite weight, events, and times in their order.",
    "enough_to_learn": "There are enough subjects, items and pairs of positive weight for a model.",
    KNOWN.name: KNOWN.description,
    "interactions_fresh": "[R] The latest interaction is not older than `max_silence_hours`.",
}


def check_interactions(
    connection: duckdb.DuckDBPyConnection, environment: Environment, as_of: datetime
) -> list[Finding]:
    """Judge the table `interactions`.

    Args:
        connection: has the lake's views (`Lake.views`).
        environment: thresholds.
        as_of: now, with a zone.

    Returns:
        A finding for each of CHECKS; `rows_sound` is an error, because a model would learn what is not so.
    """
    settings = environment.quality
    [(latest,)] = connection.execute("SELECT max(last_at) FROM interactions").fetchall()
    return [
        _sound(connection),
        _enough(connection, environment),
        ratio_check.check_ratio(connection, KNOWN, settings.max_unknown_items_share, {}),
        fresh("interactions_fresh", latest.astimezone(UTC) if latest else None, settings.max_silence_hours, as_of),
    ]


def _sound(connection: duckdb.DuckDBPyConnection) -> Finding:
    [(rows, wrong, examples)] = connection.execute(
        f"""SELECT count(*), count(*) FILTER (is_wrong),
        list_sort(list(DISTINCT item_id) FILTER (is_wrong))[:{ratio_check.EXAMPLES}] FROM (
            SELECT item_id, coalesce(
                NOT isfinite(weight) OR events < 1 OR first_at > last_at OR subject[:2] NOT IN ('u:', 'd:'), true
            ) OR count(*) OVER (PARTITION BY subject, item_id) > 1 AS is_wrong FROM interactions
        )"""
    ).fetchall()
    message = f"{wrong} of {rows} rows are not sound"
    if wrong:
        message += f", on the items {', '.join(map(str, examples))}. Materialize interactions again"
    metadata = {"rows": rows, "wrong": wrong, "examples": examples or []}
    return Finding("rows_sound", passed=not wrong, message=message, metadata=metadata)


def _enough(connection: duckdb.DuckDBPyConnection, environment: Environment) -> Finding:
    settings = environment.quality
    [(subjects, items, pairs)] = connection.execute(
        "SELECT count(DISTINCT subject), count(DISTINCT item_id), count(*) FROM interactions WHERE weight > 0"
    ).fetchall()
    found = {"subjects": subjects, "items": items, "interactions": pairs}
    limits = {name: getattr(settings, f"min_{name}") for name in found}
    few = [f"{found[name]} {name}, {limits[name]} are needed" for name in found if found[name] < limits[name]]
    message = "; ".join(few) or ", ".join(f"{count} {name}" for name, count in found.items())
    if few:
        message += ". Send more history, or lower the limits in quality to train on what there is"
    metadata = found | {f"min_{name}": limit for name, limit in limits.items()}
    return Finding("enough_to_learn", passed=not few, message=message, severity="warn", metadata=metadata)
