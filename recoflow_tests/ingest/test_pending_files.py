from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from recoflow.ingest.pending_files import INGESTED, REJECTED, PendingFile
from recoflow.settings import environment
from recoflow.storage.paths import Paths
from recoflow.storage.sftp.account import Account
from recoflow.storage.sftp.ledger import Ledger
from recoflow.storage.sftp.mailbox import Mailbox

LOREM = Path(__file__).parents[2] / "data/environments/lorem.yaml"


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Mailbox]:
    """Of an account that no server is asked for: local files need none."""
    account = Account.of(environment.load_environment(LOREM), Paths(tmp_path))
    with Ledger(tmp_path / "ledger.sqlite") as ledger, Mailbox(account, ledger, tmp_path / "claimed") as opened:
        yield opened


def test_a_local_file_overwrites_none_of_its_name_that_came_before(mailbox: Mailbox, tmp_path: Path) -> None:
    path = tmp_path / "orders.csv.gz"
    for content in ("first", "second", "third"):
        path.write_text(content)
        PendingFile(path.name, path).done(mailbox)
    path.write_text("no gzip")
    PendingFile(path.name, path).refuse(mailbox, "it is no gzip")
    assert not path.exists()
    assert {each.name: each.read_text() for each in (tmp_path / INGESTED).iterdir()} == {
        "orders.csv.gz": "first",
        "2.orders.csv.gz": "second",
        "3.orders.csv.gz": "third",
    }
    assert [each.read_text() for each in (tmp_path / REJECTED).iterdir()] == ["no gzip"]
