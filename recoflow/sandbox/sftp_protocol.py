"""SFTP version 3 over the name space: paramiko's server side, with limits and with every failure answered.

What belongs here: requests and answers of one session. What does not: connections and log-ins (`sftp_server`), what a
path means (`namespace`).
"""

from __future__ import annotations

import errno
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import paramiko
from paramiko import sftp
from paramiko.sftp_attr import SFTPAttributes

from recoflow.sandbox.namespace import SERVICE, View
from recoflow.sandbox.uploads import Reading, Upload
from recoflow.storage.sftp.protocol import POSIX_RENAME
from recoflow.storage.sftp.server_replies import CLOSED, IN_USE

MAX_HANDLES: Final = 64  # open files and folders of one session
LARGEST_PACKET: Final = 256 * 1024  # as OpenSSH has it
LARGEST_READ: Final = 256 * 1024


class Client(paramiko.ServerInterface, ABC):
    """The connection that a session belongs to."""

    @abstractmethod
    def view(self) -> View:
        """What a new session sees."""

    @abstractmethod
    def acts(self) -> None:
        """A request has come."""


def _status(error: OSError | ValueError | OverflowError) -> int:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return sftp.SFTP_NO_SUCH_FILE
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.ELOOP):
        return sftp.SFTP_PERMISSION_DENIED
    return sftp.SFTP_FAILURE


def _try(act: Callable[[], object]) -> int:
    try:
        act()
    except (OSError, ValueError, OverflowError) as error:
        return _status(error)
    return sftp.SFTP_OK


def _attributes(found: os.stat_result, name: str = "") -> SFTPAttributes:
    made = SFTPAttributes.from_stat(found)
    try:
        name.encode()
        made.filename = name
    except UnicodeEncodeError:
        made.filename = os.fsencode(name)  # type: ignore[assignment] # paramiko writes bytes too
    return made


class FileHandle(paramiko.SFTPHandle):
    """An open file; `close` is what paramiko calls when a session ends, so it discards an unfinished upload."""

    def __init__(self, file: Reading | Upload) -> None:
        super().__init__()
        self.file = file

    def read(self, offset: int, length: int) -> bytes | int:
        """At most LARGEST_READ bytes, fewer than asked for when need be: clients ask again."""
        try:
            return os.pread(self.file.descriptor, min(length, LARGEST_READ), offset)
        except (OSError, OverflowError) as error:
            return _status(error)

    def write(self, offset: int, data: Any) -> int:
        """All bytes or an error; uploads only."""
        file = self.file
        if not isinstance(file, Upload):
            return sftp.SFTP_PERMISSION_DENIED
        return _try(lambda: file.write(offset, memoryview(data)))

    def stat(self) -> SFTPAttributes | int:
        """Size, times and mode of the open file."""
        return _attributes(os.fstat(self.file.descriptor))

    def chattr(self, attr: SFTPAttributes) -> int:
        """Size and times; owner and mode are the server's own and stay (clients send them as a matter of course)."""
        file = self.file
        if not isinstance(file, Upload):
            return sftp.SFTP_PERMISSION_DENIED

        def change() -> None:
            if attr.st_size is not None:
                file.truncate(attr.st_size)
            if attr.st_atime is not None and attr.st_mtime is not None:
                os.utime(file.descriptor, (attr.st_atime, attr.st_mtime))

        return _try(change)

    def commit(self) -> int:
        """CLOSE by the client: the only way for an upload to appear."""
        return _try(self.file.commit)

    def close(self) -> None:
        """Discard an upload that was not committed."""
        self.file.discard()


