"""A customer's script: drops files and fetches responses with plain paramiko, knowing nothing of recoflow.

What belongs here: what a customer would write. What does not: checks and retries of recoflow's own side (`storage`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko

from recoflow.sandbox import keys


@contextmanager
def connect(root: Path, account: str, port: int, *, host: str = "127.0.0.1") -> Iterator[paramiko.SFTPClient]:
    """Log in to the embedded server as the customer of `account`; `root` is where the server keeps its keys."""
    with paramiko.SSHClient() as client:
        client.load_host_keys(str(root / "known_hosts"))
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        client.connect(
            host,
            port,
            account,
            key_filename=str(keys.feeder_key(root, account)),
            allow_agent=False,
            look_for_keys=False,
            timeout=10,
        )
        with client.open_sftp() as sftp:
            yield sftp


def drop(sftp: paramiko.SFTPClient, local: Path, name: str | None = None, *, folder: str = "requests") -> None:
    """Upload a file; `name` is its remote name, the local one unless told."""
    sftp.put(str(local), f"{folder}/{name or local.name}")


def responses(sftp: paramiko.SFTPClient) -> list[str]:
    """Names in responses/, sorted."""
    return sorted(sftp.listdir("responses"))


def collect(sftp: paramiko.SFTPClient, name: str, local: Path, *, remove: bool = False) -> None:
    """Download a response and, if told, remove it there."""
    sftp.get(f"responses/{name}", str(local))
    if remove:
        sftp.remove(f"responses/{name}")
