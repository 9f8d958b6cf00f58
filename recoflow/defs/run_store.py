"""Dagster's SQLite storage with connections that stay open (`keeps_connections` in dagster.yaml).

What belongs here: how the databases are opened. What does not: what is in them, which is Dagster's own affair.

A commit reaches the disk with the next checkpoint: what a power cut takes are the last moments of the history of runs,
while what recoflow knows of its files and tables stands elsewhere.

Dagster opens a database anew for every statement: it makes an engine, compiles the statement, and at the end, as the
last user, copies the whole write-ahead log back. That is some 20 ms of processor time for an event, which a burst of a
hundred campaigns pays two thousand times, and an idle daemon all day.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Final

from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._serdes import ConfigurableClassData

from recoflow.defs.run_files import SqliteFiles

if TYPE_CHECKING:
    import sqlalchemy

MOST_RUNS: Final = 16  # whose events are kept open: each run has a database of its own
BUSY_SECONDS: Final = 60.0  # that a statement waits for another process's transaction


class SqliteStorage(SqliteFiles):
    """Dagster's storage of runs, events and schedules under `base_dir`; the files are those of Dagster's own."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        self._run_storage = _Runs(self._run_storage._conn_string)
        self._schedule_storage = _Schedules(self._schedule_storage._conn_string)
        self._event_log_storage = _Events(self._event_log_storage._base_dir)


class _OneDatabase:
    _conn_string: str

    @cached_property
    def _engine(self) -> "sqlalchemy.Engine":
        return _opened(self._conn_string)

    @contextmanager
    def connect(self) -> Iterator["sqlalchemy.Connection"]:
        with self._engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        self._engine.dispose()


class _Runs(_OneDatabase, SqliteRunStorage):
    pass


class _Schedules(_OneDatabase, SqliteScheduleStorage):
    pass


class _Events(SqliteEventLogStorage):
    def __init__(self, base_dir: str) -> None:
        self._engines: dict[str, sqlalchemy.Engine] = {}  # the one used last at the end
        self._tables: set[str] = set()
        super().__init__(base_dir)

    @contextmanager
    def _connect(self, shard: str) -> Iterator["sqlalchemy.Connection"]:
        with self._db_lock, self._engine(shard).begin() as connection:
            yield connection

    def has_table(self, table_name: str) -> bool:
        # Asked for each check, and while a connection is in use.
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def _engine(self, shard: str) -> "sqlalchemy.Engine":
        engine = self._engines[shard] = self._engines.pop(shard, None) or _opened(self.conn_string_for_shard(shard))
        if shard not in self._initialized_dbs:
            self._initdb(engine)
            self._initialized_dbs.add(shard)
        if len(self._engines) > MOST_RUNS:
            self._engines.pop(next(iter(self._engines))).dispose()
        return engine

    def delete_events(self, run_id: str) -> None:
        super().delete_events(run_id)
        with self._db_lock:
            if run_id in self._engines:
                self._engines.pop(run_id).dispose()
            self._initialized_dbs.discard(run_id)

    def wipe(self) -> None:
        self._close()
        super().wipe()

    def dispose(self) -> None:
        super().dispose()
        self._close()

    def _close(self) -> None:
        with self._db_lock:
            while self._engines:
                self._engines.popitem()[1].dispose()


def _opened(url: str) -> "sqlalchemy.Engine":
    import sqlalchemy

    engine = sqlalchemy.create_engine(url, max_overflow=-1, connect_args={"timeout": BUSY_SECONDS})
    sqlalchemy.event.listen(engine, "connect", _prepare)
    return engine


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA secure_delete = ON")  # what is deleted leaves no bytes behind
