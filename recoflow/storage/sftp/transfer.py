"""Whole files over SFTP: every byte counted and hashed, on disk before it counts.

What belongs here: fetching and uploading one file, verified. What does not: which file and when (`inbound`,
`outbound`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recoflow.errors import MailboxError
from recoflow.storage.sftp.names import escaped
from recoflow.storage.sftp.protocol import BLOCK, CREATE, READ, Session
from recoflow.storage.sftp.server_replies import SftpStatusError

READ_BACK_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class Content:
    """What a file holds: size in bytes and SHA-256 in lower-case hex."""

    size: int
    sha256: str


def fetch(session: Session, remote: bytes, size: int, local: Path) -> Content:
    """Copy a remote file of a known size to `local`, whole and fsynced, by way of `<local>.part`.

    Raises:
        MailboxError: when the disk has less than twice the file's size free.
        SftpStatusError: when the file has another size than `size`, or changes meanwhile.
    """
    free = shutil.disk_usage(local.parent).free
    if free < 2 * size:
        raise MailboxError(str(local.parent), f"has {free} bytes free, {2 * size} are needed", "Make room on this disk")
    part = local.with_name(f"{local.name}.part")
    digest, found = hashlib.sha256(), 0
    with part.open("wb") as file:
        for block in _blocks(session, remote):
            file.write(block)
            digest.update(block)
            found += len(block)
        file.flush()
        os.fsync(file.fileno())
    if found != size:
        raise SftpStatusError(escaped(remote), f"has {found} bytes, {size} were listed", "It is tried again")
    part.rename(local)
    sync_folder(local.parent)
    return Content(size, digest.hexdigest())


def small(session: Session, remote: bytes, limit: int) -> bytes:
    """A small remote file's bytes.

    Raises:
        SftpStatusError: when it is larger than `limit` bytes.
    """
    if session.lstat(remote).size > limit:
        raise SftpStatusError(escaped(remote), f"is larger than {limit} bytes", "Write only the digest into it")
    return b"".join(_blocks(session, remote))


def upload(session: Session, local: Path, remote: bytes, content: Content, *, reads_back: bool = False) -> None:
    """Copy a local file to `remote`, and verify it: by its bytes up to READ_BACK_BYTES, a larger one by its size.

    Every packet is authenticated and the status of every WRITE is checked, so that reading a large file back costs
    twice the time of writing it and finds only faults of the server's disk.

    Args:
        session: connected.
        local: the file.
        remote: its path on the server.
        content: what the file held when it was made.
        reads_back: verify larger files by their bytes, too.

    Raises:
        SftpStatusError: when a write, the closing or the comparison failed.
        MailboxError: when the local file is not `content` any more.
    """
    digest, sent = hashlib.sha256(), 0

    def blocks() -> Iterator[bytes]:
        nonlocal sent
        with local.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
                sent += len(block)
                yield block

    handle = session.open(remote, CREATE)
    try:
        session.write(handle, blocks(), remote)
        session.sync(handle, remote)
    finally:
        session.close(handle, remote)
    if Content(sent, digest.hexdigest()) != content:
        raise MailboxError(str(local), "changed while it was uploaded", "Render it again; nothing was published")
    if reads_back or content.size <= READ_BACK_BYTES:
        is_whole = remote_content(session, remote) == content
    else:
        is_whole = session.lstat(remote).size == content.size
    if not is_whole:
        raise SftpStatusError(escaped(remote), "holds other bytes than were written", "It is tried again")


def remote_content(session: Session, remote: bytes) -> Content:
    """Read a remote file and hash it."""
    digest, size = hashlib.sha256(), 0
    for block in _blocks(session, remote):
        digest.update(block)
        size += len(block)
    return Content(size, digest.hexdigest())


def local_content(path: Path) -> Content:
    """Hash a local file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return Content(file.tell(), digest.hexdigest())


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _blocks(session: Session, remote: bytes) -> Iterator[bytes]:
    handle = session.open(remote, READ)
    try:
        yield from session.read(handle, remote)
    finally:
        session.close(handle, remote)
