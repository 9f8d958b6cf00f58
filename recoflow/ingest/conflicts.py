"""Source events whose id is taken by another content: why each of them was refused, as rows for the quarantine.

What belongs here: their rows. What does not: finding them (dedupe.py).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl

from recoflow import schema
from recoflow.formats.rejects import shortened
from recoflow.ingest.dedupe import Lookup
from recoflow.storage import spool
from recoflow.storage.lake.lake import Lake
from recoflow.storage.lake.snapshot import Snapshot
from recoflow.storage.lake.staging import StagedFile
from recoflow.storage.lake.table_format import IDS

CONFLICT: Final = "conflict"
AT_ONCE: Final = 10_000  # rows of a file that are in memory at once
ASIDE: Final = timedelta(seconds=10)  # an event is received before its segment is opened or written to


def staged(
    lake: Lake,
    table: Snapshot,
    arrived: Sequence[StagedFile],
    lookup: Lookup,
    lines: pl.Series | None,
    *,
    name: str,
    received_at: datetime,
) -> list[StagedFile]:
    """Rejects for the source events whose id is taken by another content, in the order of arrival.

    An event without a time of its own that is sent again by its id is a duplicate, not a conflict.

    Args:
        lake: the lake.
        table: the table with all that was committed of the delivery.
        arrived: the delivery's staged files, in their order.
        lookup: what was found out about each row.
        lines: where each row stood in its file, None where that is not known.
        name, received_at: of the delivery.
    """
    begins = list(itertools.accumulate((file.rows for file in arrived), initial=0))
    frames = (
        _rejects(rows, stood, IDS[file.table][0], name, received_at)
        for index, file in enumerate(arrived)
        for rows, stood in _in_conflict(lake, table, file, lookup.dropped(index), lines=lines, begin=begins[index])
    )
    return lake.stage_all("quarantine", frames)


def _in_conflict(
    lake: Lake, table: Snapshot, file: StagedFile, dropped: pl.DataFrame, *, lines: pl.Series | None, begin: int
) -> Iterator[tuple[pl.DataFrame, list[int | None]]]:
    """The source events of a file that are in conflict and their lines, a part of the file at a time."""
    places = dropped.filter(pl.col("is_conflict") & pl.col("is_head"))["row"]
    for at in range(0, file.rows if len(places) else 0, AT_ONCE):
        part = places.filter(places.is_between(at, at + AT_ONCE, closed="left"))
        if len(part) == 0:
            continue
        rows = lake.scan(file.table, [file.path]).slice(at, AT_ONCE).collect()[part - at]
        is_other = pl.Series([not again for again in _sent_again(lake, table, rows)], dtype=pl.Boolean)
        part, rows = part.filter(is_other), rows.filter(is_other)
        if len(part):
            yield rows, [None] * len(part) if lines is None else lines.gather(part + begin).to_list()


def _rejects(
    rows: pl.DataFrame, lines: Sequence[int | None], scope: str, name: str, received_at: datetime
) -> pl.DataFrame:
    found = [
        {
            "file": name,
            "line": line,
            "field": "event_id",
            "code": CONFLICT,
            "message": (
                f"{row[scope]} '{shortened(row['event_id'])}' is taken by an event of other content, which stays; "
                "give each event an id of its own"
            ),
            "raw": _as_json(row),
            "received_at": received_at,
        }
        for line, row in zip(lines, rows.iter_rows(named=True), strict=True)
    ]
    return pl.DataFrame(found, schema=schema.REJECTS)


def _sent_again(lake: Lake, table: Snapshot, rows: pl.DataFrame) -> list[bool]:
    """Which of the rows are the kept event but for its time of receipt."""
    arrived = list(rows.iter_rows(named=True))
    timed = {row["event_id"] for row in arrived if _has_time_of_receipt(row)}
    if not timed:
        return [False] * len(arrived)
    found = lake.scan(table.table, table.files).filter(pl.col("event_id").is_in(list(timed))).collect()
    kept = {_key(row): _content(row) for row in found.iter_rows(named=True) if _has_time_of_receipt(row)}
    return [_has_time_of_receipt(row) and _content(row) == kept.get(_key(row)) for row in arrived]


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["event_id"], row.get("kind"), row.get("part")


def _has_time_of_receipt(row: dict[str, Any]) -> bool:
    """Whether an event's time lies in the life of the segment that it came in, as that of its receipt does."""
    begun = spool.opened_at(row.get("source") or "")
    return begun is not None and begun - ASIDE <= row["timestamp"] <= row["received_at"] + ASIDE


def _content(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _BOOKKEEPING and name != "timestamp"}


def _as_json(row: dict[str, Any]) -> str:
    """The event as recoflow understood it; its text is not kept once it was parsed."""
    known = {name: value for name, value in row.items() if value is not None and name not in _BOOKKEEPING}
    return json.dumps(known, default=datetime.isoformat, ensure_ascii=False)


_BOOKKEEPING: Final = frozenset({"content_hash", "source", "received_at"})
