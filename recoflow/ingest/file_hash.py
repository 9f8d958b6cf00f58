"""The file that is taken in: its hash, made beside the parsing, and whether it stayed the same all the while.

What belongs here: looks at the file as a whole. What does not: its events.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from recoflow.errors import StorageError
from recoflow.storage import atomic_files


class ChangedFileError(StorageError):
    """A file was written to while it was read: nothing of it is in the lake. It can be taken in once it is whole."""


class ArrivalError(StorageError):
    """The disk or its rights refuse one file that arrived. It stays where it is, and concerns no other file."""


class ArrivingFile:
    """A regular file whose hash is made on a thread.

    Raises:
        ArrivalError: there is no such file, or it is a link: what it points to was not given to us.
    """

    def __init__(self, path: Path, name: str, thread: ThreadPoolExecutor) -> None:
        self._path = path
        self.name = name
        self._state = _opening(path, name)
        self._hashing = thread.submit(atomic_files.sha256, path)

    @property
    def is_hashed(self) -> bool:
        """Whether the hash is there."""
        return self._hashing.done()

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the content; waits for it.

        Raises:
            ArrivalError: the file cannot be read.
        """
        with explained(self.name):
            return self._hashing.result()

    def check(self) -> None:
        """Make sure that the hash and the events are of the same content.

        Raises:
            ChangedFileError: they may not be.
        """
        _check(self._path, self.name, self._state)


@contextmanager
def steady(path: Path, name: str) -> Iterator[None]:
    """What is read of the file in the block is of one content.

    Raises:
        ArrivalError: it cannot be read, or is a link.
        ChangedFileError: it was written to or replaced meanwhile.
    """
    before = _opening(path, name)
    try:
        with explained(name):
            yield
    except Exception:
        _check(path, name, before)
        raise
    _check(path, name, before)


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turns what the disk refuses into an ArrivalError that names the file."""
    try:
        yield
    except OSError as error:
        cure = "Give the user who runs recoflow the right to read it, or repair the disk; it is tried again"
        raise ArrivalError(name, f"cannot be read: {error.strerror or error}", cure) from error


def content_state(status: os.stat_result) -> tuple[int, int, int]:
    """What is another one when the file was written to or replaced, and the same when it was moved."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def _opening(path: Path, name: str) -> tuple[int, ...]:
    with explained(name):
        status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ArrivalError(name, "is a link or another thing that is no file", "Put the file itself there")
    return _state(status)


def _check(path: Path, name: str, before: tuple[int, ...]) -> None:
    try:
        is_same = _state(path.lstat()) == before
    except OSError:
        is_same = False
    if not is_same:
        cure = "It is taken in once it is complete; upload under a name that ends in .part and rename it then"
        raise ChangedFileError(name, "was written to while it was read", cure)


def _state(status: os.stat_result) -> tuple[int, ...]:
    """What changes with every write and every rename: another file under its name for a moment shows, too."""
    return *content_state(status), status.st_ctime_ns
