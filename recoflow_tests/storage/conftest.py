"""A running embedded server, a customer's connection to it, and a mailbox on it with a clock that tests move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import paramiko
import pytest

from recoflow.sandbox import feeder, keys, namespace, sftp_server
from recoflow.sandbox.namespace import FolderRight
from recoflow.sandbox.uploads import UploadPath
from recoflow.storage.sftp.account import Account
from recoflow.storage.sftp.ledger import Ledger
from recoflow.storage.sftp.mailbox import Mailbox


@dataclass
class HandClock:
    """Moves when a test moves it."""

    wall_now: float = 1_800_000_000.0
    boot_now: float = 1000.0
    boot_name: str = "first boot"

    def wall(self) -> float:
        return self.wall_now

    def boot(self) -> float:
        return self.boot_now

    def boot_id(self) -> str:
        return self.boot_name

    def pass_seconds(self, seconds: float) -> None:
        self.wall_now += seconds
        self.boot_now += seconds


@dataclass
class Drop:
    """One account of a running server: its folder on disk, and who uses it."""

    root: Path
    folder: Path
    account: Account
    customer: paramiko.SFTPClient

    def send(self, name: str, content: bytes, folder: str = "requests") -> None:
        """Upload as a customer does."""
        with self.customer.open(f"{folder}/{name}", "wb") as file:
            file.write(content)

    def place(self, name: str | bytes, content: bytes, folder: str = "requests") -> Path:
        """Put a file there without the server's knowledge, as a server of someone else's would have it."""
        path = self.folder / folder / (name if isinstance(name, str) else name.decode("utf-8", "surrogateescape"))
        path.write_bytes(content)
        return path

    def names(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.folder / folder).iterdir())


@pytest.fixture(scope="session")
def server_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sftp")


@pytest.fixture(scope="session")
def access(server_root: Path) -> dict[str, keys.AccountKeys]:
    return keys.prepare(server_root, ("lorem",))


@pytest.fixture
def drop(tmp_path: Path, server_root: Path, access: dict[str, keys.AccountKeys]) -> Iterator[Drop]:
    root = tmp_path / "sftp"
    root.mkdir()
    for kept in ("keys", "host_key"):
        (root / kept).symlink_to(server_root / kept)
    with (
        sftp_server.serve(root, access, port=0, settle_seconds=0) as server,
        feeder.connect(root, "lorem", server.port) as customer,
    ):
        account = Account(
            environment="lorem",
            host=server.host,
            port=server.port,
            username="lorem",
            private_key=keys.service_key(root),
            known_hosts=root / "known_hosts",
        )
        yield Drop(root, root / "accounts" / "lorem", account, customer)


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], AbstractContextManager[None]]:
    """Takes all rights in a folder but that of reading, for the time of a block."""
    place = namespace.View.place

    @contextmanager
    def refusing(folder: str) -> Iterator[None]:
        def place_to_read(view: namespace.View, path: str, right: FolderRight = FolderRight.READ) -> UploadPath:
            if right and view.parts(path)[0] == folder:
                raise PermissionError(path)
            return place(view, path, right)

        with monkeypatch.context() as patch:
            patch.setattr(namespace.View, "place", place_to_read)
            yield

    return refusing


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "mailbox" / "ledger.sqlite") as opened:
        yield opened


@pytest.fixture
def mailbox_of(drop: Drop, ledger: Ledger, tmp_path: Path, clock: HandClock) -> Iterator[Callable[..., Mailbox]]:
    """Makes mailboxes on the drop; keyword arguments change the account."""
    made: list[Mailbox] = []

    def make(*, on_state: Callable[[str], None] = lambda _: None, **changes: Any) -> Mailbox:
        made.append(
            Mailbox(replace(drop.account, **changes), ledger, tmp_path / "mailbox" / "inbox", clock, on_state=on_state)
        )
        return made[-1]

    yield make
    for mailbox in made:
        mailbox.close()


@pytest.fixture
def mailbox(mailbox_of: Callable[..., Mailbox]) -> Mailbox:
    return mailbox_of()