class _Files(paramiko.SFTPServerInterface):
    """Answers of the name space as SFTP status codes. Making and removing folders and links stays unsupported."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.client = client
        self.view = client.view()

    def session_ended(self) -> None:
        self.view.uploader.is_over = True  # what it uploaded is free to be claimed

    def open(self, path: str, flags: int, attr: SFTPAttributes) -> FileHandle | int:  # noqa: ARG002
        try:
            return FileHandle(self.view.open(path, flags))
        except (OSError, ValueError) as error:
            return _status(error)

    def list_folder(self, path: str) -> list[SFTPAttributes] | int:
        try:
            return [self._listed(name, found) for name, found in self.view.entries(path)]
        except (OSError, ValueError) as error:
            return _status(error)

    def _listed(self, name: str, found: os.stat_result) -> SFTPAttributes:
        made = _attributes(found, name)
        if self.view.rights is SERVICE and self.view.folders.has_closed(found):
            key = (IN_USE if self.view.folders.is_in_use(found) else CLOSED).decode()
            made.attr = {key: key}
        return made

    def stat(self, path: str) -> SFTPAttributes | int:
        return self.lstat(path)

    def lstat(self, path: str) -> SFTPAttributes | int:
        try:
            return _attributes(self.view.stat(path))
        except (OSError, ValueError) as error:
            return _status(error)

    def remove(self, path: str) -> int:
        return _try(lambda: self.view.remove(path))

    def rename(self, oldpath: str, newpath: str) -> int:
        return _try(lambda: self.view.rename(oldpath, newpath, overwrite=False))

    def posix_rename(self, oldpath: str, newpath: str) -> int:
        return _try(lambda: self.view.rename(oldpath, newpath, overwrite=True))

    def chattr(self, path: str, attr: SFTPAttributes) -> int:
        if attr.st_size is not None:
            return sftp.SFTP_OP_UNSUPPORTED
        if attr.st_atime is None or attr.st_mtime is None:
            return _try(lambda: self.view.stat(path))
        times = (attr.st_atime, attr.st_mtime)
        return _try(lambda: self.view.touch(path, times))

    def canonicalize(self, path: str) -> Any:
        # Bytes, as a name need not be text; paramiko writes either.
        return os.fsencode("/" + "/".join(self.view.parts(path)))


class _RawMessage(paramiko.Message):
    """A request whose names may be any bytes, and that must have all that it announces.

    paramiko's own demands UTF-8, and reads zeros where a message ends: 4 billion attributes of a message of 30 bytes.
    """

    def get_bytes(self, n: int) -> bytes:
        found = self.packet.read(n)
        if len(found) < n:
            raise paramiko.SFTPError("a request ends early")
        return found

    def get_text(self) -> str:
        return os.fsdecode(self.get_binary())


class Subsystem(paramiko.SFTPServer):
    """paramiko's SFTP server, with checked CLOSE, byte names, and only the extension that the protocol needs."""

    server: _Files

    def __init__(self, channel: paramiko.Channel, name: str, server: Client) -> None:
        """Called by paramiko with each channel that asks for SFTP."""
        super().__init__(channel, name, server, _Files)

    def start_subsystem(self, name: str, transport: paramiko.Transport, channel: paramiko.Channel) -> None:
        """Answer requests until the client ends the session, or sends what is no SFTP."""
        with suppress(EOFError, paramiko.SFTPError):
            super().start_subsystem(name, transport, channel)

    def _process(self, kind: int, number: int, message: paramiko.Message) -> None:
        self.server.client.acts()
        try:
            self._act(kind, number, _RawMessage(message.get_remainder()))
        except paramiko.SFTPError:
            self._answer(number, sftp.SFTP_BAD_MESSAGE)

    def _act(self, kind: int, number: int, message: _RawMessage) -> None:
        handles = len(self.file_table) + len(self.folder_table)
        if kind == sftp.CMD_CLOSE and (handle := self._taken(message.get_binary())) is not None:
            self._answer(number, handle.commit())
            return
        message.rewind()
        if kind == sftp.CMD_FSETSTAT and message.get_binary() not in self.file_table:
            self._answer(number, sftp.SFTP_BAD_MESSAGE)
        elif kind in {sftp.CMD_OPEN, sftp.CMD_OPENDIR} and handles >= MAX_HANDLES:
            self._answer(number, sftp.SFTP_FAILURE)
        elif kind not in sftp.CMD_NAMES or (kind == sftp.CMD_EXTENDED and message.get_binary() != POSIX_RENAME):
            self._answer(number, sftp.SFTP_OP_UNSUPPORTED)
        else:
            message.rewind()
            super()._process(kind, number, message)  # type: ignore[misc]

    def _answer(self, number: int, status: int) -> None:
        self._send_status(number, status)  # type: ignore[attr-defined]

    def finish_subsystem(self) -> None:
        """End the session: first its unfinished uploads, because words to a client that is gone may fail."""
        for handle in (*self.file_table.values(), *self.folder_table.values()):
            handle.close()
        # Without an exit status OpenSSH's scp calls a finished copy a failure.
        if self.sock is not None:
            with suppress(OSError, EOFError, paramiko.SSHException):
                self.sock.send_exit_status(0)
        with suppress(OSError, EOFError, paramiko.SSHException):
            super().finish_subsystem()

    def _taken(self, name: bytes) -> FileHandle | None:
        handle = self.file_table.pop(name, None)
        return handle if isinstance(handle, FileHandle) else None

    def _read_packet(self) -> tuple[int, bytes]:
        (size,) = struct.unpack(">I", self._read_all(4))  # type: ignore[attr-defined]
        if not 5 <= size <= LARGEST_PACKET:
            raise paramiko.SFTPError(f"a packet of {size} bytes")
        data = self._read_all(size)  # type: ignore[attr-defined]
        return data[0], data[1:]

    def _send_server_version(self) -> int:
        kind, _ = self._read_packet()
        if kind != sftp.CMD_INIT:
            raise paramiko.SFTPError("the client did not begin with INIT")
        version = paramiko.Message()
        version.add_int(3)
        version.add_string(POSIX_RENAME)
        version.add_string("1")
        self._send_packet(sftp.CMD_VERSION, version)  # type: ignore[attr-defined]
        return 3
