"""The embedded server's uploads: they appear whole or not at all, and are left to their session until it is done.

What belongs here: an account's folders on disk and the files that are open in them. What does not: paths and rights
(`namespace`), the SFTP protocol (`sftp_protocol`).
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from uuid import uuid4

EXCHANGE: Final = ("requests", "responses", "periodic", "one_time")
INTERNAL: Final = ("claims", "staging")
UPLOADS: Final = ".uploads"  # unfinished uploads, on the same file system as the folders and in nobody's name space
REMEMBERED: Final = 64  # uploads of one session
REMEMBERED_SECONDS: Final = 60.0
_BLOCK: Final = 1024 * 1024

Identity = tuple[int, int, int, int]  # device, inode, size, mtime in nanoseconds


def identity(found: os.stat_result) -> Identity:
    """What stays the same while a file is renamed, and changes when it is written."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class UploadPath:
    """A file's folder and name."""

    folder: str
    descriptor: int
    name: str

    def stat(self) -> os.stat_result:
        """The lstat result of the file."""
        return os.stat(self.name, dir_fd=self.descriptor, follow_symlinks=False)


@dataclass
class Uploader:
    """One SFTP session and its latest uploads.

    Clients check, date or rename a file right after its CLOSE; paramiko's `put` raises when it is not there. When the
    service has claimed a file by then, its session sees it for a minute as it left it.
    """

    is_over: bool = False
    _uploads: dict[tuple[str, str], tuple[os.stat_result, float]] = field(default_factory=dict)

    def remember(self, place: UploadPath, found: os.stat_result) -> None:
        """The session left a file there."""
        self.forget(place)
        self._uploads[place.folder, place.name] = found, time.monotonic()
        if len(self._uploads) > REMEMBERED:
            del self._uploads[next(iter(self._uploads))]

    def forget(self, place: UploadPath) -> None:
        """The session removed or renamed the file itself."""
        self._uploads.pop((place.folder, place.name), None)

    def recall(self, place: UploadPath) -> os.stat_result | None:
        """What the session left there within the last minute."""
        found, at = self._uploads.get((place.folder, place.name), (None, 0.0))
        return found if time.monotonic() - at < REMEMBERED_SECONDS else None


@dataclass(frozen=True)
class Closed:
    """A CLOSE of an upload that was answered with success.

    Args:
        uploader: the session.
        at: when the file was closed, renamed or dated last (monotonic clock).
    """

    uploader: Uploader
    at: float


class Folders:
    """Open descriptors of one account's folders, shared by its users; makes the folders that are missing.

    Args:
        root: the account's folder.
        settle_seconds: how long a closed upload is left to its session, while that lasts.
    """

    def __init__(self, root: Path, settle_seconds: float) -> None:
        self.descriptors: dict[str, int] = {}
        self._settle_seconds = settle_seconds
        self._closed: dict[Identity, Closed] = {}
        for name in (*EXCHANGE, *INTERNAL, UPLOADS):
            folder = root / name
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.descriptors[name] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        for leftover in os.listdir(self.descriptors[UPLOADS]):  # noqa: PTH208 # by descriptor, not by path
            os.unlink(leftover, dir_fd=self.descriptors[UPLOADS])  # of a server that was killed

    def close(self) -> None:
        """Release the descriptors."""
        while self.descriptors:
            os.close(self.descriptors.popitem()[1])

    def has_closed(self, found: os.stat_result) -> bool:
        """Whether this server saw the uploader's CLOSE of exactly these bytes."""
        return identity(found) in self._closed

    def is_in_use(self, found: os.stat_result) -> bool:
        """Whether these bytes were closed, and their session may still check, date or rename them."""
        closed = self._closed.get(identity(found))
        if closed is None or closed.uploader.is_over:
            return False
        return time.monotonic() - closed.at < self._settle_seconds

    def closes(self, found: os.stat_result, uploader: Uploader) -> None:
        """A session closes a file. Known before the file appears: no scan sees it without."""
        self._closed[identity(found)] = Closed(uploader, time.monotonic())

    def moved(self, found: os.stat_result) -> None:
        """A file was renamed: its session has its time again."""
        if (closed := self._closed.get(identity(found))) is not None:
            self._closed[identity(found)] = replace(closed, at=time.monotonic())

    def dates(self, found: os.stat_result, mtime_ns: int) -> None:
        """A file gets another time."""
        if (closed := self._closed.get(identity(found))) is not None:
            self._closed[*identity(found)[:3], mtime_ns] = replace(closed, at=time.monotonic())

    def forget(self, found: os.stat_result) -> None:
        """These bytes are gone, or have another time."""
        self._closed.pop(identity(found), None)

    def replaces(self, place: UploadPath) -> None:
        """Whatever is there is replaced."""
        with suppress(FileNotFoundError):
            self.forget(place.stat())


