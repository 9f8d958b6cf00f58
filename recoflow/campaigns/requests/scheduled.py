"""Campaigns by the clock: whom they are for, and the request file that asks for their lists.

What belongs here: the request as a function of the lake and the scheduled time. What does not: when it is made
(`defs.scheduled`), and how it is answered, which is as for any other request.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from recoflow.settings.campaign_settings import ScheduledCampaign


def file_name(environment: str, campaign: str, at: datetime) -> str:
    """The name of the request, and so of the response, of one scheduled time."""
    return f"{environment}_{campaign}_{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}.csv"


def audience(interactions: pl.LazyFrame, campaign: ScheduledCampaign, at: datetime) -> pl.Series:
    """The users (not devices) who were active in the days before the scheduled time or since, ordered by id.

    Args:
        interactions: schema.INTERACTIONS.
        campaign: its settings.
        at: the scheduled time.
    """
    since = at.astimezone(UTC) - timedelta(days=campaign.active_days)
    users = interactions.filter((pl.col("last_at") >= since) & pl.col("subject").str.starts_with("u:"))
    return users.select(pl.col("subject").str.slice(2).alias("user_id").unique().sort()).collect().to_series()


def request_file(environment: str, campaign: ScheduledCampaign, users: pl.Series) -> bytes:
    """The request: for each user all lists, in the order of the settings."""
    lists = pl.DataFrame(
        [each.model_dump() for each in campaign.lists], schema_overrides={"configuration_id": pl.String}
    )
    rows = pl.DataFrame({"user_id": users}).join(lists, how="cross", maintain_order="left_right")
    columns = ("environment", "user_id", "list_name", "list_size", "configuration_id", "page_type")
    return rows.with_columns(environment=pl.lit(environment)).select(columns).write_csv().encode()
