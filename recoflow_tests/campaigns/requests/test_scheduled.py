"""Campaigns by the clock: their audience and their request file."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import polars as pl

from recoflow import schema
from recoflow.campaigns.requests import filename, scheduled
from recoflow.campaigns.requests.model import Request
from recoflow.settings.campaign_settings import ScheduledCampaign

AT = datetime(2026, 11, 22, 6, tzinfo=UTC)
WEEKLY = ScheduledCampaign.model_validate(
    {
        "cron": "0 6 * * 1",
        "active_days": 7,
        "lists": [
            {"list_name": "For, you", "list_size": 5, "page_type": "email"},
            {"list_name": "New", "list_size": 3, "page_type": "email", "configuration_id": "fresh"},
        ],
    }
)


def interactions(*rows: tuple[str, float]) -> pl.LazyFrame:
    """Of subjects so many days before the scheduled time."""
    made = [{"subject": subject, "item_id": "i", "last_at": AT - timedelta(days=days)} for subject, days in rows]
    return pl.DataFrame(
        made, schema={name: schema.INTERACTIONS[name] for name in ("subject", "item_id", "last_at")}
    ).lazy()


def test_the_audience_is_every_user_active_in_the_days_before_once_ordered_by_id() -> None:
    rows = interactions(
        ("u:b", 1), ("u:a", 6.9), ("u:b", 3), ("u:old", 7.1), ("d:device", 1), ("u:late", -1), ("u:c", 7)
    )
    assert scheduled.audience(rows, WEEKLY, AT).to_list() == ["a", "b", "c", "late"]


def test_the_name_has_the_scheduled_time_in_utc_and_is_a_campaigns_name() -> None:
    at = AT.astimezone(timezone(timedelta(hours=1)))
    name = scheduled.file_name("lorem", "weekly", at)
    assert name == "lorem_weekly_2026-11-22T06:00:00Z.csv"
    parsed = filename.parse_filename(name, "lorem")
    assert (parsed.campaign, parsed.date) == ("weekly", AT)


def test_the_request_has_all_lists_of_each_user_and_is_read_without_errors(ask: Callable[..., Request]) -> None:
    users = pl.Series("user_id", ['a"b', "c,d", "e"])
    content = scheduled.request_file("lorem", WEEKLY, users)
    assert content == scheduled.request_file("lorem", WEEKLY, users)
    read = ask(content, configurations={"fresh": {}})
    assert read.errors.is_empty()
    assert read.rows.select("user_id", "list_name", "list_size", "configuration_id", "page_type").rows() == [
        row for user in users for row in ((user, "For, you", 5, None, "email"), (user, "New", 3, "fresh", "email"))
    ]
