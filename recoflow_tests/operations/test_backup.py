"""Backups of an installation at work, and what is back after a restore."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recoflow import cli
from recoflow.erasure import erase, erased_ids
from recoflow.errors import StorageError
from recoflow.ingest import pending_files
from recoflow.ingest.run import ingest_file
from recoflow.operations import backup, doctor, restore
from recoflow.sandbox import feeder, keys, sftp_server
from recoflow.storage.lake.lake import Lake
from recoflow.storage.paths import Paths
from recoflow.storage.sftp.account import Account
from recoflow.storage.sftp.ledger import Ledger
from recoflow.storage.sftp.mailbox import Mailbox
from recoflow.storage.spool import SpoolWriter
from recoflow_tests.operations.conftest import NOW, House, event


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "backup"


@pytest.fixture
def elsewhere(house: House, tmp_path: Path) -> Paths:
    """Another machine, as it were: a folder with dagster.yaml and an empty data folder."""
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(house.home / "dagster.yaml", tmp_path / "elsewhere")
    return Paths(tmp_path / "elsewhere" / "data")


def put_back(copy: Path, layout: Paths) -> restore.Restored:
    return restore.restore_backup(copy, layout, layout.root.parent)


def ids(lake: Lake) -> list[str]:
    return sorted(lake.scan("events").collect()["event_id"])


def test_a_restored_installation_is_sound_and_has_everything(house: House, copy: Path, elsewhere: Paths) -> None:
    spool = SpoolWriter(house.layout.spool("lorem"), "events", 1 << 20)
    spool.append([event(1000).encode()], NOW)  # acknowledged, not sealed
    local = house.layout.inbox("lorem") / "waiting.jsonl"
    local.parent.mkdir(parents=True)
    local.write_text(event(1001))
    backup.back_up(house.layout, house.home, copy, NOW)
    spool.seal()
    assert copy.stat().st_mode & 0o777 == 0o700
    put_back(copy, elsewhere)
    assert (
        doctor.examine_installation(elsewhere, elsewhere.root.parent, NOW)[0].area == "sftp"
    )  # its server does not run
    assert ids(Lake(elsewhere.lake("lorem"))) == ids(house.lake)
    assert Lake(elsewhere.lake("lorem")).version("events") == house.lake.version("events")
    (segment,) = pending_files.segments(elsewhere.spool("lorem"))
    assert segment.path.read_text() == event(1000) + "\n"
    assert (elsewhere.inbox("lorem") / "waiting.jsonl").read_text() == event(1001)
    assert not (elsewhere.root / restore.READY).exists()
    assert elsewhere.root.stat().st_mode & 0o777 == 0o700


@pytest.mark.fault("M17")
def test_a_backup_while_events_are_taken_in_loses_none_that_was_acknowledged(
    house: House, copy: Path, elsewhere: Paths
) -> None:
    spool = SpoolWriter(house.layout.spool("lorem"), "events", 2000)
    acknowledged: list[str] = []
    stop = threading.Event()

    def send() -> None:
        number = 10_000
        while not stop.is_set():
            number += 1
            spool.append([event(number).encode()], NOW)
            acknowledged.append(f"e{number}")
            stop.wait(0.05)

    def take() -> None:
        while not stop.is_set():
            for arrival in pending_files.segments(house.layout.spool("lorem"))[:20]:
                ingest_file(
                    arrival.path, house.environment, house.lake, NOW, name=arrival.name, dialect=arrival.dialect
                )
                arrival.path.unlink()

    threads = [threading.Thread(target=each) for each in (send, take)]
    for thread in threads:
        thread.start()
    try:
        for number in range(2):
            time.sleep(1)
            before = list(acknowledged)
            target = copy.with_name(f"backup-{number}")
            backup.back_up(house.layout, house.home, target, NOW)
            layout = Paths(elsewhere.root.with_name(f"data-{number}"))
            put_back(target, layout)
            lake = Lake(layout.lake("lorem"))
            for arrival in pending_files.segments(layout.spool("lorem")):
                ingest_file(arrival.path, house.environment, lake, NOW, name=arrival.name, dialect=arrival.dialect)
            found = ids(lake)
            assert set(before) <= set(found)
            assert len(found) == len(set(found))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    spool.seal()


def test_people_who_were_erased_since_the_backup_are_erased_again(house: House, copy: Path, elsewhere: Paths) -> None:
    backup.back_up(house.layout, house.home, copy, NOW)
    erase.erase(house.layout, house.environment, {"lorem": house.lake}, user_ids=["reader-3"])
    assert not (copy / "erasures").exists()
    restored = restore.restore_backup(copy, elsewhere, elsewhere.root.parent, house.layout.erasures)
    assert restored.erased == {"lorem": 1}
    events = Lake(elsewhere.lake("lorem")).scan("events").collect()
    assert sorted(events["user_id"].unique()) == [f"reader-{n}" for n in (0, 1, 2, 4, 5, 6)]
    assert erased_ids.matches(elsewhere, "lorem", "user", ["reader-3"]) == {"reader-3"}


def test_claims_that_came_since_the_backup_are_taken_up(house: House, copy: Path, elsewhere: Paths) -> None:
    claimed(house, "old_2026-03-01.csv")
    backup.back_up(house.layout, house.home, copy, NOW)
    claimed(house, "new_2026-03-02.csv")
    put_back(copy, elsewhere)
    elsewhere.sftp_port.write_text(house.layout.sftp_port.read_text())
    assert restore.reconcile(elsewhere, house.environment) == 1
    account, folder = Account.of(house.environment, elsewhere), elsewhere.mailbox("lorem")
    with Ledger(folder / "ledger.sqlite") as ledger, Mailbox(account, ledger, folder / "inbox") as mailbox:
        mailbox.resume()
        assert [each.name for each in mailbox.pending()] == ["old_2026-03-01.csv", "new_2026-03-02.csv"]
        assert all(each.path.read_text() == "user_id\nann\n" for each in mailbox.pending())


def test_an_answer_that_waited_for_its_publication_is_published_from_the_new_place(
    house: House, copy: Path, elsewhere: Paths
) -> None:
    claim = claimed(house, "a_2026-03-01.csv")
    answer = house.layout.campaigns("lorem") / "key" / "a.csv"
    answer.parent.mkdir(parents=True)
    answer.write_text("answer\n")

    class CutOffError(Exception):
        pass

    def stop(state: str) -> None:
        if state == "ready":
            raise CutOffError

    account, folder = Account.of(house.environment, house.layout), house.layout.mailbox("lorem")
    with Ledger(folder / "ledger.sqlite") as ledger:
        mailbox = Mailbox(account, ledger, folder / "inbox", on_state=stop)
        with pytest.raises(CutOffError):
            mailbox.publish(claim, [(answer, "a_2026-03-01.csv")])
        mailbox.close()
    backup.back_up(house.layout, house.home, copy, NOW)
    shutil.rmtree(house.layout.campaigns("lorem"))
    put_back(copy, elsewhere)
    with serving(elsewhere):
        account, folder = Account.of(house.environment, elsewhere), elsewhere.mailbox("lorem")
        with Ledger(folder / "ledger.sqlite") as ledger, Mailbox(account, ledger, folder / "inbox") as mailbox:
            mailbox.resume()
        with feeder.connect(elsewhere.sftp, "lorem", account.port) as customer:
            assert customer.open("responses/a_2026-03-01.csv").read() == b"answer\n"


def test_a_ledger_that_is_written_to_is_copied_as_of_one_moment(house: House, copy: Path) -> None:
    claimed(house, "a_2026-03-01.csv")
    path = house.layout.mailbox("lorem") / "ledger.sqlite"
    with Ledger(path) as ledger, ledger.transaction() as half:
        half.execute("UPDATE claims SET state = 'rejected'")
        backup.back_up(house.layout, house.home, copy, NOW)
    with closing(sqlite3.connect(copy / "mailbox/lorem/ledger.sqlite")) as opened:
        assert opened.execute("SELECT state FROM claims").fetchall() == [("ingested",)]
    assert not [path for path in (copy / "mailbox/lorem").iterdir() if path.name.endswith(("-wal", "-shm", ".lock"))]


def test_a_damaged_lake_is_no_backup(house: House, copy: Path) -> None:
    file = Path(house.lake.files("events")[0])
    file.write_bytes(b"")
    with pytest.raises(StorageError, match=file.name):
        backup.back_up(house.layout, house.home, copy, NOW)
    with pytest.raises(StorageError, match="no backup that was finished"):
        backup.read_backup(copy)


def test_a_backup_that_was_altered_is_refused_and_nothing_is_put_back(
    house: House, copy: Path, elsewhere: Paths
) -> None:
    backup.back_up(house.layout, house.home, copy, NOW)
    altered = next(copy.glob("lake/lorem/events/*.parquet"))
    altered.write_bytes(altered.read_bytes()[:-1] + b"x")
    with pytest.raises(StorageError, match=altered.name):
        put_back(copy, elsewhere)
    assert not elsewhere.root.exists()


def test_nothing_is_put_over_data_that_is_there(house: House, copy: Path) -> None:
    backup.back_up(house.layout, house.home, copy, NOW)
    with pytest.raises(StorageError, match="has data already"):
        put_back(copy, house.layout)
    with pytest.raises(StorageError, match="is not empty"):
        backup.back_up(house.layout, house.home, copy, NOW)


def test_the_commands_put_an_installation_back(
    house: House, copy: Path, elsewhere: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed(house, "a_2026-03-01.csv")
    (house.layout.mailbox("lorem")).rename(house.home / "lost")
    shutil.copytree(house.home / "lost", house.layout.mailbox("lorem"))
    monkeypatch.setenv("DAGSTER_HOME", str(house.home))
    made = CliRunner().invoke(cli.app, ["backup", str(copy), "--data", str(house.layout.root)])
    assert made.exit_code == 0, made.output
    monkeypatch.setenv("DAGSTER_HOME", str(elsewhere.root.parent))
    back = CliRunner().invoke(cli.app, ["restore", str(copy), "--data", str(elsewhere.root)])
    assert back.exit_code == 0, back.output
    assert "lorem: 0 ids erased again, 0 claims taken up" in back.output
    assert "No record of erased people" in back.output
    with serving(elsewhere):
        assert (
            doctor.examine_installation(elsewhere, elsewhere.root.parent, datetime.now(UTC) + timedelta(seconds=1))
            == []
        )


def claimed(house: House, name: str) -> str:
    """A request that came in; the claim's id."""
    account, folder = Account.of(house.environment, house.layout), house.layout.mailbox("lorem")
    request = house.home / name
    request.write_text("user_id\nann\n")
    with feeder.connect(house.layout.sftp, "lorem", account.port) as customer:
        feeder.drop(customer, request, name)
    with Ledger(folder / "ledger.sqlite") as ledger, Mailbox(account, ledger, folder / "inbox") as mailbox:
        while not (came := mailbox.poll()):
            pass
        return came[0].claim_id


@contextmanager
def serving(layout: Paths) -> Iterator[None]:
    with sftp_server.serve(layout.sftp, keys.prepare(layout.sftp, ("lorem",)), 0) as running:
        layout.sftp_port.write_text(str(running.port))
        yield
