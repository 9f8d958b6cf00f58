"""The file that is taken in: its hash, made beside the parsing, and whether it stayed the same all the while.

What belongs here: looks at the file as a whole. What does not: its events.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recoflow.errors import StorageError
from recoflow.storage import artifacts


class ChangedFileError(StorageError):
    """A file was written to while it was read: nothing of it is in the lake. It can be taken in once it is whole."""


class ArrivingFile:
    """A file whose hash is made on a thread."""

    def __init__(self, path: Path, name: str, thread: ThreadPoolExecutor) -> None:
        self._path = path
        self.name = name
        self._state = _state(path)
        self._hashing = thread.submit(artifacts.sha256, path)

    @property
    def is_hashed(self) -> bool:
        """Whether the hash is there."""
        return self._hashing.done()

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the content; waits for it."""
        return self._hashing.result()

    def check(self) -> None:
        """Make sure that the hash and the events are of the same content.

        Raises:
            ChangedFileError: they may not be.
        """
        if _state(self._path) != self._state:
            cure = "It is taken in once it is complete; upload under a name that ends in .part and rename it then"
            raise ChangedFileError(self.name, "was written to while it was read", cure)


def _state(path: Path) -> tuple[int, int, int] | None:
    """What is another one when the file was written to or replaced; None when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