def open_regular(place: UploadPath) -> int:
    """A descriptor for reading; links, folders and devices are refused."""
    # O_NONBLOCK: opening a FIFO must not hang the server.
    descriptor = os.open(place.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place.descriptor)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PermissionError(place.name)
    return descriptor


@dataclass
class Reading:
    """A file that is open for reading."""

    descriptor: int

    def discard(self) -> None:
        """Close it; may be called twice."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1

    commit = discard


@dataclass
class Upload:
    """A file that is being written: under a hidden name until `commit`, gone after `discard`.

    Most clients send CLOSE whatever the answers to their writes were: after a write that failed, `commit` fails too.

    Args:
        folders: the account's.
        place: where it will appear.
        flags: as of `os.open`.
        largest: how many bytes it may have.
        uploader: the session.
    """

    folders: Folders
    place: UploadPath
    flags: int
    largest: int
    uploader: Uploader
    descriptor: int = field(init=False)
    hidden: str = field(init=False)
    has_failed: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        """Open the hidden file, with the bytes that are there when the client means to change those."""
        self.hidden = uuid4().hex
        existing = self._existing()
        try:
            self.descriptor = os.open(self.hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._uploads)
            if existing is not None:
                self._begin_with(existing)
        finally:
            if existing is not None:
                os.close(existing)

    @property
    def _uploads(self) -> int:
        return self.folders.descriptors[UPLOADS]

    def _existing(self) -> int | None:
        """A descriptor of the bytes that this upload begins with, None when it begins empty."""
        try:
            descriptor = open_regular(self.place)
        except FileNotFoundError:
            if not self.flags & os.O_CREAT:
                raise
            return None
        if not self.flags & (os.O_EXCL | os.O_TRUNC):
            return descriptor
        os.close(descriptor)
        if self.flags & os.O_EXCL:
            raise FileExistsError(self.place.name)
        return None

    def _begin_with(self, existing: int) -> None:
        try:
            self._check(os.fstat(existing).st_size)
            _copy(existing, self.descriptor)
        except OSError:
            self.discard()
            raise

    def _check(self, size: int) -> None:
        if size > self.largest:
            raise OSError(errno.EFBIG, f"{size} bytes, {self.largest} are allowed", self.place.name)

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of `data` at an offset, or at the end of a file that was opened for appending."""
        with self._failing():
            if self.flags & os.O_APPEND:
                offset = os.fstat(self.descriptor).st_size
            self._check(offset + len(data))
            while data:
                written = os.pwrite(self.descriptor, data, offset)
                data, offset = data[written:], offset + written

    def truncate(self, size: int) -> None:
        """Cut or extend the file."""
        with self._failing():
            self._check(size)
            os.ftruncate(self.descriptor, size)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self.has_failed = True
            raise

    def commit(self) -> None:
        """Make the file appear, whole and on disk, under its name."""
        if self.descriptor < 0:
            return
        if self.has_failed:
            self.discard()
            raise OSError(errno.EIO, "a write of it failed", self.place.name)
        try:
            os.fsync(self.descriptor)
            found = os.fstat(self.descriptor)
            self.folders.replaces(self.place)
            self.folders.closes(found, self.uploader)
            os.rename(self.hidden, self.place.name, src_dir_fd=self._uploads, dst_dir_fd=self.place.descriptor)
            os.fsync(self.place.descriptor)
        except OSError:
            self.folders.forget(os.fstat(self.descriptor))
            self.discard()
            raise
        self.uploader.remember(self.place, found)
        os.close(self.descriptor)
        self.descriptor = -1

    def discard(self) -> None:
        """Forget the upload; may be called twice, and after `commit`."""
        if self.descriptor < 0:
            return
        os.close(self.descriptor)
        self.descriptor = -1
        try:
            os.unlink(self.hidden, dir_fd=self._uploads)
        except FileNotFoundError:
            return  # it had appeared under its name already: only the folder's fsync failed


def _copy(source: int, target: int) -> None:
    """Copy a file without its holes: an almost empty file of 3 GB costs next to nothing."""
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # only a hole is left
            raise
        end = os.lseek(source, at, os.SEEK_HOLE)
        while at < end:
            block = os.pread(source, min(_BLOCK, end - at), at)
            if not block:
                return  # it became shorter meanwhile
            at += os.pwrite(target, block, at)
