"""Source events whose id is taken by another content: why each of them was refused, as rows for the quarantine.

What belongs here: their rows. What does not: finding them (dedupe.py).

An event that states no time gets that of its receipt from the gateway. Sent again by its id it has another time, and is
a duplicate for all that: an event that differs from the kept one by its time of receipt alone is no conflict.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl

from recoflow import schema
from recoflow.storage import spool
from recoflow.storage.lake import Lake
from recoflow.storage.snapshot import Snapshot
from recoflow.storage.staging import StagedFile
from recoflow.storage.stored import IDS

CONFLICT: Final = "conflict"
ASIDE: Final = timedelta(seconds=10)  # an event is received before its segment is opened or written to


def rejects(
    lake: Lake,
    table: Snapshot,
    arrived: Sequence[StagedFile],
    dropped: pl.DataFrame,
    lines: pl.Series | None,
    *,
    name: str,
    received_at: datetime,
) -> pl.DataFrame:
    """Rejects for the source events whose id is taken by another content, in the order of arrival.

    Args:
        lake: the lake.
        table: the table with all that was committed of the delivery.
        arrived: the delivery's staged files, in their order.
        dropped: of `dedupe.Lookup`.
        lines: where each row stood in its file, None where that is not known.
        name, received_at: of the delivery.
    """
    found: list[dict[str, Any]] = []
    scope = IDS[table.table][0]
    heads = dropped.filter(pl.col("is_conflict") & pl.col("is_head"))
    begins = list(itertools.accumulate((file.rows for file in arrived), initial=0))
    for (index,), rows in heads.group_by("file", maintain_order=True):
        frame = lake.scan(table.table, [arrived[index].path]).collect()[rows["row"]]
        places = rows["row"] + begins[index]
        stood = [None] * len(rows) if lines is None else lines.gather(places).to_list()
        again = _sent_again(lake, table, frame)
        found += [
            {
                "file": name,
                "line": line,
                "field": "event_id",
                "code": CONFLICT,
                "message": (
                    f"{row[scope]} '{row['event_id']}' is taken by an event of other content, which stays; "
                    "give each event an id of its own"
                ),
                "raw": _as_json(row),
                "received_at": received_at,
            }
            for line, row, is_again in zip(stood, frame.iter_rows(named=True), again, strict=True)
            if not is_again
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
