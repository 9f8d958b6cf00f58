"""The embedded SFTP server for newcomers and tests: paramiko, keys only, loopback, a fixed name space.

What belongs here: the SSH and SFTP protocol. What does not: files and rights (`namespace`), keys (`keys`). Production
runs OpenSSH (deploy/); one contract test holds for both.

One account has two kinds of keys. A feeder's key (the customer's server) sees requests/, responses/, periodic/ and
one_time/; the service's key (recoflow) sees claims/ and staging/ too. An upload appears under its name when its CLOSE
was answered with success, never half; the service is told so by the listing attribute `CLOSED`.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import paramiko
from paramiko import common, sftp
from paramiko.sftp_attr import SFTPAttributes

from recoflow.errors import MailboxError
from recoflow.sandbox import keys
from recoflow.sandbox.namespace import FEEDER, SERVICE, Folders, Reading, Upload, View
from recoflow.storage import sftp_link
from recoflow.storage.sftp_wire import CLOSED, POSIX_RENAME

LOG: Final = "recoflow.sftp.server"
MAX_UNAUTHENTICATED: Final = 32
MAX_CONNECTIONS: Final = 128
MAX_HANDLES: Final = 64  # open files and folders of one session
BACKLOG: Final = 64


def _status(error: OSError | ValueError) -> int:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return sftp.SFTP_NO_SUCH_FILE
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.ELOOP):
        return sftp.SFTP_PERMISSION_DENIED
    return sftp.SFTP_FAILURE


def _attributes(found: os.stat_result, name: str = "") -> SFTPAttributes:
    made = SFTPAttributes.from_stat(found)
    try:
        name.encode()
        made.filename = name
    except UnicodeEncodeError:
        made.filename = os.fsencode(name)  # type: ignore[assignment] # paramiko writes bytes too
    return made


class _Handle(paramiko.SFTPHandle):
    """An open file; `close` is what paramiko calls when a session ends, so it discards an unfinished upload."""

    def __init__(self, file: Reading | Upload) -> None:
        super().__init__()
        self.file = file

    def read(self, offset: int, length: int) -> bytes | int:
        try:
            return os.pread(self.file.descriptor, length, offset)
        except OSError as error:
            return _status(error)

    def write(self, offset: int, data: Any) -> int:
        if not isinstance(self.file, Upload):
            return sftp.SFTP_PERMISSION_DENIED
        try:
            return self._write(offset, memoryview(data))
        except OSError as error:
            return _status(error)

    def _write(self, offset: int, rest: memoryview) -> int:
        if isinstance(self.file, Upload) and self.file.flags & os.O_APPEND:
            offset = os.fstat(self.file.descriptor).st_size
        while rest:
            written = os.pwrite(self.file.descriptor, rest, offset)
            rest, offset = rest[written:], offset + written
        return sftp.SFTP_OK

    def stat(self) -> SFTPAttributes | int:
        return _attributes(os.fstat(self.file.descriptor))

    def chattr(self, attr: SFTPAttributes) -> int:
        """Size and times; owner and mode are the server's own and stay (clients send them as a matter of course)."""
        if not isinstance(self.file, Upload):
            return sftp.SFTP_PERMISSION_DENIED
        try:
            if attr.st_size is not None:
                os.ftruncate(self.file.descriptor, attr.st_size)
            if attr.st_atime is not None and attr.st_mtime is not None:
                os.utime(self.file.descriptor, (attr.st_atime, attr.st_mtime))
        except OSError as error:
            return _status(error)
        return sftp.SFTP_OK

    def commit(self) -> int:
        """CLOSE by the client: the only way for an upload to appear."""
        try:
            self.file.commit()
        except OSError as error:
            return _status(error)
        return sftp.SFTP_OK

    def close(self) -> None:
        self.file.discard()


