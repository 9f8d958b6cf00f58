"""Where accepted rows and rejects of one stretch of input are gathered, one event at a time.

What belongs here: the circumstances of arrival and the making of `schema.ParsedBatch`. What does not: rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final, NamedTuple, Protocol

import polars as pl

from recoflow import schema
from recoflow.formats import times
from recoflow.formats.read_limits import PART_CHARACTERS
from recoflow.formats.rejects import EventError, shortened
from recoflow.schema import ParsedBatch
from recoflow.settings.environment import Environment

MAX_RAW: Final = 1_000_000  # characters of a reject's raw text that are kept
MAX_IGNORED: Final = 1000  # ignored keys that a report names
AT_ONCE: Final = 10_000  # rows that wait as dictionaries, which take ten times the memory of columns

Value = str | int | float | None


@dataclass(frozen=True)
class ParseContext:
    """Where and when a stretch of input arrived; the same for all of its events.

    `default_event_type` fills in for files whose name tells their purpose (purchases).
    """

    environment: Environment
    source: str
    received_at: datetime
    is_timestamp_required: bool = True
    default_event_type: str | None = None

    @cached_property
    def received_micros(self) -> int:
        """Time of receipt in microseconds since 1970."""
        return times.micros(self.received_at)

    @cached_property
    def latest(self) -> int:
        """The last microsecond since 1970 that an event may carry."""
        return times.latest(self.received_at)


class RawRecord(NamedTuple):
    """One event as it was framed: its place, its text, and its value or why it has none."""

    line: int
    raw: str
    value: object
    record: int = 0  # place in its chunk, by which accepted rows keep the file's order


class EventFormat(Protocol):
    """The rules of one kind of input: adds the rows of one event to the collector or raises `EventError`."""

    def __call__(self, value: object, arrival: ParseContext, into: BatchBuilder, /) -> None:
        """Parse one event."""


class BatchBuilder:
    """Rows of accepted events and rejects, gathered one at a time."""

    def __init__(self, arrival: ParseContext) -> None:
        self._arrival = arrival
        self.event_records: list[int] = []  # for each row of events the record that it is from
        self.update_records: list[int] = []  # the same for updates
        self._record = 0
        self._rows = {name: _Rows(table, arrival) for name, table in _TABLES.items()}
        self._ignored: Counter[str] = Counter()
        self.size = 0  # characters of properties, which a ranking has for each of its items, and of rejects
        self._read = 0

    def read(self, pieces: Iterable[RawRecord], dialect: EventFormat) -> None:
        """Parse each piece; a bad one becomes a reject and stops nothing."""
        for piece in pieces:
            self._read += 1
            self._record = piece.record
            try:
                if isinstance(piece.value, EventError):
                    raise piece.value
                dialect(piece.value, self._arrival, self)
            except EventError as error:
                self._reject(piece, error)

    def add_event(self, row: Mapping[str, Value]) -> None:
        """Add one row of `schema.EVENTS`; source and time of receipt are filled in."""
        self.event_records.append(self._record)
        self.size += len(str(row.get("properties") or ""))
        self._rows["events"].add(row)

    def add_update(self, row: Mapping[str, Value]) -> None:
        """Add one row of `schema.UPDATES`; source and time of receipt are filled in."""
        self.update_records.append(self._record)
        self._rows["updates"].add(row)

    def ignore(self, keys: Iterable[str]) -> None:
        """Count keys that an accepted event carries and nobody reads."""
        self._ignored.update(keys)

    def batch(self) -> ParsedBatch:
        """Everything gathered so far."""
        return ParsedBatch(
            read=self._read,
            events=self._rows["events"].frame(),
            updates=self._rows["updates"].frame(),
            rejects=self._rows["rejects"].frame(),
            ignored_keys=most_ignored(self._ignored),
        )

    def _reject(self, piece: RawRecord, error: EventError) -> None:
        raw = piece.raw[:MAX_RAW]
        self.size += len(error.message) + len(raw)
        self._rows["rejects"].add(
            {
                "file": self._arrival.source,
                "line": piece.line,
                "field": error.field,
                "code": error.code,
                "message": error.message,
                "raw": raw,
            }
        )


def collected(
    pieces: Iterable[RawRecord], dialect: EventFormat, arrival: ParseContext, *, full: int = PART_CHARACTERS
) -> Iterator[BatchBuilder]:
    """What the pieces give, in one part or, where that is much, in several of about `full` characters."""
    rest = iter(pieces)
    is_more = True
    while is_more:
        is_more, collector = False, BatchBuilder(arrival)
        for piece in rest:
            collector.read((piece,), dialect)
            del piece  # a large one goes before the next one is made
            if is_more := collector.size >= full:
                break
        yield collector


class _Rows:
    """The rows of one table, which become columns a few at a time."""

    def __init__(self, table: pl.Schema, arrival: ParseContext) -> None:
        self._table = table
        self._arrival = arrival
        self._waiting: list[Mapping[str, Value]] = []
        self._frames: list[pl.DataFrame] = []

    def add(self, row: Mapping[str, Value]) -> None:
        """Add one row; names that it lacks are null."""
        self._waiting.append(row)
        if len(self._waiting) >= AT_ONCE:
            self._frames.append(self._frame())
            self._waiting = []

    def frame(self) -> pl.DataFrame:
        """Everything that was added."""
        return pl.concat([*self._frames, self._frame()])

    def _frame(self) -> pl.DataFrame:
        """Rows as a typed frame; times are microseconds since 1970."""
        rows = self._waiting
        if not rows:  # of most chunks of a large file: each column would take 20 µs
            return pl.DataFrame(schema=self._table)
        arrival: dict[str, str | int] = {
            "source": self._arrival.source,
            "received_at": self._arrival.received_micros,
        }
        present = set().union(*rows)
        columns = {}
        for name, dtype in self._table.items():
            if name in arrival:
                columns[name] = pl.repeat(arrival[name], len(rows), eager=True).cast(dtype)
            elif name in present:
                values = [row.get(name) for row in rows]
                columns[name] = pl.Series(values, dtype=pl.Int64 if dtype == schema.UTC_TIME else dtype).cast(dtype)
            else:
                columns[name] = pl.Series([None], dtype=dtype).new_from_index(0, len(rows))
        return pl.DataFrame(columns)


_TABLES: Final = {"events": schema.EVENTS, "updates": schema.UPDATES, "rejects": schema.REJECTS}


def merge(batches: Sequence[ParsedBatch]) -> ParsedBatch:
    """Several batches as one, in their order."""
    ignored: Counter[str] = Counter()
    for batch in batches:
        ignored.update(batch.ignored_keys)
    return ParsedBatch(
        read=sum(batch.read for batch in batches),
        events=pl.concat([batch.events for batch in batches]),
        updates=pl.concat([batch.updates for batch in batches]),
        rejects=pl.concat([batch.rejects for batch in batches]),
        ignored_keys=most_ignored(ignored),
        event_lines=joined([batch.event_lines for batch in batches]),
        update_lines=joined([batch.update_lines for batch in batches]),
    )


def most_ignored(counted: Counter[str]) -> dict[str, int]:
    """The most frequent of the ignored keys: a file may have millions of them."""
    return {shortened(name): count for name, count in counted.most_common(MAX_IGNORED)}


def joined(lines: Sequence[pl.Series | None]) -> pl.Series | None:
    """The lines of several batches, None where those of one are not known."""
    known = [each for each in lines if each is not None]
    return pl.concat(known) if known and len(known) == len(lines) else None
