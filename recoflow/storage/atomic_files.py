"""Single files that are there as a whole or not at all.

What belongs here: atomic writing and content hashes of local files. What does not: tables (lake.py), remote files.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

from recoflow.storage import regular_files

STRETCH: Final = 1 << 25  # bytes of a file that are sent to disk at once
KEPT: Final = 4  # stretches that may stay in memory
HASHED_AT_ONCE: Final = 8 * 1024**2  # bytes: fewer wait for a busy interpreter, more leave the processor's cache


def write_atomic(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Replace `path` by the content: readers see the old file or the new one, and one of them survives a power cut.

    The file is its owner's alone (0600).

    Args:
        path: the file; its folder is created when missing.
        content: the bytes, or a function that writes them into the open file it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with io.BufferedWriter(_Passing(handle, "wb")) as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        publish(Path(temporary), path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class _Passing(io.FileIO):
    """A file that goes to disk while it is written, and does not stay in memory: it may be larger than that.

    The disk has nothing to catch up with at the end, and what others read often stays in memory.
    """

    _written = _sent = 0

    def write(self, content: Any, /) -> int:
        count = super().write(content)
        self._written += count
        if self._written - self._sent >= STRETCH and hasattr(os, "posix_fadvise"):
            first = max(0, self._sent - KEPT * STRETCH)
            os.posix_fadvise(self.fileno(), first, self._written - first, os.POSIX_FADV_DONTNEED)
            self._sent = self._written
        return count


def publish(temporary: Path, path: Path) -> None:
    """Rename a finished file of the same file system to its name, durably."""
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0, opener=regular_files.opener) as file:
        block = memoryview(bytearray(min(HASHED_AT_ONCE, os.fstat(file.fileno()).st_size)))
        while size := file.readinto(block):
            digest.update(block[:size])
    return digest.hexdigest()
