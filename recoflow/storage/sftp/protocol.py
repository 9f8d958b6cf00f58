"""SFTP version 3 over an open channel: bytes for names, every status read, many requests in flight.

What belongs here: the wire protocol. What does not: connecting (`connection`), moving whole files (`transfer`), and
what the files mean (`mailbox`).

paramiko's own client is not used because it drops the status of pipelined WRITEs and of CLOSE, fails a whole listing
for one name that is not UTF-8, and reads one name per round trip (docs/spec/sftp.md).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import paramiko
from paramiko import sftp

from recoflow.storage.sftp.names import escaped
from recoflow.storage.sftp.server_replies import (
    Attributes,
    LinkLostError,
    ListingEntry,
    MissingError,
    SftpStatusError,
    read_attributes,
)

POSIX_RENAME: Final = b"posix-rename@openssh.com"
FSYNC: Final = b"fsync@openssh.com"
BLOCK: Final = 32 * 1024  # bytes that every server accepts in one READ or WRITE
WINDOW: Final = 64  # requests in flight
LARGEST_PACKET: Final = 1024 * 1024
READ: Final = sftp.SFTP_FLAG_READ
CREATE: Final = sftp.SFTP_FLAG_WRITE | sftp.SFTP_FLAG_CREATE | sftp.SFTP_FLAG_TRUNC


@dataclass(frozen=True)
class _Reply:
    kind: int
    body: paramiko.Message


class Session:
    """One SFTP session.

    Args:
        channel: a channel whose `sftp` subsystem was invoked and whose time-out is set.
        host: named in errors.

    Methods raise `LinkLostError` when the connection is gone, `SftpStatusError` (`MissingError`) for an error status.
    """

    def __init__(self, channel: paramiko.Channel, host: str) -> None:
        self._channel = channel
        self._host = host
        self._last = 0
        self._early: dict[int, _Reply] = {}
        self._received = bytearray()
        self._send(struct.pack(">BI", sftp.CMD_INIT, 3))
        kind, body = self._packet()
        if kind != sftp.CMD_VERSION:
            raise LinkLostError(host, "does not speak SFTP", "Is this an SFTP server?")
        body.get_int()
        self.extensions = set()
        while body.get_remainder():
            self.extensions.add(body.get_binary())
            body.get_binary()

    def scan(self, folder: bytes) -> Iterator[ListingEntry]:
        """Every entry of a folder but `.` and `..`, in the server's order; links are not followed."""
        handle = self._handle(self._ask(sftp.CMD_OPENDIR, folder), folder)
        flying: deque[int] = deque()
        ahead = 1
        is_over = False
        while not is_over or flying:
            while not is_over and len(flying) < ahead:
                flying.append(self._request(sftp.CMD_READDIR, handle))
            reply = self._reply(flying.popleft())
            if reply.kind == sftp.CMD_NAME:
                ahead = min(WINDOW, ahead * 2)  # a small folder does not cost a whole window of requests
                yield from self._names(reply.body)
            else:
                self._check(reply, folder, allowed=sftp.SFTP_EOF)
                is_over = True
        self.close(handle, folder)

    def lstat(self, path: bytes) -> Attributes:
        """Attributes of a file, of a link itself."""
        return self._stat(self._ask(sftp.CMD_LSTAT, path), path)

    def fstat(self, handle: bytes, path: bytes) -> Attributes:
        """Attributes of an open file."""
        return self._stat(self._ask(sftp.CMD_FSTAT, handle), path)

    def open(self, path: bytes, flags: int) -> bytes:
        """A handle; flags READ or CREATE."""
        return self._handle(self._ask(sftp.CMD_OPEN, path, flags, 0), path)

    def close(self, handle: bytes, path: bytes) -> None:
        """Close a handle and check the status: ENOSPC and quota errors are often told only here."""
        self._check(self._ask(sftp.CMD_CLOSE, handle), path)

    def chmod(self, path: bytes, mode: int) -> None:
        """Set a file's mode."""
        self._check(self._ask(sftp.CMD_SETSTAT, path, paramiko.SFTPAttributes.FLAG_PERMISSIONS, mode), path)

    def remove(self, path: bytes) -> None:
        """Delete a file."""
        self._check(self._ask(sftp.CMD_REMOVE, path), path)

    def rename(self, old: bytes, new: bytes) -> None:
        """Rename atomically, over an existing target too."""
        if POSIX_RENAME not in self.extensions:
            raise SftpStatusError(
                self._host, "cannot rename over a file (no posix-rename)", "Use OpenSSH or the embedded server"
            )
        self._check(self._ask(sftp.CMD_EXTENDED, POSIX_RENAME, old, new), old)

    def read(self, handle: bytes, path: bytes) -> Iterator[bytes]:
        """The whole file in blocks, with up to WINDOW reads in flight.

        Raises:
            SftpStatusError: when the file's size or time changes while it is read, or fewer bytes come than it has.
        """
        before = self.fstat(handle, path)
        flying: deque[tuple[int, int, int]] = deque()
        asked = 0
        while asked < before.size or flying:
            while asked < before.size and len(flying) < WINDOW:
                length = min(BLOCK, before.size - asked)
                flying.append((self._request(sftp.CMD_READ, handle, _Long(asked), length), asked, length))
                asked += length
            yield self._block(handle, path, *flying.popleft())
        after = self.fstat(handle, path)
        if (before.size, before.mtime) != (after.size, after.mtime):
            raise SftpStatusError(self._name(path), "changed while it was read", "It is tried again")

    def write(self, handle: bytes, blocks: Iterable[bytes], path: bytes) -> None:
        """Write blocks of at most BLOCK bytes one after the other, and check each one's status."""
        flying: deque[int] = deque()
        offset = 0
        for block in blocks:
            flying.append(self._request(sftp.CMD_WRITE, handle, _Long(offset), block))
            offset += len(block)
            if len(flying) == WINDOW:
                self._check(self._reply(flying.popleft()), path)
        while flying:
            self._check(self._reply(flying.popleft()), path)

    def sync(self, handle: bytes, path: bytes) -> None:
        """Have what was written on disk, where the server offers that (OpenSSH; the embedded one does so at CLOSE)."""
        if FSYNC in self.extensions:
            self._check(self._ask(sftp.CMD_EXTENDED, FSYNC, handle), path)

    def _block(self, handle: bytes, path: bytes, number: int, offset: int, length: int) -> bytes:
        block = self._data(self._reply(number), path)
        while len(block) < length:  # a server may answer with less than was asked for
            rest = self._ask(sftp.CMD_READ, handle, _Long(offset + len(block)), length - len(block))
            block += self._data(rest, path)
        return block

    def _data(self, reply: _Reply, path: bytes) -> bytes:
        if reply.kind == sftp.CMD_DATA and (data := reply.body.get_binary()):
            return data
        self._check(reply, path, allowed=sftp.SFTP_EOF)
        raise SftpStatusError(self._name(path), "is shorter than the server said", "It is tried again")

    def _names(self, body: paramiko.Message) -> Iterator[ListingEntry]:
        for _ in range(body.get_int()):
            name = body.get_binary()
            body.get_binary()  # the line for people
            attributes = read_attributes(body)
            if name not in {b".", b".."}:
                yield ListingEntry(name, attributes)

    def _stat(self, reply: _Reply, path: bytes) -> Attributes:
        if reply.kind != sftp.CMD_ATTRS:
            self._check(reply, path)
        return read_attributes(reply.body)

    def _handle(self, reply: _Reply, path: bytes) -> bytes:
        if reply.kind != sftp.CMD_HANDLE:
            self._check(reply, path)
        return reply.body.get_binary()

    def _check(self, reply: _Reply, path: bytes, *, allowed: int = sftp.SFTP_OK) -> None:
        if reply.kind != sftp.CMD_STATUS:
            raise self._lost(f"answered with packet type {reply.kind}")
        code = reply.body.get_int()
        if code in {sftp.SFTP_OK, allowed}:
            return
        said = escaped(reply.body.get_binary())
        if code == sftp.SFTP_NO_SUCH_FILE:
            raise MissingError(
                self._name(path), "does not exist", "It was removed or renamed, or its folder is missing"
            )
        raise SftpStatusError(
            self._name(path), f"was refused by the server: {said}", "Check rights and free space there"
        )

    def _ask(self, kind: int, *fields: bytes | int) -> _Reply:
        return self._reply(self._request(kind, *fields))

    def _request(self, kind: int, *fields: bytes | int) -> int:
        self._last = number = (self._last + 1) & 0xFFFFFFFF
        body = paramiko.Message()
        body.add_int(number)
        for item in fields:
            _ADD[type(item)](body, item)
        self._send(bytes((kind,)) + body.asbytes())
        return number

    def _reply(self, number: int) -> _Reply:
        while number not in self._early:
            kind, body = self._packet()
            self._early[body.get_int()] = _Reply(kind, body)
        return self._early.pop(number)

    def _send(self, payload: bytes) -> None:
        try:
            self._channel.sendall(struct.pack(">I", len(payload)) + payload)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self._lost(_told(error)) from None

    def _packet(self) -> tuple[int, paramiko.Message]:
        (length,) = struct.unpack(">I", self._bytes(4))
        if not 0 < length <= LARGEST_PACKET:
            raise self._lost(f"sent a packet of {length} bytes")
        data = self._bytes(length)
        return data[0], paramiko.Message(data[1:])

    def _bytes(self, wanted: int) -> bytes:
        while len(self._received) < wanted:
            try:
                # All that is there: paramiko's own buffer moves its whole rest with each read from its front.
                piece = self._channel.recv(LARGEST_PACKET)
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise self._lost(_told(error)) from None
            if not piece:
                raise self._lost("closed the connection")
            self._received += piece
        found = bytes(memoryview(self._received)[:wanted])
        del self._received[:wanted]
        return found

    def _lost(self, problem: str) -> LinkLostError:
        self._channel.close()
        return LinkLostError(self._host, problem, "The next tick connects again and finishes what was begun")

    def _name(self, path: bytes) -> str:
        return f"{self._host}:{escaped(path)}"


class _Long(int):
    """An unsigned 64-bit field."""


_ADD: Final[dict[type, Callable[..., object]]] = {
    bytes: paramiko.Message.add_string,
    int: paramiko.Message.add_int,
    _Long: paramiko.Message.add_int64,
}


def _told(error: Exception) -> str:
    return "did not answer in time" if isinstance(error, TimeoutError) else f"broke the connection: {error}"
