"""SQLite databases: mentions of a person in their texts are blanked, and the bytes that were replaced leave the disk.

The databases are those of Dagster, which log what runs showed, and the ledgers of the mailboxes. Rows are never
deleted: Dagster's runs, partitions and ticks stay as they are, so that no sensor starts anything again.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from recoflow.erasure import compressed_files
from recoflow.erasure.subject import ErasureSubject
from recoflow.errors import StorageError

MAGIC: Final = b"SQLite format 3\x00"
SIDE_FILES: Final = ("-wal", "-shm", "-journal")
BUSY_SECONDS: Final = 60.0
TRIES: Final = 100  # of emptying the write-ahead log while others read


def is_database(path: Path) -> bool:
    """Whether a file is an SQLite database, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def is_side_file(path: Path) -> bool:
    """Whether a file is part of the SQLite database beside it."""
    return path.name.endswith(SIDE_FILES)


def redact_database(path: Path, person: ErasureSubject) -> int:
    """Blank the mentions in all texts of a database and return how many values changed.

    Raises:
        StorageError: the database is damaged, or others do not let go of it.
    """
    if not _has(path, person.any_id_in):
        return 0
    try:
        with contextlib.closing(_connected(path)) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("BEGIN IMMEDIATE")
            found = list(_mentions(connection, person))
            for table, row, column, text in found:
                connection.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (text, row))
            connection.execute("COMMIT")
            if found or _has(path, person.without_numbers().is_in):
                connection.execute("VACUUM")  # also clears what was deleted earlier
                _empty_log(connection)
            return len(found)
    except sqlite3.Error as error:
        raise StorageError(
            str(path), f"cannot be cleared: {error}", "Stop what uses it, then run this again"
        ) from error


def database_mentions(path: Path, person: ErasureSubject) -> bool:
    """Whether a text of a database mentions the person, or a part of its files that was freed."""
    if not _has(path, person.any_id_in):
        return False
    try:
        with contextlib.closing(_connected(path)) as connection:
            if next(_mentions(connection, person), None) is not None:
                return True
    except sqlite3.Error:  # damaged: what is in it cannot be said
        return True
    # An id that is a number can be a number in a row; every other one that is left is in freed bytes.
    return _has(path, person.without_numbers().is_in)


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)


def _mentions(connection: sqlite3.Connection, person: ErasureSubject) -> Iterator[tuple[str, int, str, str]]:
    """Table, row, column and new text of each value that mentions the person."""
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    for (table,) in tables:
        columns = [name for _, name, *_ in connection.execute(f'PRAGMA table_info("{table}")')]
        with contextlib.suppress(sqlite3.OperationalError):  # a table without rowid: sightings of file names
            rows = connection.execute(f'SELECT rowid, {", ".join(map(_quoted, columns))} FROM "{table}"')
            for row, *values in rows:
                for column, value in zip(columns, values, strict=True):
                    if isinstance(value, str) and person.is_in(value.encode("utf-8", "replace")):
                        new = person.blanked_value(value, numbers=False)
                        if new != value:
                            yield table, row, column, new


def _has(path: Path, is_in: Callable[[bytes], bool]) -> bool:
    files = (path, *(path.with_name(path.name + suffix) for suffix in SIDE_FILES))
    return any(is_in(block) for file in files if file.exists() for block in compressed_files.overlapping_blocks(file))


def _empty_log(connection: sqlite3.Connection) -> None:
    for _ in range(TRIES):
        (is_busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not is_busy:
            return
        time.sleep(0.1)
    raise sqlite3.OperationalError("its write-ahead log is in use")


def _quoted(column: str) -> str:
    return f'"{column}"'
