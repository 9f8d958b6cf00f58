"""One file into the lake: every source event becomes accepted, quarantined or a duplicate, exactly once.

What belongs here: the order of the commits and the report. What does not: reading text (sources), staging rows
(staged_batch.py), the commit of one table (commit.py), looking at what was refused (quarantine.py).

The commits of one file: events, updates, quarantine, then one row of `ingests`, which says that the file is done. Each
carries the file's content hash as its transaction id, so a run that follows a crash does only what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Final

import polars as pl

from recoflow import schema
from recoflow.compute.collector import collector_paused
from recoflow.formats import batch_builder
from recoflow.formats.batch_builder import EventFormat
from recoflow.ingest import dedupe
from recoflow.ingest.commit import commit_new
from recoflow.ingest.file_hash import ArrivingFile
from recoflow.ingest.staged_batch import StagedBatch, discard, stage
from recoflow.schema import Counts, ParsedBatch
from recoflow.settings.environment import Environment
from recoflow.storage import sql
from recoflow.storage.lake.lake import Lake

MEMORY: Final = "400MiB"  # of DuckDB while it compares; what needs more is on the disk meanwhile


@dataclass(frozen=True)
class FileReport:
    """What became of one file, the same now and whenever it arrives again; `was_known` tells the two apart."""

    name: str
    sha256: str
    counts: Counts
    rows: int  # added to events and updates
    ignored_keys: dict[str, int]
    was_known: bool


def ingest_file(
    path: Path,
    environment: Environment,
    lake: Lake,
    received_at: datetime,
    *,
    name: str | None = None,
    dialect: EventFormat | None = None,
) -> FileReport:
    """Take one file of events or items in; a file whose content was taken in before is only looked up.

    Args:
        path: the file, in any framing and dialect of `formats.files`.
        environment: where it arrived.
        lake: the environment's lake.
        received_at: time of receipt.
        name: what the file is called in reports and in the `source` column; the path's name unless given.
        dialect: the rules of its events, where they are known; by default told by the content.

    Raises:
        SourceError: the file cannot be read at all; nothing of it is in the lake then.
        ChangedFileError: the file was written to while it was read; nothing of it is in the lake.
        ArrivalError: the disk or its rights refuse the file; nothing of it is in the lake.
        StorageError: the lake cannot be read or written; calling again completes what was begun.
    """
    from recoflow.formats import files  # noqa: PLC0415 - parsers are heavy

    name = name or path.name
    batches = files.read_events(path, environment, received_at, name=name, dialect=dialect)
    delivery = StagedBatch(name, received_at)
    with ThreadPoolExecutor(1, thread_name_prefix="hash") as thread:
        content = _Content(lake, ArrivingFile(path, name, thread))
        try:
            # While the hash is made. What is wrong with a file that turns out to be known is nobody's concern.
            stage(_unless_known(batches, content), lake, delivery)
        except Exception:
            content.file.check()
            if content.known is None:
                raise
    try:
        known = content.known
        content.file.check()
    except Exception:
        discard(lake, delivery)
        raise
    if known is None:
        return _commit(lake, delivery, content.file.sha256)
    discard(lake, delivery)
    return known


@dataclass
class _Content:
    """A file and what the lake knows of its content, once its hash is made."""

    lake: Lake
    file: ArrivingFile

    @cached_property
    def known(self) -> FileReport | None:
        """The report of an ingest that took the same content in before."""
        return _recorded(self.lake, self.file.name, self.file.sha256)


def _unless_known(batches: Iterator[ParsedBatch], content: _Content) -> Iterator[ParsedBatch]:
    """The batches, which end when the content turns out to be known."""
    with collector_paused():  # compiled loops are loaded for the first one: many objects that stay
        batch = next(batches, None)
    while batch is not None and not (content.file.is_hashed and content.known):
        yield batch
        batch = next(batches, None)


def ingest_batches(
    batches: Iterable[ParsedBatch], lake: Lake, received_at: datetime, *, name: str, sha256: str
) -> FileReport:
    """Take parsed batches in as one delivery, known by its content's hash; a known one's batches are not touched.

    Raises:
        StorageError: the lake cannot be read or written; calling again completes what was begun.
    """
    known = _recorded(lake, name, sha256)
    if known is not None:
        return known
    delivery = StagedBatch(name, received_at)
    stage(batches, lake, delivery)
    return _commit(lake, delivery, sha256)


def _commit(lake: Lake, delivery: StagedBatch, sha256: str) -> FileReport:
    """Make what was staged part of the lake, as far as it is new, and the delivery known."""
    with sql.connect() as connection, sql.at_most(connection, MEMORY):
        outcomes = [commit_new(connection, lake, table, delivery, sha256) for table in dedupe.PARTS]
    refused = [*delivery.staged["quarantine"], *(file for outcome in outcomes for file in outcome.conflicts)]
    if refused:
        lake.commit_once("quarantine", refused, transaction=sha256)
    rejected = Counts(read=delivery.rejected, quarantined=delivery.rejected)
    counts = sum((outcome.counts for outcome in outcomes), rejected)
    rows = sum(outcome.rows for outcome in outcomes)
    report = FileReport(
        delivery.name, sha256, counts, rows, batch_builder.most_ignored(delivery.ignored_keys), was_known=False
    )
    lake.append("ingests", _record(report, delivery.received_at), transaction=sha256)
    return report


def _recorded(lake: Lake, name: str, sha256: str) -> FileReport | None:
    """The report of a file that was completely taken in before."""
    if not lake.has_transaction("ingests", sha256):
        return None
    row = lake.scan("ingests").filter(pl.col("sha256") == sha256).collect().row(0, named=True)
    counts = Counts(row["read"], row["accepted"], row["quarantined"], row["duplicates"])
    return FileReport(name, sha256, counts, row["rows"], json.loads(row["ignored_keys"]), was_known=True)


def _record(report: FileReport, received_at: datetime) -> pl.DataFrame:
    row = {
        "file": report.name,
        "sha256": report.sha256,
        "read": report.counts.read,
        "accepted": report.counts.accepted,
        "quarantined": report.counts.quarantined,
        "duplicates": report.counts.duplicates,
        "rows": report.rows,
        "ignored_keys": json.dumps(report.ignored_keys, sort_keys=True),
        "received_at": received_at,
    }
    return pl.DataFrame([row], schema=schema.INGESTS)
