"""The commit of one table's part of a delivery: what is new of it, exactly once, and what became of the rest.

What belongs here: the race for the table, and the accounting of its source events. What does not: the order of the
tables (run.py), which rows are new (dedupe.py), why a row is in conflict (conflicts.py).

What is new is decided against a snapshot of the table and committed on the condition that nobody has added to the table
since, else only the files that were added are looked at before the next try.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import duckdb
import polars as pl

from recoflow.errors import StorageError
from recoflow.formats import batch_builder
from recoflow.ingest import conflicts, dedupe
from recoflow.ingest.staged_batch import StagedBatch
from recoflow.schema import Counts
from recoflow.storage.lake.lake import ATTEMPTS, CommitConflictError, Lake
from recoflow.storage.lake.snapshot import Snapshot
from recoflow.storage.lake.staging import StagedFile

AT_ONCE: Final = 20_000  # rows of a file that are in memory at once, where it is rewritten without some of them
FENCE: Final = "ingest"  # every commit of new rows carries it, so that two of them at once conflict


@dataclass(frozen=True)
class Outcome:
    """What became of the source events of one table."""

    counts: Counts
    rows: int
    conflicts: list[StagedFile]  # of the quarantine


def commit_new(
    connection: duckdb.DuckDBPyConnection, lake: Lake, table: str, delivery: StagedBatch, sha256: str
) -> Outcome:
    """Commit what is new of the delivery, once, and say what became of each of its source events."""
    arrived = delivery.staged[table]
    if not arrived:
        return Outcome(Counts(), 0, [])
    lookup = dedupe.Lookup(connection, table, arrived)
    choice: _Choice | None = None
    for _ in range(ATTEMPTS):
        snapshot = lake.ensure(table)
        if lookup.compare(snapshot.files) or choice is None:
            if choice is not None:
                lake.discard(choice.rewritten, snapshot)
            lookup.judge()
            choice = _choose(lake, table, arrived, lookup)
        committed = _commit_choice(lake, snapshot, choice, lookup.heads, sha256)
        if committed is not None:
            break
    else:
        raise StorageError(f"{lake.root}/{table}", "is written to without a pause", "Try again later")
    accepted = committed.transaction(sha256) or 0
    lines = batch_builder.joined(delivery.lines[table])
    refused = conflicts.staged(
        lake, committed, arrived, lookup, lines, name=delivery.name, received_at=delivery.received_at
    )
    lake.discard([*arrived, *choice.rewritten], committed)
    in_conflict = sum(file.rows for file in refused)
    counts = Counts(lookup.heads, accepted, in_conflict, lookup.heads - accepted - in_conflict)
    return Outcome(counts, committed.transaction(_rows_of(sha256)) or 0, refused)


@dataclass(frozen=True)
class _Choice:
    """What to commit of a delivery: files as they arrived, or rewritten without the rows that are not new."""

    dropped_heads: int
    untouched: list[StagedFile]
    rewritten: list[StagedFile]

    @property
    def files(self) -> list[StagedFile]:
        return [*self.untouched, *self.rewritten]


def _choose(lake: Lake, table: str, arrived: Sequence[StagedFile], lookup: dedupe.Lookup) -> _Choice:
    untouched, rewritten = [], []
    for index, file in enumerate(arrived):
        rows = lookup.dropped(index)["row"]
        if rows.is_empty():
            untouched.append(file)
        elif len(rows) < file.rows:
            keep = pl.repeat(True, file.rows, eager=True).scatter(rows, False)
            rewritten += lake.stage_all(table, _kept(lake.scan(table, [file.path]), keep))
    return _Choice(lookup.dropped_heads(), untouched, rewritten)


def _kept(rows: pl.LazyFrame, keep: pl.Series) -> Iterator[pl.DataFrame]:
    """Those of the rows that are kept, a part of them at a time."""
    for begin in range(0, len(keep), AT_ONCE):
        if (part := keep.slice(begin, AT_ONCE)).any():
            yield rows.slice(begin, AT_ONCE).collect().filter(part)


def _commit_choice(lake: Lake, snapshot: Snapshot, choice: _Choice, heads: int, sha256: str) -> Snapshot | None:
    """The table with the choice in it; None when somebody else committed since the snapshot."""
    if not choice.files or snapshot.transaction(sha256) is not None:
        return snapshot
    transactions = {
        FENCE: snapshot.version + 1,
        sha256: heads - choice.dropped_heads,
        _rows_of(sha256): sum(file.rows for file in choice.files),
    }
    try:
        return lake.commit(snapshot, choice.files, transactions=transactions)
    except CommitConflictError:
        return None


def _rows_of(sha256: str) -> str:
    """Transaction id that keeps the number of rows, beside the one that keeps the number of source events."""
    return f"{sha256}/rows"
