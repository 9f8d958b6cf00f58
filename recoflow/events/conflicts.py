"""Source events whose id is taken by another content: why each of them was refused, as rows for the quarantine.

What belongs here: their rows. What does not: finding them (dedupe.py).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import polars as pl

from recoflow import schema
from recoflow.events.dedupe import Lookup
from recoflow.sources.rejects import shortened
from recoflow.storage.lake import Lake
from recoflow.storage.staging import StagedFile
from recoflow.storage.stored import IDS

CONFLICT: Final = "conflict"
AT_ONCE: Final = 10_000  # rows of a file that are in memory at once


def staged(
    lake: Lake,
    arrived: Sequence[StagedFile],
    lookup: Lookup,
    lines: pl.Series | None,
    *,
    name: str,
    received_at: datetime,
) -> list[StagedFile]:
    """Rejects for the source events whose id is taken by another content, in the order of arrival."""
    begins = list(itertools.accumulate((file.rows for file in arrived), initial=0))
    frames = (
        _rejects(rows, stood, IDS[file.table][0], name, received_at)
        for index, file in enumerate(arrived)
        for rows, stood in _in_conflict(lake, file, lookup.dropped(index), lines, begins[index])
    )
    return lake.stage_all("quarantine", frames)


def _in_conflict(
    lake: Lake, file: StagedFile, dropped: pl.DataFrame, lines: pl.Series | None, begin: int
) -> Iterator[tuple[pl.DataFrame, list[int | None]]]:
    """The source events of a file that are in conflict and their lines, a part of the file at a time."""
    places = dropped.filter(pl.col("is_conflict") & pl.col("is_head"))["row"]
    for at in range(0, file.rows if len(places) else 0, AT_ONCE):
        part = places.filter(places.is_between(at, at + AT_ONCE, closed="left"))
        if len(part):
            stood = [None] * len(part) if lines is None else lines.gather(part + begin).to_list()
            yield lake.scan(file.table, [file.path]).slice(at, AT_ONCE).collect()[part - at], stood


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


def _as_json(row: dict[str, Any]) -> str:
    """The event as recoflow understood it; its text is not kept once it was parsed."""
    known = {name: value for name, value in row.items() if value is not None and name not in _BOOKKEEPING}
    return json.dumps(known, default=datetime.isoformat, ensure_ascii=False)


_BOOKKEEPING: Final = frozenset({"content_hash", "source", "received_at"})
