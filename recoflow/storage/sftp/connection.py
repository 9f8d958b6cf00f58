"""The connection to an SFTP server: pinned host key, one key file, time-outs everywhere, reused while it lives.

What belongs here: TCP, SSH and who is on either side. What does not: SFTP itself (`protocol`).
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import paramiko
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import IncompatiblePeer

from recoflow.errors import MailboxError
from recoflow.storage.sftp.account import Account
from recoflow.storage.sftp.protocol import Session
from recoflow.storage.sftp.server_replies import LinkLostError

LOG: Final = "recoflow.sftp"
WEAK: Final = {
    "ciphers": ["3des-cbc", "aes128-cbc", "aes192-cbc", "aes256-cbc"],
    "macs": ["hmac-sha1", "hmac-md5", "hmac-sha1-96", "hmac-md5-96"],
}
SMALLEST_RSA: Final = 3072


class Link:
    """One connection to one account, opened when first needed and again after it broke."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._transport: paramiko.Transport | None = None
        self._session: Session | None = None

    def session(self) -> Session:
        """The open session.

        Raises:
            LinkLostError: the server cannot be reached; another try may help.
            MailboxError: the host key or our key is refused, or a key file is unsafe; another try does not help.
        """
        if self._session is None or self._transport is None or not self._transport.is_active():
            self.close()
            self._session = self._open()
        return self._session

    def close(self) -> None:
        """Hang up; the next `session` connects again."""
        if self._transport is not None:
            self._transport.close()
            self._transport.join(5)
        self._transport = self._session = None

    def _open(self) -> Session:
        account = self._account
        address = f"{account.host}:{account.port}"
        key = _private_key(account.private_key)
        pinned = _pinned(account)
        with _transport(account.host, account.port, account.connect_seconds) as transport:
            transport.get_security_options().key_types = [
                name for name in transport.preferred_keys if name in _algorithms(pinned)
            ]
            self._transport = transport
            _handshake(transport, address, account.connect_seconds)
            _verify(transport.get_remote_server_key(), pinned, account)
            try:
                transport.auth_publickey(account.username, key)
            except paramiko.AuthenticationException:
                raise MailboxError(
                    f"{account.username}@{address}",
                    "refused our key",
                    f"Give the server {account.private_key}.pub, or correct sftp.username",
                ) from None
            channel = transport.open_session(timeout=account.connect_seconds)
            channel.settimeout(account.reply_seconds)
            channel.invoke_subsystem("sftp")
            return Session(channel, address)


@contextmanager
def _transport(host: str, port: int, seconds: float) -> Iterator[paramiko.Transport]:
    """A transport that is cut when the block is not done in time: not every wait inside paramiko has a limit."""
    logging.getLogger(LOG).addHandler(logging.NullHandler())
    address = f"{host}:{port}"
    try:
        connection = socket.create_connection((host, port), timeout=seconds)
    except OSError as error:
        raise LinkLostError(address, f"cannot be reached: {error}", "Is the SFTP server running?") from None
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)
    transport = paramiko.Transport(connection, disabled_algorithms=WEAK)
    transport.set_log_channel(LOG)
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = seconds
    limit = threading.Timer(seconds, transport.close)
    limit.daemon = True
    limit.start()
    try:
        yield transport
    except (OSError, EOFError, paramiko.SSHException) as error:
        transport.close()
        raise LinkLostError(address, f"broke off while connecting: {error}", "The next tick tries again") from None
    except MailboxError:
        transport.close()
        raise
    finally:
        limit.cancel()


def _handshake(transport: paramiko.Transport, address: str, seconds: float) -> None:
    try:
        transport.start_client(timeout=seconds)
    except IncompatiblePeer as error:
        raise MailboxError(
            address,
            f"offers no host key or algorithm that we accept: {error}",
            "Run `recoflow sftp trust` if the server's key was replaced on purpose; else update the server",
        ) from None


def _private_key(path: Path) -> paramiko.PKey:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise MailboxError(
            str(path), "does not exist", "Put the private key there, or correct sftp.private_key"
        ) from None
    if stat.S_IMODE(mode) & 0o077:
        raise MailboxError(str(path), "can be read by others", f"Run: chmod 600 {path}")
    try:
        key = paramiko.PKey.from_path(path)
    except (ValueError, paramiko.SSHException, UnknownKeyType) as error:
        raise MailboxError(
            str(path), f"is not a usable private key: {error}", "Use ed25519 without passphrase"
        ) from None
    if key.get_name() == "ssh-rsa" and key.get_bits() < SMALLEST_RSA:
        raise MailboxError(str(path), f"is RSA of {key.get_bits()} bits", f"Use ed25519, or RSA of {SMALLEST_RSA} bits")
    return key


def _entry(host: str, port: int) -> str:
    return host if port == 22 else f"[{host}]:{port}"


def _pinned(account: Account) -> tuple[paramiko.PKey, ...]:
    hosts = _known(account.known_hosts)
    keys = hosts.lookup(_entry(account.host, account.port))
    if not keys:
        raise MailboxError(
            f"{account.host}:{account.port}",
            f"has no key in {account.known_hosts}",
            "Run `recoflow sftp trust` and compare the fingerprint with what the server's owner tells you",
        )
    return tuple(keys.values())


def _known(path: Path) -> paramiko.HostKeys:
    hosts = paramiko.HostKeys()
    if path.exists():
        hosts.load(str(path))
    return hosts


def _algorithms(keys: tuple[paramiko.PKey, ...]) -> set[str]:
    names = {key.get_name() for key in keys}
    return names | ({"rsa-sha2-512", "rsa-sha2-256"} if "ssh-rsa" in names else set())


def _verify(offered: paramiko.PKey, pinned: tuple[paramiko.PKey, ...], account: Account) -> None:
    if offered not in pinned:
        raise MailboxError(
            f"{account.host}:{account.port}",
            f"shows another host key ({offered.fingerprint}) than {account.known_hosts} has",
            "Someone may be in between. If the key was replaced on purpose, run `recoflow sftp trust`",
        )


def fetch_host_key(host: str, port: int, *, seconds: float = 10) -> paramiko.PKey:
    """Ask a server for its host key without logging in; `.fingerprint` is what people compare.

    Raises:
        LinkLostError: when it cannot be reached.
    """
    with _transport(host, port, seconds) as transport:
        _handshake(transport, f"{host}:{port}", seconds)
        key = transport.get_remote_server_key()
    transport.close()
    transport.join(5)
    return key


def pin_host_key(known_hosts: Path, host: str, port: int, key: paramiko.PKey, *, replace: bool = False) -> None:
    """Write a host key into a known_hosts file; other hosts' lines stay.

    Raises:
        MailboxError: when the file has another key for this host and `replace` is false.
    """
    hosts, entry = _known(known_hosts), _entry(host, port)
    if hosts.check(entry, key):
        return
    if hosts.lookup(entry) is not None:
        if not replace:
            raise MailboxError(f"{host}:{port}", f"has another key in {known_hosts}", "Pass --replace if that is meant")
        del hosts[entry]
    hosts.add(entry, key.get_name(), key)
    known_hosts.parent.mkdir(parents=True, exist_ok=True)
    made = known_hosts.with_name(f".{known_hosts.name}.{os.getpid()}")
    hosts.save(str(made))
    made.rename(known_hosts)