class _Files(paramiko.SFTPServerInterface):
    """Answers of the name space as SFTP status codes. Making and removing folders and links stays unsupported."""

    def __init__(self, server: _Session) -> None:
        super().__init__(server)
        self.view = server.view()

    def _try(self, act: Callable[[], object]) -> int:
        try:
            act()
        except (OSError, ValueError) as error:
            return _status(error)
        return sftp.SFTP_OK

    def open(self, path: str, flags: int, attr: SFTPAttributes) -> _Handle | int:  # noqa: ARG002
        try:
            return _Handle(self.view.open(path, flags))
        except (OSError, ValueError) as error:
            return _status(error)

    def list_folder(self, path: str) -> list[SFTPAttributes] | int:
        try:
            return [self._listed(name, found) for name, found in self.view.entries(path)]
        except (OSError, ValueError) as error:
            return _status(error)

    def _listed(self, name: str, found: os.stat_result) -> SFTPAttributes:
        made = _attributes(found, name)
        if self.view.rights is SERVICE and self.view.has_closed(found):
            made.attr = {CLOSED.decode(): CLOSED.decode()}
        return made

    def stat(self, path: str) -> SFTPAttributes | int:
        return self.lstat(path)

    def lstat(self, path: str) -> SFTPAttributes | int:
        try:
            return _attributes(self.view.stat(path))
        except (OSError, ValueError) as error:
            return _status(error)

    def remove(self, path: str) -> int:
        return self._try(lambda: self.view.remove(path))

    def rename(self, oldpath: str, newpath: str) -> int:
        return self._try(lambda: self.view.rename(oldpath, newpath, overwrite=False))

    def posix_rename(self, oldpath: str, newpath: str) -> int:
        return self._try(lambda: self.view.rename(oldpath, newpath, overwrite=True))

    def chattr(self, path: str, attr: SFTPAttributes) -> int:
        if attr.st_size is not None:
            return sftp.SFTP_OP_UNSUPPORTED
        if attr.st_atime is None or attr.st_mtime is None:
            return self._try(lambda: self.view.stat(path))
        times = (attr.st_atime, attr.st_mtime)
        return self._try(lambda: self.view.touch(path, times))

    def canonicalize(self, path: str) -> Any:
        # Bytes, as a name need not be text; paramiko writes either.
        return os.fsencode("/" + "/".join(self.view.parts(path)))


class _RawMessage(paramiko.Message):
    """A request whose names may be any bytes: paramiko's own demands UTF-8 and fails the request otherwise."""

    def get_text(self) -> str:
        return os.fsdecode(self.get_binary())


class _Protocol(paramiko.SFTPServer):
    """paramiko's SFTP server, with checked CLOSE, byte names, and only the extension that the protocol needs."""

    def _process(self, kind: int, number: int, message: paramiko.Message) -> None:
        raw = _RawMessage(message.get_remainder())
        if kind == sftp.CMD_CLOSE and (handle := self._taken(raw.get_binary())) is not None:
            self._send_status(number, handle.commit())  # type: ignore[attr-defined]
            return
        raw.rewind()
        if kind in {sftp.CMD_OPEN, sftp.CMD_OPENDIR} and len(self.file_table) + len(self.folder_table) >= MAX_HANDLES:
            self._send_status(number, sftp.SFTP_FAILURE)  # type: ignore[attr-defined]
            return
        if kind == sftp.CMD_EXTENDED and raw.get_binary() != POSIX_RENAME:
            self._send_status(number, sftp.SFTP_OP_UNSUPPORTED)  # type: ignore[attr-defined]
            return
        raw.rewind()
        super()._process(kind, number, raw)  # type: ignore[misc]

    def finish_subsystem(self) -> None:
        # Without an exit status OpenSSH's scp calls a finished copy a failure.
        if self.sock is not None:
            with suppress(OSError, EOFError, paramiko.SSHException):
                self.sock.send_exit_status(0)
        super().finish_subsystem()

    def _taken(self, name: bytes) -> _Handle | None:
        handle = self.file_table.pop(name, None)
        return handle if isinstance(handle, _Handle) else None

    def _send_server_version(self) -> int:
        kind, _ = self._read_packet()  # type: ignore[attr-defined]
        if kind != sftp.CMD_INIT:
            raise paramiko.SFTPError("the client did not begin with INIT")
        version = paramiko.Message()
        version.add_int(3)
        version.add_string(POSIX_RENAME)
        version.add_string("1")
        self._send_packet(sftp.CMD_VERSION, version)  # type: ignore[attr-defined]
        return 3


# Account → public key, as its wire bytes → what that key sees.
_Users = Mapping[str, Mapping[bytes, View]]


