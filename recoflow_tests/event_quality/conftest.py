"""Tables whose rows a test writes down by their columns, and an environment with the thresholds it names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from recoflow.interactions import build, identity
from recoflow.quality.finding import Finding
from recoflow.settings.environment import Environment
from recoflow.settings.sections import Sftp
from recoflow.storage import sql
from recoflow.storage.lake.lake import TABLES

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)  # a Sunday
Rows = Sequence[dict[str, Any]]


def at(seconds: float = 0, *, days: float = 0) -> datetime:
    """A time after noon of the day before."""
    return NOW - timedelta(days=1) + timedelta(seconds=seconds, days=-days)


def event(event_type: str, seconds: float = 0, **fields: Any) -> dict[str, Any]:
    """An event of Ann with article-1."""
    about = {"user_id": "ann", "item_id": "article-1", "page_type": "home"}
    return {"event_type": event_type, "timestamp": at(seconds)} | about | fields


def numbered(events: Rows) -> list[dict[str, Any]]:
    return [
        {"kind": "event", "event_id": f"e{number:03}", "part": 0, "received_at": row["timestamp"]} | row
        for number, row in enumerate(events)
    ]


def item(item_id: str, attributes: str = '{"url":"u"}') -> dict[str, Any]:
    return {"item_id": item_id, "item_type": "article", "is_enabled": True, "attributes": attributes}


def environment(quality: dict[str, Any] | None = None, **sections: Any) -> Environment:
    sftp = Sftp(username="lorem", private_key=Path("key"), known_hosts=Path("hosts"))
    return Environment(name="lorem", sftp=sftp, quality=quality or {}, **sections)


@pytest.fixture
def judged() -> Callable[..., dict[str, Finding]]:
    """What a check function says of rows."""

    def judge(
        check: Callable[..., list[Finding]], events: Rows = (), *, settings: Environment | None = None, **tables: Rows
    ) -> dict[str, Finding]:
        settings = settings or environment()
        with sql.connect() as connection:
            fill(connection, settings, events, **tables)
            return {finding.check: finding for finding in check(connection, settings, NOW)}

    return judge


def fill(connection: duckdb.DuckDBPyConnection, settings: Environment, events: Rows, **tables: Rows) -> None:
    """The lake's tables, as `Lake.views` shows them; identity and interactions follow from the events."""
    rows = {"events": numbered(events), **tables}
    for name, schema in TABLES.items():
        connection.register(name, pl.DataFrame(list(rows.get(name, ())), schema=schema).to_arrow())
    connection.register("identity", identity.resolve_devices(connection).to_arrow())
    if "interactions" not in tables:
        connection.register("interactions", build.interactions(connection, settings, NOW).to_arrow())
