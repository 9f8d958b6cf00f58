"""A damaged lake: the file is named with the right cure, and nothing stops that does not read the table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from recoflow import schema
from recoflow.storage import sql
from recoflow.storage.lake.damage import DamagedError
from recoflow.storage.lake.lake import Lake

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def rows(table: pl.Schema, count: int) -> pl.DataFrame:
    """Rows that have nothing but what each column's type needs."""
    plain = {pl.String(): "x", pl.Boolean(): True, schema.UTC_TIME: NOW}
    return pl.DataFrame([{name: plain.get(dtype, 1) for name, dtype in table.items()}] * count, schema=table)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(tmp_path / "lake" / "lorem")
    for table in ("events", "items"):
        for _ in range(3):
            made.append(table, rows(schema.EVENTS if table == "events" else schema.ITEMS, 50))
    return made


def entry(lake: Lake, table: str) -> Path:
    return Path(lake.root) / table / "_delta_log" / f"{1:020}.json"


def parquet(lake: Lake, table: str) -> Path:
    return Path(lake.files(table)[0])


def overwritten(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(b"\0" * 8 + content[8:-8] + b"\0" * 8)


def read(lake: Lake, table: str) -> None:
    with sql.connect() as connection:
        lake.view(connection, table)
        connection.execute(f"FROM {table}").fetchall()


DAMAGES: dict[str, tuple[Callable[[Lake, str], Path], Callable[[Path], object]]] = {
    "log entry damaged": (entry, lambda path: path.write_text('{"commitInfo": ')),
    "log entry empty of JSON": (entry, lambda path: path.write_bytes(b"\0" * 200)),
    "log entry missing": (entry, lambda path: path.unlink()),
    "parquet missing": (parquet, lambda path: path.unlink()),
    "parquet cut": (parquet, lambda path: path.write_bytes(path.read_bytes()[:-20])),
    "parquet empty": (parquet, lambda path: path.write_bytes(b"")),
    "parquet overwritten": (parquet, overwritten),
}


@pytest.mark.fault("M17")
@pytest.mark.parametrize("table", ["events", "items"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_table_is_refused_by_the_files_name_with_the_cure_of_its_table(
    lake: Lake, damage: str, table: str
) -> None:
    find, do = DAMAGES[damage]
    path = find(lake, table)
    do(path)
    with pytest.raises(DamagedError) as refused:
        read(lake, table)
    assert refused.value.culprit == str(path)
    cure = "Remove this folder" if table == "items" else "recoflow restore"
    assert cure in refused.value.cure
    assert ("do not remove" in refused.value.cure) == (table == "events")


@pytest.mark.fault("M17")
@pytest.mark.parametrize("damage", ["parquet missing", "parquet cut"])
def test_polars_reads_a_damaged_table_no_more_than_duckdb_does(lake: Lake, damage: str) -> None:
    find, do = DAMAGES[damage]
    path = find(lake, "events")
    do(path)
    with pytest.raises(DamagedError, match=path.name):
        lake.scan("events")


@pytest.mark.fault("M17")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_table_stops_nothing_that_reads_others(lake: Lake, damage: str) -> None:
    find, do = DAMAGES[damage]
    do(find(lake, "items"))
    with sql.connect() as connection:
        lake.views(connection, "events")
        assert connection.execute("SELECT count(*) FROM events").fetchall() == [(150,)]


@pytest.mark.fault("M17")
@pytest.mark.parametrize("damage", ["parquet missing", "parquet cut", "parquet empty", "parquet overwritten"])
def test_a_derived_table_with_a_damaged_file_is_replaced_as_a_whole(lake: Lake, damage: str) -> None:
    find, do = DAMAGES[damage]
    do(find(lake, "items"))
    lake.overwrite("items", rows(schema.ITEMS, 2))
    assert lake.scan("items").collect().height == 2


@pytest.mark.fault("M17")
def test_the_cure_of_a_derived_table_cures(lake: Lake) -> None:
    entry(lake, "items").write_text("{")
    with pytest.raises(DamagedError) as refused:
        lake.overwrite("items", rows(schema.ITEMS, 2))
    folder = Path(refused.value.cure.removeprefix("Remove this folder, ").partition(":")[0])
    assert folder == Path(lake.root) / "items"
    folder.rename(folder.with_name("aside"))
    lake.overwrite("items", rows(schema.ITEMS, 2))
    assert lake.scan("items").collect().height == 2
