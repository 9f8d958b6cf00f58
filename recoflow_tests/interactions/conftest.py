"""A lake filled by hand, and what the interactions stage makes of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from recoflow import schema
from recoflow.storage import sql
from recoflow.storage.lake.lake import Lake

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)


class Filled:
    """The tables of a lake as views of a connection; every call adds rows."""

    def __init__(self, lake: Lake, connection: duckdb.DuckDBPyConnection) -> None:
        self.as_of = AS_OF
        self._lake = lake
        self._connection = connection

    def events(self, *rows: dict[str, Any]) -> duckdb.DuckDBPyConnection:
        """Events; `days` is their age, a detail page view of item i unless said otherwise."""
        defaults = {"event_type": "detail_pageview", "item_id": "i", "days": 0}
        frame = pl.DataFrame([_aged(defaults | row) for row in rows], schema=schema.EVENTS)
        return self._added("events", frame)

    def updates(self, *rows: dict[str, Any]) -> duckdb.DuckDBPyConnection:
        """Upserts of item i, unless said otherwise; `fields` is a dict or JSON."""
        defaults = {"entity": "item", "entity_id": "i", "operation": "upsert", "days": 0, "fields": {}, "event_id": "u"}
        frame = pl.DataFrame([_aged(_encoded(defaults | row)) for row in rows], schema=schema.UPDATES)
        return self._added("updates", frame)

    def _added(self, table: str, frame: pl.DataFrame) -> duckdb.DuckDBPyConnection:
        self._lake.append(table, frame)
        self._lake.views(self._connection)
        return self._connection


def _aged(row: dict[str, Any]) -> dict[str, Any]:
    return {"timestamp": AS_OF - timedelta(days=row["days"])} | {k: v for k, v in row.items() if k != "days"}


def _encoded(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"fields": row["fields"] if isinstance(row["fields"], str) else json.dumps(row["fields"])}


@contextmanager
def _new() -> Iterator[Filled]:
    with tempfile.TemporaryDirectory() as folder, sql.connect() as connection:
        yield Filled(Lake(Path(folder)), connection)


@pytest.fixture(scope="session")
def new() -> Callable[[], AbstractContextManager[Filled]]:
    """An empty lake of its own, however often it is asked for."""
    return _new


@pytest.fixture
def filled() -> Iterator[Filled]:
    with _new() as filled:
        yield filled