class _Session(paramiko.ServerInterface):
    """Who may log in, and that SFTP is all there is."""

    def __init__(self, users: _Users) -> None:
        self.users = users
        self._key = b""
        self._account = ""

    def view(self) -> View:
        """What the key sees that logged in: the last one asked for, as paramiko asks for none after a log-in."""
        return self.users[self._account][self._key]

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self._account, self._key = username, key.asbytes()
        return common.AUTH_SUCCESSFUL if self._key in self.users.get(username, {}) else common.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002
        return common.OPEN_SUCCEEDED if kind == "session" else common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED


@dataclass
class Server:
    """A running server.

    Args:
        host, port: where it listens.
        host_key: its public host key.
    """

    host: str
    port: int
    host_key: paramiko.PKey
    _socket: socket.socket
    _users: _Users
    _login_seconds: float
    _ends: threading.Event = field(default_factory=threading.Event)
    _transports: dict[paramiko.Transport, float] = field(default_factory=dict)  # deadline of the log-in

    def _run(self) -> None:
        while not self._ends.is_set():
            self._reap()
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:
                return  # the listening socket was closed
            self._welcome(connection)

    def _reap(self) -> None:
        for transport, deadline in list(self._transports.items()):
            late = not transport.is_authenticated() and time.monotonic() > deadline
            if late:
                transport.close()
            if late or not transport.is_alive():
                del self._transports[transport]

    def _welcome(self, connection: socket.socket) -> None:
        strangers = sum(not transport.is_authenticated() for transport in self._transports)
        if strangers >= MAX_UNAUTHENTICATED or len(self._transports) >= MAX_CONNECTIONS:
            connection.close()
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        transport = paramiko.Transport(connection, disabled_algorithms=sftp_link.WEAK)
        transport.set_log_channel(LOG)
        transport.add_server_key(self.host_key)
        transport.set_subsystem_handler("sftp", _Protocol, sftp_si=_Files)
        self._transports[transport] = time.monotonic() + self._login_seconds
        # With an event it returns at once: a silent client must not hold up the next one.
        with suppress(paramiko.SSHException, EOFError):
            transport.start_server(event=threading.Event(), server=_Session(self._users))

    def _stop(self, listener: threading.Thread) -> None:
        self._ends.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the listener at once where the system allows it
        listener.join()
        self._socket.close()
        for transport in self._transports:
            transport.close()
        for transport in self._transports:
            transport.join(5)


@contextmanager
def serve(
    root: Path,
    accounts: Mapping[str, keys.Access],
    port: int = 2222,
    *,
    host: str = "127.0.0.1",
    login_seconds: float = 20,
) -> Iterator[Server]:
    """Serve the accounts from threads of this process until the block ends.

    Args:
        root: folder of the server's files (`Layout.sftp`): host key, known_hosts, and `accounts/<name>/<folder>/`.
        accounts: who may log in, as `keys.prepare` gives it.
        port: 0 takes a free one.
        host: the address to listen on; loopback unless told otherwise.
        login_seconds: how long a client may take to log in.

    Raises:
        MailboxError: when the port is taken.
    """
    logging.getLogger(LOG).addHandler(logging.NullHandler())
    listening = _listen(host, port)
    folders = {name: Folders(root / "accounts" / name) for name in accounts}
    users = {
        name: {key.asbytes(): View(folders[name], FEEDER) for key in access.feeder}
        | {key.asbytes(): View(folders[name], SERVICE) for key in access.service}
        for name, access in accounts.items()
    }
    bound = listening.getsockname()[1]
    server = Server(host, bound, keys.host_key(root), listening, users, login_seconds)
    sftp_link.pin(root / "known_hosts", host, bound, server.host_key, replace=True)
    listener = threading.Thread(target=server._run, name=f"sftp-{bound}", daemon=True)
    listener.start()
    try:
        yield server
    finally:
        server._stop(listener)
        for opened in folders.values():
            opened.close()


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        problem = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be listened on: {error.strerror}"
        raise MailboxError(f"{host}:{port}", problem, "Stop what listens there, or choose another port") from None
    listening.listen(BACKLOG)
    listening.settimeout(0.2)
    return listening
