"""Copies of files and databases that others write to meanwhile.

What belongs here: how one folder, database or table is copied. What does not: the order of folders (backup.py).
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from recoflow.errors import StorageError
from recoflow.storage import spool
from recoflow.storage.lake import damage
from recoflow.storage.lake.lake import TABLES, Lake

IN_PROGRESS: Final = (".*.tmp", "*.part", "*.lock", ".champion.lock")  # a name says that it is not there yet
DATABASES: Final = (".db", ".sqlite")
OF_DATABASES: Final = ("-wal", "-shm", "-journal")
TRIES: Final = 5  # at a table whose old files are removed meanwhile


def folder(source: Path, target: Path, *, without: Sequence[str] = ()) -> None:
    """Copy all files below a folder; what goes away meanwhile is left out, and databases are copied as of one moment.

    Args:
        source: may be missing.
        target: made where it is missing.
        without: names of folders and files that are left out, at the top only.
    """
    for path in _entries(source):
        if path.name in without or path.name.endswith(OF_DATABASES):
            continue
        if any(fnmatch.fnmatch(path.name, pattern) for pattern in IN_PROGRESS):
            continue
        if path.is_dir():
            (target / path.name).mkdir(parents=True, exist_ok=True)
            folder(path, target / path.name)
        elif path.suffix in DATABASES:
            database(path, target / path.name)
        else:
            file(path, target / path.name)


def file(source: Path, target: Path) -> bool:
    """Copy one regular file with its times; returns whether it was there. Links and devices are not copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if source.is_file() and not source.is_symlink():
            shutil.copy2(source, target)
            return True
    return False


def database(source: Path, target: Path) -> None:
    """Copy a SQLite database as of one moment, whoever writes to it; none where it is gone.

    Raises:
        StorageError: it is damaged.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.exists():
        return
    try:
        with (
            contextlib.closing(sqlite3.connect(f"file:{source}?mode=rw", uri=True, timeout=60)) as opened,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            opened.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.DatabaseError as error:
        problem = f"cannot be copied: {error}"
        raise StorageError(str(source), problem, "Run `recoflow doctor`, which says what is wrong with it") from error


def segments(source: Path, target: Path) -> None:
    """Copy the spool: of a segment that is being written all that was acknowledged before this call.

    What is gone when its turn comes is in the lake by then.
    """
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob(f"*{spool.SUFFIX}{spool.OPEN}")):
        content = _read(path) or _read(spool.sealed_path(path)) or b""
        whole = content[: content.rfind(b"\n" + spool.END) + 2]
        if len(whole) > 1:
            spool.sealed_path(target / path.name).write_bytes(whole)
    for path in spool.sealed(source):
        file(path, target / path.name)


def tables(source: Path, target: Path) -> None:
    """Copy the tables of a lake, each at the version that it has when its turn comes.

    The order is the reverse of that in which an ingest commits: a file that `ingests` calls done has its rows in every
    table that is copied after it.

    Raises:
        StorageError: a table is damaged.
    """
    lake = Lake(source)
    order = ["ingests", *sorted(TABLES.keys() - {"ingests", "events"}), "events"]
    for name in order:
        if (source / name).exists():
            _table(lake, name, source / name, target / name)


def _table(lake: Lake, name: str, source: Path, target: Path) -> None:
    missing = None
    for _ in range(TRIES):
        version = lake.version(name)
        if version is None:
            return
        lake.files(name)  # a damaged table is an error, not a backup
        _log(source / damage.LOG, target / damage.LOG, version)
        # Those of earlier versions, too: what was begun with one of them can be finished with it.
        folder(source, target, without=[damage.LOG])
        if not (missing := _missing(target, version)):
            return
        shutil.rmtree(target)
    raise StorageError(str(source), f"changes all the time: {missing} is gone", "Begin the backup again")


def _missing(target: Path, version: int) -> str | None:
    """A file that the copied version has and the copy does not."""
    lake = Lake(target.parent)
    snapshot = lake.snapshot(target.name)
    if snapshot is None or snapshot.version != version:
        return f"{damage.LOG} of version {version}"
    wrong = damage.in_files(snapshot.sizes())
    return None if wrong is None else wrong.culprit


def _log(source: Path, target: Path, version: int) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in _entries(source):
        number = path.name.partition(".")[0]
        if number.isdigit() and int(number) <= version:
            file(path, target / path.name)


def _entries(source: Path) -> Iterator[Path]:
    try:
        with os.scandir(source) as found:
            yield from sorted(Path(entry.path) for entry in found)
    except (FileNotFoundError, NotADirectoryError):
        return


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
