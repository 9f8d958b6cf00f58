"""The embedded server's name space: a fixed set of folders that nobody can make, remove or rename.

What belongs here: which path means which file, and who may do what in which folder. What does not: the files on disk
(`uploads`), the SFTP protocol (`sftp_protocol`).

Every client path is the root, a mounted folder, or a mounted folder and ONE name. A file is only ever opened relative
to its folder's descriptor and without following links, so no name can lead outside.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Final

from recoflow.sandbox.uploads import EXCHANGE, INTERNAL, Folders, Reading, Upload, Uploader, UploadPath, open_regular


class FolderRight(Flag):
    """What a user may do with the files of a folder; listing and reading is always allowed."""

    READ = 0
    WRITE = auto()
    REMOVE = auto()


FEEDER: Final[Mapping[str, FolderRight]] = {
    "requests": FolderRight.WRITE | FolderRight.REMOVE,
    "responses": FolderRight.REMOVE,
    "periodic": FolderRight.WRITE | FolderRight.REMOVE,
    "one_time": FolderRight.WRITE | FolderRight.REMOVE,
}
SERVICE: Final[Mapping[str, FolderRight]] = dict.fromkeys(
    (*EXCHANGE, *INTERNAL), FolderRight.WRITE | FolderRight.REMOVE
)


@dataclass(frozen=True)
class View:
    """What one session sees of an account's folders.

    All methods take client paths (`os.fsdecode`d, so that any bytes survive) and raise OSError, as the system calls do.

    Args:
        folders: the account's.
        rights: folder → what the session may do in it.
        largest: how many bytes a file that it writes may have.
        uploader: the session.
    """

    folders: Folders
    rights: Mapping[str, FolderRight]
    largest: int = sys.maxsize
    uploader: Uploader = field(default_factory=Uploader)

    def parts(self, path: str) -> tuple[str, ...]:
        """Resolve `.` and `..` by name alone, as there are no links: () is the root."""
        found: list[str] = []
        for part in path.split("/"):
            if part == "..":
                del found[-1:]
            elif part not in {"", "."}:
                found.append(part)
        return tuple(found)

    def place(self, path: str, right: FolderRight = FolderRight.READ) -> UploadPath:
        """The place of a file, if this user has that right in its folder."""
        parts = self.parts(path)
        if len(parts) != 2 or parts[0] not in self.rights or "\0" in parts[1]:
            raise FileNotFoundError(path) if len(parts) > 1 else PermissionError(path)
        if right & ~self.rights[parts[0]]:
            raise PermissionError(path)
        return UploadPath(parts[0], self.folders.descriptors[parts[0]], parts[1])

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
        try:
            return place.stat()
        except FileNotFoundError:
            if (found := self.uploader.recall(place)) is None:
                raise
            return found

    def remove(self, path: str) -> None:
        """Delete a file."""
        place = self.place(path, FolderRight.REMOVE)
        self.folders.replaces(place)
        os.unlink(place.name, dir_fd=place.descriptor)
        self.uploader.forget(place)

    def rename(self, old: str, new: str, *, overwrite: bool) -> None:
        """Move a file; without `overwrite` an existing target is an error, as SFTP version 3 demands."""
        source, target = self.place(old, FolderRight.REMOVE), self.place(new, FolderRight.WRITE)
        found = source.stat()
        self.folders.moved(found)
        if overwrite:
            if source != target:
                self.folders.replaces(target)
            os.rename(source.name, target.name, src_dir_fd=source.descriptor, dst_dir_fd=target.descriptor)
        else:
            os.link(
                source.name,
                target.name,
                src_dir_fd=source.descriptor,
                dst_dir_fd=target.descriptor,
                follow_symlinks=False,
            )
            os.unlink(source.name, dir_fd=source.descriptor)
        os.fsync(target.descriptor)  # the ledger notes it as done: it must outlast a power loss
        if self.uploader.recall(source) is not None:
            self.uploader.forget(source)
            self.uploader.remember(target, found)

    def touch(self, path: str, times: tuple[int, int]) -> None:
        """Set access and modification time, in seconds since 1970."""
        place = self.place(path, FolderRight.WRITE)
        accessed, modified = (seconds * 10**9 for seconds in times)
        try:
            found = place.stat()
            self.folders.dates(found, modified)
            os.utime(place.name, ns=(accessed, modified), dir_fd=place.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            if self.uploader.recall(place) is None:
                raise
            return
        if found.st_mtime_ns != modified:
            self.folders.forget(found)
        if self.uploader.recall(place) is not None:
            self.uploader.remember(place, place.stat())

    def open(self, path: str, flags: int) -> Reading | Upload:
        """Open a file: to read what is there, or to write an upload that appears when it is closed."""
        if not flags & (os.O_WRONLY | os.O_RDWR):
            return Reading(open_regular(self.place(path)))
        return Upload(self.folders, self.place(path, FolderRight.WRITE), flags, self.largest, self.uploader)
