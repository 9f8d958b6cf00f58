"""Rows on their way into files that wait for their commit: written beside their table, where no reader sees them.

What belongs here: such files from their first row to their sync. What does not: when they become part of the table
(lake.py), how rows are held in Parquet (stored.py).
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from recoflow.errors import StorageError
from recoflow.storage import stored

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
class Place:
    """Where the files of a table go."""

    table: str  # one of `stored.TABLES`
    folder: str  # path or URL
    create: Callable[[str], Any]  # gives pyarrow's output stream to a new file of this name
    sync: Callable[[str], None]  # makes a closed file of this name survive a power cut
    explained: Callable[[], AbstractContextManager[None]]  # turns errors of disk and object store into StorageError


class Staging:
    """Rows of one table that come one frame after the other, in files of about `FILE_ROWS` rows.

    A frame is written when it is added, so that no more than one is in memory.
    """

    def __init__(self, place: Place) -> None:
        self.files: list[StagedFile] = []
        self._begun: list[str] = []
        self._place = place
        self._open: _OpenFile | None = None

    def add(self, frame: pl.DataFrame) -> None:
        """Write rows behind those that were added before.

        Raises:
            StorageError: the frame has other columns or dtypes than the table's contract, or the disk refused.
        """
        self._check(frame)
        with self._place.explained():
            if self._open is None:
                self._begun.append(f"part-{uuid.uuid4()}.parquet")
                self._open = _OpenFile(self._place, self._begun[-1])
            self._open.write(frame)
        if self._open.rows >= FILE_ROWS:
            self.close()

    def close(self) -> list[StagedFile]:
        """End the last file; all of them are on the disk then."""
        if self._open is not None:
            ended, self._open = self._open, None
            with self._place.explained():
                self.files.append(ended.close())
        return self.files

    def abandon(self) -> list[StagedFile]:
        """After an error: all files that were begun, finished or not, for `Lake.discard`."""
        if self._open is not None:
            abandoned, self._open = self._open, None
            abandoned.abandon()
        table, folder = self._place.table, self._place.folder
        return [StagedFile(table, f"{folder}/{name}", name, rows=0, size=0) for name in self._begun]

    def _check(self, frame: pl.DataFrame) -> None:
        expected = stored.TABLES[self._place.table]
        if frame.schema != expected:
            wrong = [n for n in {*expected, *frame.columns} if expected.get(n) != frame.schema.get(n)]
            raise StorageError(
                self._place.folder, f"rows do not have the table's columns (see {wrong})", "Build them by schema.py"
            )


class _OpenFile:
    """A file that is still being written."""

    def __init__(self, place: Place, name: str) -> None:
        self.rows = 0
        self._place = place
        self._name = name
        self._sink = place.create(name)
        self._writer = stored.writer(place.table, self._sink)

    def write(self, frame: pl.DataFrame) -> None:
        rows = stored.to_arrow(self._place.table, frame)
        self._writer.write_table(rows, row_group_size=stored.ROW_GROUP)
        self.rows += frame.height

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
