"""The embedded server's files: a fixed name space of folders that nobody can make, remove or rename.

What belongs here: which path means which file, who may do what in which folder, and uploads that appear whole or not at
all. What does not: the SFTP protocol (`sftp_server`).

Every client path is the root, a mounted folder, or a mounted folder and ONE name. A file is only ever opened relative
to its folder's descriptor and without following links, so no name can lead outside.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Flag, auto
from pathlib import Path
from typing import Final
from uuid import uuid4

EXCHANGE: Final = ("requests", "responses", "periodic", "one_time")
INTERNAL: Final = ("claims", "staging")
UPLOADS: Final = ".uploads"  # unfinished uploads, on the same file system as the folders and in nobody's name space


class Right(Flag):
    """What a user may do with the files of a folder; listing and reading is always allowed."""

    READ = 0
    WRITE = auto()
    REMOVE = auto()


FEEDER: Final[Mapping[str, Right]] = {
    "requests": Right.WRITE | Right.REMOVE,
    "responses": Right.REMOVE,
    "periodic": Right.WRITE | Right.REMOVE,
    "one_time": Right.WRITE | Right.REMOVE,
}
SERVICE: Final[Mapping[str, Right]] = dict.fromkeys((*EXCHANGE, *INTERNAL), Right.WRITE | Right.REMOVE)


class Folders:
    """Open descriptors of one account's folders, shared by its users; makes the folders that are missing."""

    def __init__(self, root: Path) -> None:
        self.descriptors: dict[str, int] = {}
        # (device, inode, size, mtime_ns) of files whose uploader's CLOSE was answered with success.
        self.closed: set[tuple[int, int, int, int]] = set()
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


@dataclass(frozen=True)
class Place:
    """A file's folder and name."""

    folder: str
    descriptor: int
    name: str


@dataclass(frozen=True)
class View:
    """What one user sees of an account's folders.

    All methods take client paths (`os.fsdecode`d, so that any bytes survive) and raise OSError, as the system calls do.
    """

    folders: Folders
    rights: Mapping[str, Right]

    def parts(self, path: str) -> tuple[str, ...]:
        """Resolve `.` and `..` by name alone, as there are no links: () is the root."""
        found: list[str] = []
        for part in path.split("/"):
            if part == "..":
                del found[-1:]
            elif part not in {"", "."}:
                found.append(part)
        return tuple(found)

    def place(self, path: str, right: Right = Right.READ) -> Place:
        """The place of a file, if this user has that right in its folder."""
        parts = self.parts(path)
        if len(parts) != 2 or parts[0] not in self.rights or "\0" in parts[1]:
            raise FileNotFoundError(path) if len(parts) > 1 else PermissionError(path)
        if right & ~self.rights[parts[0]]:
            raise PermissionError(path)
        return Place(parts[0], self.folders.descriptors[parts[0]], parts[1])

    def is_folder(self, path: str) -> bool:
        """Whether the path is the root or a folder of this user."""
        parts = self.parts(path)
        return not parts or (len(parts) == 1 and parts[0] in self.rights)

    def entries(self, path: str) -> list[tuple[str, os.stat_result]]:
        """Names and lstat results of a folder, or of the root, sorted by name."""
        parts = self.parts(path)
        if not self.is_folder(path):
            raise FileNotFoundError(path)
        if not parts:
            return [(name, os.fstat(self.folders.descriptors[name])) for name in self.rights]
        descriptor = self.folders.descriptors[parts[0]]
        found = []
        for name in sorted(os.listdir(descriptor)):  # noqa: PTH208 # by descriptor, not by path
            try:
                found.append((name, os.stat(name, dir_fd=descriptor, follow_symlinks=False)))
            except FileNotFoundError:
                continue  # removed since the listing
        return found

    def stat(self, path: str) -> os.stat_result:
        """The lstat result of a file or folder."""
        if self.is_folder(path):
            parts = self.parts(path) or (next(iter(self.rights)),)
            return os.fstat(self.folders.descriptors[parts[0]])
        place = self.place(path)
        return os.stat(place.name, dir_fd=place.descriptor, follow_symlinks=False)

    def has_closed(self, found: os.stat_result) -> bool:
        """Whether this server saw the uploader's CLOSE of exactly these bytes."""
        return _identity(found) in self.folders.closed

    def remove(self, path: str) -> None:
        """Delete a file."""
        place = self.place(path, Right.REMOVE)
        self.folders.closed.discard(_identity(self.stat(path)))
        os.unlink(place.name, dir_fd=place.descriptor)

    def rename(self, old: str, new: str, *, overwrite: bool) -> None:
        """Move a file; without `overwrite` an existing target is an error, as SFTP version 3 demands."""
        source, target = self.place(old, Right.REMOVE), self.place(new, Right.WRITE)
        if overwrite:
            os.rename(source.name, target.name, src_dir_fd=source.descriptor, dst_dir_fd=target.descriptor)
            return
        os.link(
            source.name,
            target.name,
            src_dir_fd=source.descriptor,
            dst_dir_fd=target.descriptor,
            follow_symlinks=False,
        )
        os.unlink(source.name, dir_fd=source.descriptor)

    def touch(self, path: str, times: tuple[float, float]) -> None:
        """Set access and modification time."""
        place = self.place(path, Right.WRITE)
        was_closed = self.has_closed(self.stat(path))
        os.utime(place.name, times, dir_fd=place.descriptor, follow_symlinks=False)
        if was_closed:
            self.folders.closed.add(_identity(self.stat(path)))

    def open(self, path: str, flags: int) -> Reading | Upload:
        """Open a file: to read what is there, or to write an upload that appears when it is closed."""
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        place = self.place(path, Right.WRITE if writes else Right.READ)
        return Upload(self.folders, place, flags) if writes else Reading(_open_regular(place))


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _open_regular(place: Place) -> int:
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
    """A file that is being written: under a hidden name until `commit`, gone after `discard`."""

    folders: Folders
    place: Place
    flags: int
    descriptor: int = field(init=False)
    hidden: str = field(init=False)

    def __post_init__(self) -> None:
        """Open the hidden file, with the bytes that are there when the client means to change those."""
        self.hidden = uuid4().hex
        existing = self._existing()
        self.descriptor = os.open(self.hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._uploads)
        if existing is not None:
            with os.fdopen(existing, "rb") as source, os.fdopen(self.descriptor, "wb", closefd=False) as copy:
                shutil.copyfileobj(source, copy)

    @property
    def _uploads(self) -> int:
        return self.folders.descriptors[UPLOADS]

    def _existing(self) -> int | None:
        """A descriptor of the bytes that this upload begins with, None when it begins empty."""
        try:
            descriptor = _open_regular(self.place)
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

    def commit(self) -> None:
        """Make the file appear, whole and on disk, under its name."""
        if self.descriptor < 0:
            return
        try:
            os.fsync(self.descriptor)
            os.rename(self.hidden, self.place.name, src_dir_fd=self._uploads, dst_dir_fd=self.place.descriptor)
            os.fsync(self.place.descriptor)
            self.folders.closed.add(_identity(os.fstat(self.descriptor)))
        except OSError:
            self.discard()
            raise
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
