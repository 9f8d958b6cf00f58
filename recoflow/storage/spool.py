"""The spool: what came over the network, on disk before it is acknowledged, until the lake has it.

What belongs here: append-only segment files, their sealing, and what a crash leaves. What does not: what a line means,
who waits for the disk (`gateway.journal`), and taking segments into the lake (`ingest.pending_files`).

A segment holds the lines of one kind (`KINDS`) in the form that `formats.files` reads. It is written under a name that
ends in `.open`, one batch of lines after the other, each ended by an empty line; `append` returns after the fsync. Its
writer holds a lock on it, so whoever finds an open segment without a lock knows that its writer is gone: it is cut
behind its last whole batch and sealed. A batch that was torn was never acknowledged, for its fsync had not returned.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from recoflow.errors import StorageError
from recoflow.storage import atomic_files

KINDS: Final = ("events", "items", "metarank")
SUFFIX: Final = ".jsonl"
OPEN: Final = ".open"
TIME: Final = "%Y%m%dT%H%M%S%fZ"  # of its opening, in a segment's name
_NAME: Final = re.compile(rf"(?:{'|'.join(KINDS)})-(\d{{8}}T\d{{12}}Z)-[0-9a-f]{{8}}{re.escape(SUFFIX)}")
END: Final = b"\n"  # after the line end of a batch's last line


class SpoolWriter:
    """The segment of one kind that one process writes to; not for two threads at once.

    Args:
        folder: the environment's spool, made when it is missing.
        kind: one of `KINDS`.
        seal_bytes: a segment of this size is sealed.
        seconds: a clock that is never set; a segment's age must not depend on the time of day.
    """

    def __init__(self, folder: Path, kind: str, seal_bytes: int, seconds: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._kind = kind
        self._seal_bytes = seal_bytes
        self._file: int | None = None
        self._path = folder
        self._size = 0
        self._seconds = seconds
        self._opened_at: float | None = None

    def age(self) -> float | None:
        """How many seconds ago the segment was opened; None when none is open."""
        opened_at = self._opened_at
        return None if opened_at is None else self._seconds() - opened_at

    def append(self, batches: Sequence[bytes], now: datetime) -> None:
        """Add batches of lines, each line with its line end; they are on disk when this returns.

        Raises:
            StorageError: none of them is kept.
        """
        data = b"".join(batch + END for batch in batches)
        try:
            if self._file is None:
                self._open(now)
            self._write(data)
        except OSError as error:
            self._abandon()
            raise StorageError(str(self._folder), f"cannot be written: {error}", "Free or repair the disk") from error
        self._size += len(data)
        if self._size >= self._seal_bytes:
            self.seal()

    def seal(self) -> None:
        """Hand the segment over to the ingest; the next batch opens another. Stays open when the disk refuses."""
        if self._file is None:
            return
        try:
            self._path.replace(sealed_path(self._path))
        except OSError:
            return
        self._close()  # at once: from now on the ingest may read the segment and remove it
        with contextlib.suppress(OSError):  # a name that is lost with the power is given again by `recover`
            atomic_files.sync(self._folder)

    def _open(self, now: datetime) -> None:
        _make(self._folder)
        while self._file is None:
            name = f"{self._kind}-{now:{TIME}}-{uuid.uuid4().hex[:8]}{SUFFIX}{OPEN}"
            path = self._folder / name
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
            if _is_locked(file) and os.fstat(file).st_nlink:  # else `recover` was faster and took it for an orphan
                self._file, self._path, self._size, self._opened_at = file, path, 0, self._seconds()
            else:
                os.close(file)
        atomic_files.sync(self._folder)

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
        sync(self._file)

    def _abandon(self) -> None:
        """After a failed write nobody knows what the disk has: go back to what was acknowledged, and begin anew."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self._size)
            if self._size:
                atomic_files.publish(self._path, sealed_path(self._path))
            else:
                self._path.unlink()
        self._close()

    def _close(self) -> None:
        file, self._file, self._opened_at = self._file, None, None
        if file is not None:
            os.close(file)


def sealed(folder: Path) -> list[Path]:
    """Segments that wait for the ingest, the oldest of each kind first."""
    return sorted(path for kind in KINDS for path in folder.glob(f"{kind}-*{SUFFIX}"))


def kind_of(path: Path) -> str:
    """The kind of lines that a segment holds."""
    return path.name.partition("-")[0]


def opened_at(name: str) -> datetime | None:
    """When a segment was opened, by its name; None for a name that is no segment's."""
    found = _NAME.fullmatch(name)
    return datetime.strptime(found[1], TIME).replace(tzinfo=UTC) if found else None


def sealed_path(path: Path) -> Path:
    """The name that an open segment gets when it is sealed."""
    return path.with_name(path.name.removesuffix(OPEN))


def abandoned(folder: Path) -> list[Path]:
    """Open segments whose writers are gone, as `recover` would seal them."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}{OPEN}")):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            if _is_locked(file.fileno()):
                found.append(path)
    return found


def recover(folder: Path) -> list[Path]:
    """Seal the segments whose writers are gone and return them; those of living processes are left alone.

    Raises:
        StorageError: the disk refuses.
    """
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}{OPEN}")):
        try:
            if _is_recovered(path):
                found.append(sealed_path(path))
        except FileNotFoundError:  # sealed meanwhile
            continue
        except OSError as error:
            raise StorageError(str(path), f"cannot be sealed: {error}", "Free or repair the disk") from error
    return found


def _is_recovered(path: Path) -> bool:
    with path.open("r+b") as file:
        if not _is_locked(file.fileno()):
            return False
        content = file.read()
        whole = content.rfind(b"\n" + END) + 2
        if whole < 2:
            path.unlink()
            return False
        file.truncate(whole)
        os.fsync(file.fileno())
        atomic_files.publish(path, sealed_path(path))
        return True


def _is_locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make(folder: Path) -> None:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        atomic_files.sync(each.parent)
