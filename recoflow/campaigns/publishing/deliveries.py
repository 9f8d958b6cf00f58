"""What people were given, as rows of the lake's table `responses`: once the file is in responses/, not before."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Final, Self

import polars as pl

from recoflow import schema
from recoflow.campaigns.requests import csv_reader
from recoflow.campaigns.staging import staged
from recoflow.campaigns.staging.staged import STAGING, StagedLists
from recoflow.compute.stage_timer import StageTimer
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


class RowsBesideUpload:
    """Rows of the table that a thread writes while their response file is uploaded, committed after the upload.

    The end of the context removes rows that were not committed.

    Args:
        answer: what is published.
        lake: of the environment.
        watch: counts the stage.
    """

    def __init__(self, answer: StagedLists, lake: Lake, watch: StageTimer) -> None:
        self._answer = answer
        self._lake = lake
        self._watch = watch
        self._thread = ThreadPoolExecutor(1)
        self._published_at: datetime | None = None
        self._files: Future[list[StagedFile]] | None = None

    def begin(self, published_at: datetime) -> None:
        """Start the thread; `published_at` is a column of the rows."""
        self._published_at = published_at
        self._files = self._thread.submit(self._write, published_at)

    def commit(self, delivery: Delivery) -> None:
        """Add the rows to the table, with the time of the delivery."""
        if self._files is not None and delivery.at == self._published_at:
            files, self._files = self._files.result(), None
        else:  # another run of the campaign published it, at another time
            files = stage_rows(self._answer, delivery.at, self._lake)
        self._lake.commit_once(TABLE, files, transaction=delivery.reference)

    def _write(self, published_at: datetime) -> list[StagedFile]:
        with self._watch.stage("stage rows of the lake"):
            return stage_rows(self._answer, published_at, self._lake)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        if self._files is not None and self._files.exception() is None:
            self._lake.discard(self._files.result(), None)


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
