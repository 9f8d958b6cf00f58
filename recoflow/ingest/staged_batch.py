"""What was parsed from one file: counted, and staged beside the tables, where nobody sees it yet.

What belongs here: rows on their way from the parser to files that wait for their commit. What does not: which of them
are new (dedupe.py), commits (commit.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl
import pyarrow as pa

from recoflow.compute.prefetch import prefetch
from recoflow.errors import SourceError
from recoflow.ingest import dedupe
from recoflow.schema import ParsedBatch
from recoflow.storage.lake.lake import Lake
from recoflow.storage.lake.staging import StagedFile, Staging


@dataclass
class StagedBatch:
    """What was parsed from one file: written, not committed."""

    name: str
    received_at: datetime
    read: int = 0
    rejected: int = 0
    staged: dict[str, list[StagedFile]] = field(default_factory=dict)
    ignored_keys: Counter[str] = field(default_factory=Counter)
    lines: dict[str, list[pl.Series | None]] = field(default_factory=lambda: {table: [] for table in dedupe.PARTS})


def stage(batches: Iterable[ParsedBatch], lake: Lake, delivery: StagedBatch) -> None:
    """Write what the parser gives, one batch while the next ones are parsed; nothing is left after an error."""
    stagings = {table: lake.staging(table) for table in ("events", "updates", "quarantine")}
    try:
        with closing(prefetch(_prepared(batches, stagings, delivery))) as prepared:
            for tables in prepared:
                for table, rows in tables.items():
                    stagings[table].add(rows)
        delivery.staged = {table: staging.close() for table, staging in stagings.items()}
    except BaseException:
        delivery.staged = {table: staging.abandon() for table, staging in stagings.items()}
        discard(lake, delivery)
        raise


def _prepared(
    batches: Iterable[ParsedBatch], stagings: Mapping[str, Staging], delivery: StagedBatch
) -> Iterator[dict[str, pa.Table]]:
    """The rows of each batch as they are written, by table; they are counted on the way."""
    for batch in batches:
        _count(batch, delivery)
        frames = {"events": batch.events, "updates": batch.updates, "quarantine": batch.rejects}
        yield {table: stagings[table].prepared(frame) for table, frame in frames.items() if frame.height}


def discard(lake: Lake, delivery: StagedBatch) -> None:
    """Remove what was staged and will not be committed."""
    for table, staged in delivery.staged.items():
        lake.discard(staged, lake.snapshot(table))
    delivery.staged.clear()


def _count(batch: ParsedBatch, delivery: StagedBatch) -> None:
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
