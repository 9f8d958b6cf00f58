"""One file into the lake: every source event becomes accepted, quarantined or a duplicate, exactly once.

What belongs here: the order of the commits and the accounting. What does not: reading text (sources), which rows are
new (dedupe.py), why a row is in conflict (conflicts.py), looking at what was refused (quarantine.py).

The commits of one file: events, updates, quarantine, then one row of `ingests`, which says that the file is done. Each
carries the file's content hash as its transaction id, so a run that follows a crash does only what is missing. Rows are
staged while the file is parsed; what is new is decided against a snapshot of the table and committed on the condition
that nobody has added to the table since, else only the files that were added are looked at before the next try.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Final

import duckdb
import polars as pl
import pyarrow as pa

from recoflow import schema
from recoflow.ahead import ahead
from recoflow.environment import Environment
from recoflow.errors import SourceError, StorageError
from recoflow.events import conflicts, dedupe
from recoflow.events.arriving import ArrivingFile, ChangedFileError
from recoflow.quality.importing import uncollected
from recoflow.schema import Counts, ParsedBatch
from recoflow.sources import collect
from recoflow.sources.collect import Dialect
from recoflow.storage import sql
from recoflow.storage.lake import ATTEMPTS, CommitConflictError, Lake, Snapshot
from recoflow.storage.staging import StagedFile, Staging

FENCE: Final = "ingest"  # every commit of new rows carries it, so that two of them at once conflict


@dataclass(frozen=True)
class FileReport:
    """What became of one file, the same now and whenever it arrives again; `was_known` tells the two apart."""

    name: str
    sha256: str
    counts: Counts
    rows: int  # added to events and updates
    ignored_keys: dict[str, int]
    was_known: bool


@dataclass
class _Delivery:
    """What was parsed from one file: written, not committed."""

    name: str
    received_at: datetime
    read: int = 0
    rejected: int = 0
    staged: dict[str, list[StagedFile]] = field(default_factory=dict)
    ignored_keys: Counter[str] = field(default_factory=Counter)
    lines: dict[str, list[pl.Series | None]] = field(default_factory=lambda: {table: [] for table in dedupe.PARTS})


@dataclass(frozen=True)
class _Outcome:
    """What became of the source events of one table."""

    counts: Counts
    rows: int
    conflicts: pl.DataFrame  # REJECTS


def ingest_file(
    path: Path,
    environment: Environment,
    lake: Lake,
    received_at: datetime,
    *,
    name: str | None = None,
    dialect: Dialect | None = None,
) -> FileReport:
    """Take one file of events or items in; a file whose content was taken in before is only looked up.

    Args:
        path: the file, in any framing and dialect of `sources.files`.
        environment: where it arrived.
        lake: the environment's lake.
        received_at: time of receipt.
        name: what the file is called in reports and in the `source` column; the path's name unless given.
        dialect: the rules of its events, where they are known; by default told by the content.

    Raises:
        SourceError: the file cannot be read at all; nothing of it is in the lake then.
        ChangedFileError: the file was written to while it was read; nothing of it is in the lake.
        StorageError: the lake cannot be read or written; calling again completes what was begun.
    """
    from recoflow.sources import files  # noqa: PLC0415 - parsers are heavy

    name = name or path.name
    batches = files.read(path, environment, received_at, name=name, dialect=dialect)
    delivery = _Delivery(name, received_at)
    with ThreadPoolExecutor(1, thread_name_prefix="hash") as thread:
        content = _Content(lake, ArrivingFile(path, name, thread))
        try:
            # While the hash is made. What is wrong with a file that turns out to be known is nobody's concern.
            _stage(_unless_known(batches, content), lake, delivery)
        except Exception:
            content.file.check()
            if content.known is None:
                raise
        known = content.known
    try:
        content.file.check()
    except ChangedFileError:
        _discard(lake, delivery)
        raise
    if known is None:
        return _commit(lake, delivery, content.file.sha256)
    _discard(lake, delivery)
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
    with uncollected():  # compiled loops are loaded for the first one: many objects that stay
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
    delivery = _Delivery(name, received_at)
    _stage(batches, lake, delivery)
    return _commit(lake, delivery, sha256)


def _commit(lake: Lake, delivery: _Delivery, sha256: str) -> FileReport:
    """Make what was staged part of the lake, as far as it is new, and the delivery known."""
    with sql.connect() as connection:
        outcomes = [_commit_new(connection, lake, table, delivery, sha256) for table in dedupe.PARTS]
    in_conflict = pl.concat([outcome.conflicts for outcome in outcomes])
    refused = delivery.staged["quarantine"] + ([lake.stage("quarantine", in_conflict)] if in_conflict.height else [])
    if refused:
        lake.commit_once("quarantine", refused, transaction=sha256)
    rejected = Counts(read=delivery.rejected, quarantined=delivery.rejected)
    counts = sum((outcome.counts for outcome in outcomes), rejected)
    rows = sum(outcome.rows for outcome in outcomes)
    report = FileReport(delivery.name, sha256, counts, rows, dict(delivery.ignored_keys), was_known=False)
    lake.append("ingests", _record(report, delivery.received_at), transaction=sha256)
    return report


def _stage(batches: Iterable[ParsedBatch], lake: Lake, delivery: _Delivery) -> None:
    """Write what the parser gives, one batch while the next ones are parsed; nothing is left after an error."""
    stagings = {table: lake.staging(table) for table in ("events", "updates", "quarantine")}
    try:
        with closing(ahead(_prepared(batches, stagings, delivery))) as prepared:
            for tables in prepared:
                for table, rows in tables.items():
                    stagings[table].add(rows)
        delivery.staged = {table: staging.close() for table, staging in stagings.items()}
    except BaseException:
        delivery.staged = {table: staging.abandon() for table, staging in stagings.items()}
        _discard(lake, delivery)
        raise


def _prepared(
    batches: Iterable[ParsedBatch], stagings: Mapping[str, Staging], delivery: _Delivery
) -> Iterator[dict[str, pa.Table]]:
    """The rows of each batch as they are written, by table; they are counted on the way."""
    for batch in batches:
        _count(batch, delivery)
        frames = {"events": batch.events, "updates": batch.updates, "quarantine": batch.rejects}
        yield {table: stagings[table].prepared(frame) for table, frame in frames.items() if frame.height}


def _discard(lake: Lake, delivery: _Delivery) -> None:
    for table, staged in delivery.staged.items():
        lake.discard(staged, lake.snapshot(table))
    delivery.staged.clear()


def _count(batch: ParsedBatch, delivery: _Delivery) -> None:
    heads = _heads("events", batch.events) + _heads("updates", batch.updates)
    if batch.read != heads + batch.rejects.height:
        problem = f"{batch.read} events were read, {heads} were parsed and {batch.rejects.height} refused"
        raise SourceError(delivery.name, problem, "Report this file: the parser lost or doubled an event")
    delivery.read += batch.read
    delivery.rejected += batch.rejects.height
    delivery.ignored_keys.update(batch.ignored_keys)
    for table, lines in (("events", batch.event_lines), ("updates", batch.update_lines)):
        delivery.lines[table].append(None if lines is None else lines.cast(pl.UInt32))


def _heads(table: str, frame: pl.DataFrame) -> int:
    """Number of source events: the rows of one ranking are one."""
    return int((frame["part"] <= 1).sum()) if table == "events" else frame.height


def _commit_new(
    connection: duckdb.DuckDBPyConnection, lake: Lake, table: str, delivery: _Delivery, sha256: str
) -> _Outcome:
    """Commit what is new of the delivery, once, and say what became of each of its source events."""
    arrived = delivery.staged[table]
    if not arrived:
        return _Outcome(Counts(), 0, pl.DataFrame(schema=schema.REJECTS))
    lookup = dedupe.Lookup(connection, table, arrived)
    choice: _Choice | None = None
    for _ in range(ATTEMPTS):
        snapshot = lake.ensure(table)
        if lookup.compare(snapshot.files) or choice is None:
            if choice is not None:
                lake.discard(choice.rewritten, snapshot)
            choice = _choose(lake, table, arrived, lookup.dropped())
        committed = _commit_choice(lake, snapshot, choice, lookup.heads, sha256)
        if committed is not None:
            break
    else:
        raise StorageError(f"{lake.root}/{table}", "is written to without a pause", "Try again later")
    accepted = committed.transaction(sha256) or 0
    lines = collect.joined(delivery.lines[table])
    refused = conflicts.rejects(
        lake, table, arrived, choice.dropped, lines, name=delivery.name, received_at=delivery.received_at
    )
    lake.discard([*arrived, *choice.rewritten], committed)
    counts = Counts(lookup.heads, accepted, refused.height, lookup.heads - accepted - refused.height)
    return _Outcome(counts, committed.transaction(_rows_of(sha256)) or 0, refused)


@dataclass(frozen=True)
class _Choice:
    """What to commit of a delivery: files as they arrived, or rewritten without the rows that are not new."""

    dropped: pl.DataFrame
    untouched: list[StagedFile]
    rewritten: list[StagedFile]

    @property
    def files(self) -> list[StagedFile]:
        return [*self.untouched, *self.rewritten]


def _choose(lake: Lake, table: str, arrived: Sequence[StagedFile], dropped: pl.DataFrame) -> _Choice:
    untouched, rewritten = [], []
    for index, file in enumerate(arrived):
        rows = dropped.filter(pl.col("file") == index)["row"]
        if rows.is_empty():
            untouched.append(file)
        elif len(rows) < file.rows:
            keep = pl.repeat(True, file.rows, eager=True).scatter(rows, False)
            rewritten.append(lake.stage(table, lake.scan(table, [file.path]).collect().filter(keep)))
    return _Choice(dropped, untouched, rewritten)


def _commit_choice(lake: Lake, snapshot: Snapshot, choice: _Choice, heads: int, sha256: str) -> Snapshot | None:
    """The table with the choice in it; None when somebody else committed since the snapshot."""
    if not choice.files or snapshot.transaction(sha256) is not None:
        return snapshot
    transactions = {
        FENCE: snapshot.version + 1,
        sha256: heads - int(choice.dropped["is_head"].sum()),
        _rows_of(sha256): sum(file.rows for file in choice.files),
    }
    try:
        return lake.commit(snapshot, choice.files, transactions=transactions)
    except CommitConflictError:
        return None


def _rows_of(sha256: str) -> str:
    """Transaction id that keeps the number of rows, beside the one that keeps the number of source events."""
    return f"{sha256}/rows"


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
