"""Source events whose id is taken by another content: why each of them was refused, as rows for the quarantine.

What belongs here: their rows. What does not: finding them (dedupe.py).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import polars as pl

from recoflow import schema
from recoflow.storage.lake import Lake
from recoflow.storage.staging import StagedFile
from recoflow.storage.stored import IDS

CONFLICT: Final = "conflict"


def rejects(
    lake: Lake,
    table: str,
    arrived: Sequence[StagedFile],
    dropped: pl.DataFrame,
    lines: pl.Series | None,
    *,
    name: str,
    received_at: datetime,
) -> pl.DataFrame:
    """Rejects for the source events whose id is taken by another content, in the order of arrival."""
    found: list[dict[str, Any]] = []
    scope = IDS[table][0]
    heads = dropped.filter(pl.col("is_conflict") & pl.col("is_head"))
    begins = list(itertools.accumulate((file.rows for file in arrived), initial=0))
    for (index,), rows in heads.group_by("file", maintain_order=True):
        frame = lake.scan(table, [arrived[index].path]).collect()
        places = rows["row"] + begins[index]
        stood = [None] * len(rows) if lines is None else lines.gather(places).to_list()
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
            for line, row in zip(stood, frame[rows["row"]].iter_rows(named=True), strict=True)
        ]
    return pl.DataFrame(found, schema=schema.REJECTS)


def _as_json(row: dict[str, Any]) -> str:
    """The event as recoflow understood it; its text is not kept once it was parsed."""
    known = {name: value for name, value in row.items() if value is not None and name not in _BOOKKEEPING}
    return json.dumps(known, default=datetime.isoformat, ensure_ascii=False)


_BOOKKEEPING: Final = frozenset({"content_hash", "source", "received_at"})
