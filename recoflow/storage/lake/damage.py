"""Damage of the lake's files: which file it is, and what to do about its table.

What belongs here: looks at files of Delta tables, and the cure of a table. What does not: reading rows (lake.py).
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from recoflow.errors import StorageError

DERIVED: Final = ("items", "identity", "interactions")  # every ingest builds them again from the other tables
LOG: Final = "_delta_log"
_PARQUET: Final = re.compile(r"(/[^\"'\n]*?\.parquet)")


class DamagedError(StorageError):
    """A file of a table is missing, cut or overwritten."""


def damaged(path: Path | str, problem: str) -> DamagedError:
    """The error for one file of a table, or of its log."""
    folder = Path(path).parent
    table = folder.parent if folder.name == LOG else folder
    return DamagedError(str(path), problem, cure(table))


def cure(table: Path) -> str:
    """What to do about a damaged table."""
    if table.name in DERIVED:
        return f"Remove this folder, {table}: the next ingest builds the table again from the events"
    return (
        "Put the file back, or all of the data folder by `recoflow restore`; do not remove the folder: it has no copy"
    )


def in_log(table: Path) -> DamagedError | None:
    """What is wrong with the table's log, None when every entry can be read."""
    log = table / LOG
    versions = []
    for entry in sorted(log.glob("*.json")):
        try:
            for line in entry.read_bytes().splitlines():
                if not isinstance(json.loads(line), dict):
                    return damaged(entry, "cannot be read: it has a line that is no JSON object")
        except ValueError as error:
            return damaged(entry, f"cannot be read: {error}")
        versions.append(int(entry.stem))
    checkpoints = sorted(log.glob("*.checkpoint*.parquet"))
    for checkpoint in checkpoints:
        try:
            pq.read_table(checkpoint)
        except (pa.ArrowException, OSError) as error:
            return damaged(checkpoint, f"cannot be read: {_line(error)}")
    first = max((int(path.name.partition(".")[0]) for path in checkpoints), default=-1) + 1
    expected = range(first, max(versions, default=first - 1) + 1)
    missing = sorted(set(expected) - set(versions))
    return damaged(log / f"{missing[0]:020}.json", "is missing") if missing else None


def in_files(files: Iterator[tuple[str, int]]) -> DamagedError | None:
    """The first of the files, each with its size by the log, that is missing or has another size; None without any."""
    for name, size in files:
        try:
            found = Path(name).stat().st_size
        except FileNotFoundError:
            return damaged(name, "is missing")
        if found != size:
            return damaged(name, f"is damaged: it has {found} bytes, its table's log says {size}")
    return None


@contextlib.contextmanager
def explain_damage() -> Iterator[None]:
    """Turns what DuckDB says about a Parquet file that it cannot read into a DamagedError that names the file."""
    try:
        yield
    except duckdb.Error as error:
        named = _PARQUET.search(str(error))
        if named is None:
            raise
        raise damaged(named[1], f"cannot be read: {_line(error)}") from error


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
