from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from recoflow import schema
from recoflow.errors import StorageError
from recoflow.storage import warehouse
from recoflow.storage.lake.lake import Lake

DAY = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)


def _lake(folder: Path, users: int) -> Lake:
    lake = Lake(folder)
    rows = [
        {"event_id": str(n), "part": 0, "event_type": "page_visit", "user_id": f"u{n % 2}", "timestamp": DAY}
        for n in range(users)
    ]
    lake.append("events", pl.DataFrame(rows, schema=schema.EVENTS))
    lake.append("items", pl.DataFrame([{"item_id": "b"}, {"item_id": "a"}], schema=schema.ITEMS))
    return lake


def _read(path: Path, query: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(query).fetchall()


def test_each_environment_has_its_schema_with_all_marts(tmp_path):
    path = tmp_path / "warehouse.duckdb"
    # Names that DuckDB uses itself are names like any other.
    rows = warehouse.build_warehouse({"temp": _lake(tmp_path / "t", 3), "main": Lake(tmp_path / "none")}, path)

    assert rows["temp"] | {"events_per_day": 1, "items": 2} == rows["temp"]
    assert set(rows["main"].values()) == {0}
    query = 'SELECT day::VARCHAR, event_type, events, users, devices FROM warehouse."temp".events_per_day'
    assert _read(path, query) == [("2026-03-01", "page_visit", 3, 2, 0)]
    assert _read(path, 'SELECT item_id FROM warehouse."temp".items') == [("a",), ("b",)]
    assert [entry.name for entry in tmp_path.iterdir() if "warehouse" in entry.name] == ["warehouse.duckdb"]


@pytest.mark.fault("F42")
def test_who_reads_the_old_file_neither_waits_nor_is_waited_for(tmp_path):
    path = tmp_path / "warehouse.duckdb"
    lake = _lake(tmp_path / "lake", 1)
    warehouse.build_warehouse({"lorem": lake}, path)
    with duckdb.connect(str(path), read_only=True) as reader:
        lake.append("items", pl.DataFrame([{"item_id": "c"}], schema=schema.ITEMS))
        warehouse.build_warehouse({"lorem": lake}, path)
        before = reader.execute("SELECT count(*) FROM lorem.items").fetchall()

    assert before == [(2,)]
    assert _read(path, "SELECT count(*) FROM lorem.items") == [(3,)]


@pytest.mark.fault("F42")
@pytest.mark.parametrize("mode", ["read_only=True", "read_only=False"])
def test_another_process_that_holds_the_file_holds_up_no_build(tmp_path, mode):
    path = tmp_path / "warehouse.duckdb"
    lake = _lake(tmp_path / "lake", 1)
    warehouse.build_warehouse({"lorem": lake}, path)
    holding = (
        f"import duckdb, sys; c = duckdb.connect({str(path)!r}, {mode}); print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holding]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "open\n"
            lake.append("items", pl.DataFrame([{"item_id": "c"}], schema=schema.ITEMS))
            assert warehouse.build_warehouse({"lorem": lake}, path)["lorem"]["items"] == 3
            assert _read(path, "SELECT count(*) FROM lorem.items") == [(3,)]
        finally:
            holder.kill()


def test_a_lake_that_cannot_be_read_leaves_the_old_file(tmp_path):
    path = tmp_path / "warehouse.duckdb"
    lake = _lake(tmp_path / "lake", 1)
    warehouse.build_warehouse({"lorem": lake}, path)
    next((tmp_path / "lake" / "items" / "_delta_log").glob("*0.json")).write_text("garbage")

    with pytest.raises(StorageError):
        warehouse.build_warehouse({"lorem": lake}, path)

    assert _read(path, "SELECT count(*) FROM lorem.items") == [(2,)]
    assert [entry.name for entry in tmp_path.iterdir() if "warehouse" in entry.name] == ["warehouse.duckdb"]
