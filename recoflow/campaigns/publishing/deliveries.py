"""What people were given, as rows of the lake's table `responses`: once the file is in responses/, not before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import polars as pl

from recoflow import schema
from recoflow.campaigns.requests import csv_reader
from recoflow.campaigns.staging import staged
from recoflow.campaigns.staging.staged import STAGING, StagedLists
from recoflow.formats.fields import BLANK
from recoflow.storage.lake.lake import Lake
from recoflow.storage.lake.staging import StagedFile
from recoflow.storage.sftp.claims import Delivery

TABLE: Final = "responses"


def note_delivery(delivery: Delivery, campaigns: Path, lake: Lake) -> None:
    """Add the lists of a delivered campaign to the table, at most once however often called.

    Args:
        delivery: its reference is the campaign's key.
        campaigns: the environment's campaign folders.
        lake: of the environment.

    Raises:
        CampaignError: its staged lists are gone.
    """
    answer = staged.load_staged(campaigns / delivery.reference / STAGING, StagedLists)
    lake.commit_once(TABLE, stage_rows(answer, delivery.at, lake), transaction=delivery.reference)


def stage_rows(answer: StagedLists, published_at: datetime, lake: Lake) -> list[StagedFile]:
    """Write the rows of a campaign beside the table, where no reader sees them until they are committed."""
    return lake.stage_all(TABLE, response_rows(answer, published_at))


def response_rows(answer: StagedLists, published_at: datetime) -> Iterator[pl.DataFrame]:
    """The recommendations of each part as `schema.RESPONSES`.

    Audiences have no rows there: the table says what people were given, which later events are traced back to by
    request_id, and being chosen gives nobody anything.
    """
    kept = [*schema.RESPONSE_COLUMNS, "rank", "page_type"]
    for part in answer.parts:
        yield (
            pl.read_parquet(part, columns=kept)
            .with_columns(pl.col(csv_reader.PERSON).str.strip_chars(BLANK))  # or an erasure would not find the person
            .with_columns(model_version=pl.lit(answer.model_version), published_at=pl.lit(published_at))
            .cast(schema.RESPONSES)
            .select(schema.RESPONSES.names())
        )
