"""The local inbox folder: which of its files can be taken in now, and why others cannot.

What belongs here: looks at the folder. What does not: what becomes of a file (pending_files.py), its content
(file_hash.py).

Who may write into the folder must not read by it what only recoflow may read. So links are not followed, and a file is
not taken while it has a second name (a hard link): it may be a file of recoflow's own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from recoflow.ingest.file_hash import ArrivalError
from recoflow.storage.sftp import names

Rested = Callable[[Mapping[bytes, tuple[int, int]]], set[bytes]]


@dataclass(frozen=True)
class LocalFile:
    """A complete file; `name` is printable where the file's own name is not text."""

    path: Path
    name: str
    status: os.stat_result


@dataclass(frozen=True)
class Look:
    """What lies in the folder, in the order of names."""

    files: list[LocalFile]
    problems: list[ArrivalError]  # one for each file that cannot be taken


def look(folder: Path, quiet_seconds: float, now: float, rested: Rested) -> Look:
    """Look at the folder once.

    A file is complete when its time of change is `quiet_seconds` old. A time in the future tells nothing: `rested` says
    which of such files, by size and time of change, have been the same for long enough.

    Args:
        folder: the inbox; there is nothing where there is no folder.
        quiet_seconds: how long a file must rest.
        now: seconds since 1970.
        rested: see above; called once with all such files.
    """
    files: list[LocalFile] = []
    problems: list[ArrivalError] = []
    for path in _paths(folder, problems):
        try:
            found = _file(path)
        except ArrivalError as error:
            problems.append(error)
            continue
        if found is not None:
            files.append(found)
    ahead = {os.fsencode(f.path.name): (f.status.st_size, f.status.st_mtime_ns) for f in files if _age(f, now) < 0}
    quiet = rested(ahead)
    complete = [
        file
        for file in files
        if (os.fsencode(file.path.name) in quiet if _age(file, now) < 0 else _age(file, now) >= quiet_seconds)
    ]
    return Look(complete, problems)


def display_name(name: str) -> str:
    """A file's name for people and tables: itself where it is printable text."""
    return name if name.isprintable() else names.escaped(os.fsencode(name))


def _age(file: LocalFile, now: float) -> float:
    return now - file.status.st_mtime


def _paths(folder: Path, problems: list[ArrivalError]) -> list[Path]:
    try:
        with _explained(folder):
            found = [path for path in folder.iterdir() if names.is_data(os.fsencode(path.name))]
    except FileNotFoundError:
        return []
    except ArrivalError as error:
        problems.append(error)
        return []
    return sorted(found, key=lambda path: os.fsencode(path.name))


def _file(path: Path) -> LocalFile | None:
    """The file, None for a folder and for what is gone meanwhile."""
    name = display_name(path.name)
    try:
        with _explained(path):
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                return None
            if not stat.S_ISREG(status.st_mode):
                raise ArrivalError(str(path.with_name(name)), "is a link or a device", "Put the file itself there")
            if status.st_nlink > 1:
                problem = f"has {status.st_nlink} names (hard links), and may be a file of recoflow itself"
                raise ArrivalError(str(path.with_name(name)), problem, "Put a copy there")
            os.close(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))
    except FileNotFoundError:
        return None
    return LocalFile(path, name, status)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        cure = "Give the user who runs recoflow the right to read it; the file is taken in then"
        raise ArrivalError(
            str(path.with_name(display_name(path.name))), f"cannot be read: {error.strerror}", cure
        ) from error
