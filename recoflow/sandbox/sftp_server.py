"""The embedded SFTP server for newcomers and tests: paramiko, keys only, loopback, a fixed name space.

What belongs here: connections, log-ins and their limits. What does not: SFTP itself (`sftp_protocol`), files and rights
(`namespace`), keys (`keys`). Production runs OpenSSH (deploy/); one contract test holds for both.

One account has two kinds of keys. A feeder's key (the customer's server) sees requests/, responses/, periodic/ and
one_time/; the service's key (recoflow) sees claims/ and staging/ too. An upload appears under its name when its CLOSE
was answered with success, never half; the service is told so by the listing attribute `CLOSED`, and by `IN_USE` while
its session may still check, date or rename it.

No feeder keeps others out: each account has its share of connections, all feeders together have theirs, and the rest is
the service's.
"""

from __future__ import annotations

import errno
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import paramiko
from paramiko import common

from recoflow.errors import MailboxError
from recoflow.sandbox import keys
from recoflow.sandbox.namespace import FEEDER, SERVICE, FolderRight, View
from recoflow.sandbox.sftp_protocol import Client, Subsystem
from recoflow.sandbox.uploads import Folders, Uploader
from recoflow.storage.sftp import connection

LOG: Final = "recoflow.sftp.server"
MAX_UNAUTHENTICATED: Final = 32
MAX_FEEDERS: Final = 96  # connections of all customers together
MAX_OF_ACCOUNT: Final = 16  # connections of one customer
MAX_CHANNELS: Final = 4  # sessions of one connection
LARGEST_BACKLOG: Final = 4 * 1024 * 1024  # bytes of one session that came and were not read: twice paramiko's window
LARGEST_FILE: Final = 2 * 1024**3
BACKLOG: Final = 64
LOOK_SECONDS: Final = 0.2


@dataclass(frozen=True)
class _Grant:
    """What a key sees of an account.

    Args:
        folders: the account's.
        rights: folder → what may be done in it.
        largest: how many bytes an upload may have.
    """

    folders: Folders
    rights: Mapping[str, FolderRight]
    largest: int


# Account → public key, as its wire bytes → what that key sees.
_Users = Mapping[str, Mapping[bytes, _Grant]]


class _Visitor(Client):
    """One connection: who may log in, that SFTP is all there is, and what the connection holds."""

    def __init__(self, users: _Users, transport: paramiko.Transport, has_seat: Callable[[_Visitor], bool]) -> None:
        self.users = users
        self.transport = transport
        self.began = self.last_act = time.monotonic()
        self.account = ""
        self._key = b""
        self._channels: list[paramiko.Channel] = []
        self._guard = threading.Lock()
        self._has_seat = has_seat

    @property
    def grant(self) -> _Grant:
        """What the key sees that logged in: the last one asked for, as paramiko asks for none after a log-in."""
        return self.users[self.account][self._key]

    def view(self) -> View:
        """What a new session sees."""
        grant = self.grant
        return View(grant.folders, grant.rights, grant.largest, Uploader())

    def acts(self) -> None:
        """A request has come: the connection is not idle."""
        self.last_act = time.monotonic()

    def channels(self) -> list[paramiko.Channel]:
        """The sessions that are open."""
        with self._guard:
            self._channels += iter(lambda: self.transport.accept(0), None)
            self._channels = [channel for channel in self._channels if not channel.closed]
            return self._channels

    def floods(self) -> bool:
        """Whether the client sends more than its sessions read, against SSH's rules."""
        return any(len(channel.in_buffer) > LARGEST_BACKLOG for channel in self.channels())

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.account, self._key = username, key.asbytes()
        return common.AUTH_SUCCESSFUL if self._key in self.users.get(username, {}) else common.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002
        if kind != "session":
            return common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        if len(self.channels()) >= MAX_CHANNELS or not self._has_seat(self):
            return common.OPEN_FAILED_RESOURCE_SHORTAGE
        return common.OPEN_SUCCEEDED


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
    _idle_seconds: float
    _ends: threading.Event = field(default_factory=threading.Event)
    _visitors: dict[paramiko.Transport, _Visitor] = field(default_factory=dict)  # in the order of their coming

    def _run(self) -> None:
        while not self._ends.is_set():
            self._reap()
            try:
                accepted, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:  # the listening socket was closed, or no descriptor is free
                self._ends.wait(LOOK_SECONDS)
                continue
            try:
                self._welcome(accepted)
            except (OSError, EOFError, RuntimeError, paramiko.SSHException):  # gone already, or no thread is free
                accepted.close()

    def _reap(self) -> None:
        surplus = self._surplus()
        for transport, visitor in list(self._visitors.items()):
            if visitor in surplus or self._is_late(transport, visitor) or visitor.floods():
                transport.close()
            if not transport.is_alive():
                del self._visitors[transport]

    def _is_late(self, transport: paramiko.Transport, visitor: _Visitor) -> bool:
        now = time.monotonic()
        if not transport.is_authenticated():
            return now - visitor.began > self._login_seconds
        return now - visitor.last_act > self._idle_seconds

    def _surplus(self) -> set[_Visitor]:
        """Feeders beyond the share of their account or of all feeders: those that came last."""
        surplus: set[_Visitor] = set()
        taken: dict[str, int] = {}
        for transport, visitor in list(self._visitors.items()):
            if not transport.is_authenticated() or visitor.grant.rights is SERVICE:
                continue
            if sum(taken.values()) < MAX_FEEDERS and taken.get(visitor.account, 0) < MAX_OF_ACCOUNT:
                taken[visitor.account] = taken.get(visitor.account, 0) + 1
            else:
                surplus.add(visitor)
        return surplus

    def _has_seat(self, visitor: _Visitor) -> bool:
        return visitor not in self._surplus()

    def _welcome(self, accepted: socket.socket) -> None:
        # One that was cut leaves the table when its thread has ended; it takes no place until then.
        strangers = sum(each.is_active() and not each.is_authenticated() for each in self._visitors)
        if strangers >= MAX_UNAUTHENTICATED:
            accepted.close()
            return
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        transport = paramiko.Transport(accepted, disabled_algorithms=connection.WEAK)
        transport.set_log_channel(LOG)
        transport.add_server_key(self.host_key)
        transport.set_subsystem_handler("sftp", Subsystem)
        visitor = self._visitors[transport] = _Visitor(self._users, transport, self._has_seat)
        # With an event it returns at once: a silent client must not hold up the next one.
        with suppress(paramiko.SSHException, EOFError):
            transport.start_server(event=threading.Event(), server=visitor)

    def _stop(self, listener: threading.Thread) -> None:
        self._ends.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the listener at once where the system allows it
        listener.join()
        self._socket.close()
        for transport in self._visitors:
            transport.close()
        for transport in self._visitors:
            transport.join(5)


