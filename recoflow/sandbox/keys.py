"""Host key, client keys and known_hosts of the embedded SFTP server, made on its first start.

What belongs here: making and finding key files. What does not: keys of a production server (its administrator makes
them) and host-key checking (`storage.sftp.connection`).

Files under `root`: `host_key`, `known_hosts`, and in `keys/` the private keys (mode 0600), each with its `.pub`:
`recoflow` opens every account as the service, `feeder_<account>` opens that account as the customer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from recoflow.errors import MailboxError


@dataclass(frozen=True)
class AccountKeys:
    """Public keys that open one account of the embedded server; the key decides what is seen.

    Args:
        feeder: keys of the customer's sending servers: the four exchange folders.
        service: keys of recoflow itself: claims/ and staging/ too.
    """

    feeder: tuple[paramiko.PKey, ...]
    service: tuple[paramiko.PKey, ...]


def service_key(root: Path) -> Path:
    """Where the private key of recoflow itself lies."""
    return root / "keys" / "recoflow"


def feeder_key(root: Path, account: str) -> Path:
    """Where the private key of an account's customer lies."""
    return root / "keys" / f"feeder_{account}"


def host_key(root: Path) -> paramiko.PKey:
    """The server's ed25519 host key, made when there is none."""
    return _key(root / "host_key")


def prepare(root: Path, accounts: Iterable[str]) -> dict[str, AccountKeys]:
    """Make the keys that are missing; those that exist stay."""
    service = _key(service_key(root))
    return {account: AccountKeys(feeder=(_key(feeder_key(root, account)),), service=(service,)) for account in accounts}


def _key(path: Path) -> paramiko.PKey:
    if not path.exists():
        _make(path)
    try:
        return paramiko.Ed25519Key.from_private_key_file(str(path))
    except (OSError, paramiko.SSHException) as error:
        raise MailboxError(
            str(path), f"is not an ed25519 key: {error}", "Remove it; the next start makes another"
        ) from None


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    # The name appears only with its whole content: a start that was killed leaves no half key behind.
    made = path.with_name(f".{path.name}.{os.getpid()}")
    made.touch(mode=0o600)
    made.write_bytes(private)
    path.with_name(f"{path.name}.pub").write_bytes(public + f" {path.name}\n".encode())
    made.rename(path)
