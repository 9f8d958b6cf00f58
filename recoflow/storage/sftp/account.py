"""One SFTP account as the mailbox needs it: the environment's settings joined with where its files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recoflow.settings.environment import Environment
from recoflow.storage.paths import Paths


@dataclass(frozen=True)
class Account:
    """An SFTP account of one environment.

    Args:
        environment: its name.
        host, port, username: where and as whom recoflow logs in.
        private_key, known_hosts: files; the key's mode must be 0600.
        owns_server: claims/ and staging/ exist beside the exchange folders, out of the customer's reach. False: files
            are claimed and staged under hidden names in the exchange folders.
        quiet_seconds: how long a file must rest before it counts as complete; ten times that for an empty one.
        max_bytes: larger files are rejected unread.
        retention_days: how long a response stays in responses/.
        linger_seconds: how long the original of a fetched file stays in claims/, so that late bytes are noticed.
        connect_seconds: for TCP, SSH handshake and log-in together.
        reply_seconds: for each answer of the server.
        file_mode: of files in responses/; None: as the server makes them.
        reads_back: whether large responses are read back before they are published.
    """

    environment: str
    host: str
    port: int
    username: str
    private_key: Path
    known_hosts: Path
    owns_server: bool = True
    quiet_seconds: float = 60
    max_bytes: int = 2 * 1024**3
    retention_days: float = 7
    linger_seconds: float = 86_400
    connect_seconds: float = 10
    reply_seconds: float = 30
    file_mode: int | None = None
    reads_back: bool = False

    @staticmethod
    def of(environment: Environment, layout: Paths) -> Account:
        """The account of an environment; the embedded server tells in a file which port it took."""
        settings = environment.sftp
        has_told = settings.embedded and layout.sftp_port.exists()
        return Account(
            environment=environment.name,
            host=settings.host,
            port=int(layout.sftp_port.read_text()) if has_told else settings.port,
            username=settings.username,
            private_key=layout.root / settings.private_key,
            known_hosts=layout.root / settings.known_hosts,
            owns_server=settings.owns_server,
            quiet_seconds=settings.quiet_seconds,
            max_bytes=settings.max_bytes,
            retention_days=environment.campaigns.retention_days,
            file_mode=int(settings.file_mode, 8) if settings.file_mode else None,
            reads_back=settings.verify == "read_back",
        )
