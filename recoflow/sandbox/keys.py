"""Host key, client keys and known_hosts of the embedded SFTP server, made on its first start.

What belongs here: making and finding key files. What does not: keys of a production server (its administrator makes
them) and host-key checking (`storage.sftp_link`).

Files under `root`: `host_key`, `known_hosts`, `keys/<username>` (private, mode 0600) and `keys/<username>.pub`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from recoflow.errors import MailboxError


@dataclass(frozen=True)
class Access:
    """Public keys that open one account of the embedded server.

    Args:
        feeder: keys of the customer's sending servers; user name = the account's name, sees the four exchange folders.
        service: keys of recoflow itself; user name = `service_name(account)`, sees claims/ and staging/ too.
    """

    feeder: tuple[paramiko.PKey, ...]
    service: tuple[paramiko.PKey, ...]


def service_name(account: str) -> str:
    """The user name under which recoflow itself uses an account."""
    return f"{account}-service"


def private_key(root: Path, username: str) -> Path:
    """Where the private key of a user of the embedded server lies."""
    return root / "keys" / username


def host_key(root: Path) -> paramiko.PKey:
    """The server's ed25519 host key, made when there is none."""
    return _key(root / "host_key")


def prepare(root: Path, accounts: tuple[str, ...]) -> dict[str, Access]:
    """Make what is missing: one feeder key and one service key per account; existing keys stay."""
    return {
        account: Access(
            feeder=(_key(private_key(root, account)),), service=(_key(private_key(root, service_name(account))),)
        )
        for account in accounts
    }


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
