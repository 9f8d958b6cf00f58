"""Hand-made parsed batches: what a parser gives, without a parser."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from recoflow import schema
from recoflow.schema import ParsedBatch
from recoflow.storage.lake.lake import Lake

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def event_rows(event_id: str, content: int = 0, *, kind: str = "event", size: int = 0) -> list[dict[str, Any]]:
    """One source event: a single row, or a ranking of `size` items. The content decides hash, time and item."""
    parts = range(1, size + 1) if size else [0]
    return [
        {
            "kind": kind,
            "event_id": event_id,
            "part": part,
            "content_hash": 2**64 - 1 - content,
            "event_type": "impression" if size else "detail_pageview",
            "timestamp": NOW - timedelta(days=1, seconds=content),
            "user_id": "ann",
            "item_id": f"i{content}-{part}",
            "source": "dump.jsonl",
            "received_at": NOW,
        }
        for part in parts
    ]


def update_row(item_id: str, event_id: str, content: int = 0) -> dict[str, Any]:
    return {
        "entity": "item",
        "entity_id": item_id,
        "operation": "upsert",
        "event_id": event_id,
        "content_hash": content,
        "timestamp": NOW,
        "fields": '{"title": "A"}',
        "received_at": NOW,
    }


def reject_row(line: int, raw: str = "{") -> dict[str, Any]:
    return {"file": "dump.jsonl", "line": line, "code": "not_json", "message": "no", "raw": raw, "received_at": NOW}


def make_batch(
    events: Sequence[Sequence[dict[str, Any]]] = (),
    updates: Sequence[dict[str, Any]] = (),
    rejects: Sequence[dict[str, Any]] = (),
    ignored_keys: dict[str, int] | None = None,
) -> ParsedBatch:
    """A batch of source events, each given by its rows."""
    return ParsedBatch(
        read=len(events) + len(updates) + len(rejects),
        events=pl.DataFrame([row for rows in events for row in rows], schema=schema.EVENTS),
        updates=pl.DataFrame(list(updates), schema=schema.UPDATES),
        rejects=pl.DataFrame(list(rejects), schema=schema.REJECTS),
        ignored_keys=ignored_keys or {},
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake" / "lorem")


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    return SimpleNamespace(event=event_rows, update=update_row, reject=reject_row, batch=make_batch, now=NOW)
