"""Databases and logs that others have open lose the bytes of a person and nothing else."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from recoflow.erasure import databases, logs
from recoflow.erasure.subject import ErasureSubject
from recoflow.errors import StorageError

pytestmark = pytest.mark.fault("M15")
ANN = ErasureSubject(frozenset({"ann-4711"}), frozenset({"1234567"}))


def made(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, event TEXT)")
    return connection


def content(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_texts_are_blanked_and_neither_free_pages_nor_the_log_keep_a_byte(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    event = {"class": "Event", "pid": 1234567, "metadata": {"preview": "| ann-4711 | 1234567 |"}}
    with contextlib.closing(made(path)) as writer:  # stays open, as a daemon's
        writer.execute("PRAGMA secure_delete = OFF")
        writer.executemany("INSERT INTO events (event) VALUES (?)", [(json.dumps(event),)] * 500)
        writer.execute("INSERT INTO events (event) VALUES ('of bob-0815')")
        writer.execute("DELETE FROM events WHERE id BETWEEN 10 AND 490")
        assert b"ann-4711" in content(path)
        assert databases.database_mentions(path, ANN)

        assert databases.redact_database(path, ANN) == 19

        assert b"ann-4711" not in content(path)
        assert not databases.database_mentions(path, ANN)
        rows = [text for (text,) in writer.execute("SELECT event FROM events ORDER BY id")]
        assert json.loads(rows[0]) == {"class": "Event", "pid": 1234567, "metadata": {"preview": "|  |  |"}}
        assert (len(rows), rows[-1]) == (20, "of bob-0815")
    assert databases.redact_database(path, ANN) == 0


def test_bytes_of_rows_that_were_deleted_before_count_as_a_mention(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    with contextlib.closing(made(path)) as writer:
        writer.execute("PRAGMA secure_delete = OFF")
        writer.execute("INSERT INTO events (event) VALUES ('by ann-4711!')")
        writer.execute("DELETE FROM events")
    assert databases.database_mentions(path, ANN)
    databases.redact_database(path, ANN)
    assert not databases.database_mentions(path, ANN)
    assert b"ann-4711" not in content(path)


def test_a_database_that_cannot_be_read_counts_as_a_mention(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with contextlib.closing(made(path)) as writer:
        writer.execute("INSERT INTO events (event) VALUES ('by ann-4711!')")
    path.write_bytes(path.read_bytes()[:100] + b"ann-4711" * 1000)
    assert databases.database_mentions(path, ANN)
    with pytest.raises(StorageError, match="cannot be cleared"):
        databases.redact_database(path, ANN)


def test_a_log_that_is_written_to_keeps_its_lines_and_its_length(tmp_path: Path) -> None:
    path = tmp_path / "code-server.log"
    with path.open("a") as writer:
        print("refused ann-4711 at /p/12345?user_id=ann-4711", file=writer, flush=True)
        assert logs.log_mentions(path, ANN)
        assert logs.redact_log(path, ANN) == 2
        print("of bob-0815", file=writer, flush=True)
    assert path.read_text() == "refused ******** at /p/12345?user_id=********\nof bob-0815\n"
    assert not logs.log_mentions(path, ANN)
