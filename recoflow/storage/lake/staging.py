"""Rows on their way into files that wait for their commit: written beside their table, where no reader sees them.

What belongs here: such files from their first row to their sync. What does not: when they become part of the table
(lake.py), how rows are held in Parquet (table_format.py).
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
import pyarrow as pa

from recoflow.errors import StorageError
from recoflow.storage.lake import table_format

FILE_ROWS: Final = 1_000_000  # from which on a file is followed by another one


@dataclass(frozen=True)
class StagedFile:
    """A Parquet file that waits for its commit; `path` can be read at once."""

    table: str
    path: str
    name: str
    rows: int
    size: int


@dataclass(frozen=True)
class StagingTarget:
    """Where the files of a table go."""

    table: str  # one of `table_format.TABLES`
    folder: str  # path or URL
    create: Callable[[str], Any]  # gives pyarrow's output stream to a new file of this name
    sync: Callable[[str], None]  # makes a closed file of this name survive a power cut
    explained: Callable[[], AbstractContextManager[None]]  # turns errors of disk and object store into StorageError


class Staging:
    """Rows of one table that come one frame after the other, in files of about `file_rows` rows.

    Rows are written when they are added, so that no more of them are in memory. A file that is full goes to the disk on
    a thread of its own while the next one is written: the disk takes as long for it as ingest does for two batches.
    """

    def __init__(self, place: StagingTarget, *, file_rows: int = FILE_ROWS) -> None:
        self._file_rows = file_rows
        self._begun: list[str] = []
        self._ended: list[Future[StagedFile]] = []
        self._ends = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._place = place
        self._open: _OpenFile | None = None

    def prepared(self, frame: pl.DataFrame) -> pa.Table:
        """Rows as they are written, for `add`; on any thread.

        Raises:
            StorageError: the frame has other columns or dtypes than the table's contract.
        """
        self._check(frame)
        return table_format.to_arrow(self._place.table, frame)

    def add(self, rows: pa.Table) -> None:
        """Write prepared rows behind those that were added before.

        Raises:
            StorageError: the disk refused.
        """
        with self._place.explained():
            if self._open is None:
                self._begun.append(f"part-{uuid.uuid4()}.parquet")
                self._open = _OpenFile(self._place, self._begun[-1])
            self._open.write(rows)
        if self._open.rows >= self._file_rows:
            self._end()

    def close(self) -> list[StagedFile]:
        """End the last file, and give all of them: they are on the disk then.

        Raises:
            StorageError: the disk refused one of them.
        """
        self._end()
        self._ends.shutdown()
        return [ended.result() for ended in self._ended]

    def abandon(self) -> list[StagedFile]:
        """After an error: all files that were begun, finished or not, for `Lake.discard`."""
        self._ends.shutdown()
        if self._open is not None:
            abandoned, self._open = self._open, None
            abandoned.abandon()
        table, folder = self._place.table, self._place.folder
        return [StagedFile(table, f"{folder}/{name}", name, rows=0, size=0) for name in self._begun]

    def _end(self) -> None:
        if self._open is not None:
            ended, self._open = self._open, None
            self._ended.append(self._ends.submit(self._closed, ended))

    def _closed(self, ended: _OpenFile) -> StagedFile:
        with self._place.explained():
            return ended.close()

    def _check(self, frame: pl.DataFrame) -> None:
        expected = table_format.TABLES[self._place.table]
        if frame.schema != expected:
            wrong = [n for n in {*expected, *frame.columns} if expected.get(n) != frame.schema.get(n)]
            raise StorageError(
                self._place.folder, f"rows do not have the table's columns (see {wrong})", "Build them by schema.py"
            )


class _OpenFile:
    """A file that is still being written."""

    def __init__(self, place: StagingTarget, name: str) -> None:
        self.rows = 0
        self._place = place
        self._name = name
        self._sink = place.create(name)
        self._writer = table_format.writer(place.table, self._sink)

    def write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows, row_group_size=table_format.ROW_GROUP)
        self.rows += rows.num_rows

    def abandon(self) -> None:
        for each in (self._writer, self._sink):
            with contextlib.suppress(OSError, ValueError):  # of a disk that is full, say: the file goes anyway
                each.close()

    def close(self) -> StagedFile:
        self._writer.close()
        size = self._sink.tell()
        self._sink.close()
        self._place.sync(self._name)
        return StagedFile(self._place.table, f"{self._place.folder}/{self._name}", self._name, self.rows, size)