@contextmanager
def serve(
    root: Path,
    accounts: Mapping[str, keys.AccountKeys],
    port: int = 2222,
    *,
    host: str = "127.0.0.1",
    largest: Mapping[str, int] | None = None,
    login_seconds: float = 20,
    idle_seconds: float = 900,
    settle_seconds: float = 3,
) -> Iterator[Server]:
    """Serve the accounts from threads of this process until the block ends.

    Args:
        root: folder of the server's files (`Layout.sftp`): host key, known_hosts, and `accounts/<name>/<folder>/`.
        accounts: who may log in, as `keys.prepare` gives it.
        port: 0 takes a free one.
        host: the address to listen on; loopback unless told otherwise.
        largest: account → bytes that an upload of its customer may have; LARGEST_FILE where it is not named.
        login_seconds: how long a client may take to log in.
        idle_seconds: how long a client may stay without a request.
        settle_seconds: how long a closed upload is left to its session, which may check, date or rename it, before the
            service claims it; the end of the session ends it too.

    Raises:
        MailboxError: when the port is taken.
    """
    logging.getLogger(LOG).addHandler(logging.NullHandler())
    listening = _listen(host, port)
    folders = {name: Folders(root / "accounts" / name, settle_seconds) for name in accounts}
    limits = largest or {}
    users = {
        name: dict.fromkeys(_wire(access.feeder), _Grant(folders[name], FEEDER, limits.get(name, LARGEST_FILE)))
        | dict.fromkeys(_wire(access.service), _Grant(folders[name], SERVICE, sys.maxsize))
        for name, access in accounts.items()
    }
    bound = listening.getsockname()[1]
    server = Server(host, bound, keys.host_key(root), listening, users, login_seconds, idle_seconds)
    connection.pin_host_key(root / "known_hosts", host, bound, server.host_key, replace=True)
    listener = threading.Thread(target=server._run, name=f"sftp-{bound}", daemon=True)
    listener.start()
    try:
        yield server
    finally:
        server._stop(listener)
        for opened in folders.values():
            opened.close()


def _wire(public: tuple[paramiko.PKey, ...]) -> list[bytes]:
    return [key.asbytes() for key in public]


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
    listening.settimeout(LOOK_SECONDS)
    return listening
