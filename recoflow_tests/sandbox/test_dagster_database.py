"""Dagster's database is kept open, and nobody is in anybody's way."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from recoflow.sandbox import dagster_database


@pytest.fixture
def index(tmp_path: Path) -> Path:
    (tmp_path / "dagster.yaml").write_text("storage: { sqlite: { base_dir: data/storage } }")
    path = tmp_path / "data/storage/history/runs/index.db"
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE runs (id INTEGER)")
        connection.commit()
    return path


def write(path: Path) -> None:
    with closing(sqlite3.connect(path, timeout=0)) as connection:
        connection.execute("INSERT INTO runs VALUES (1)")
        connection.commit()


def test_the_log_outlives_each_connection_of_others_who_can_still_write_it_back(tmp_path: Path, index: Path) -> None:
    log = index.with_name("index.db-wal")
    write(index)
    assert not log.exists()
    with dagster_database.held_open(tmp_path):
        write(index)
        assert log.exists()
        with closing(sqlite3.connect(index, timeout=0)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # nothing is being read
            assert connection.execute("SELECT count(*) FROM runs").fetchone() == (2,)
        assert not log.stat().st_size


@pytest.mark.parametrize("settings", [None, "", "storage: { postgres: { postgres_url: x } }"])
def test_another_storage_is_left_alone(tmp_path: Path, settings: str | None) -> None:
    if settings is not None:
        (tmp_path / "dagster.yaml").write_text(settings)
    with dagster_database.held_open(tmp_path):
        pass
