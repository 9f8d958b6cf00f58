from __future__ import annotations

import sqlite3

import pytest

from recoflow.errors import StorageError
from recoflow.storage.sftp import ledger_tables
from recoflow.storage.sftp.claims import ListingSnapshot, State
from recoflow.storage.sftp.ledger import Ledger
from recoflow.storage.sftp.transfer import Content

DAY = 86_400.0


def test_commits_are_fsynced_and_survive_a_second_reader(ledger):
    claim = ledger.begin("requests", b"caf\xe9.csv", 5, 7, markers=(b".done", b".sha256"))
    with Ledger(ledger.path) as other, other.transaction() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with Ledger(ledger.path) as other:
        assert other.claim(claim.id) == claim
        assert (claim.name, claim.markers, claim.state) == (b"caf\xe9.csv", (b".done", b".sha256"), State.CLAIMING)


def test_a_transaction_that_fails_leaves_nothing(ledger):
    with pytest.raises(sqlite3.IntegrityError), ledger.transaction() as connection:
        connection.executemany("INSERT INTO responses VALUES (?, 'b', 1, 'c', 1.0)", [("a",), ("a",)])
    assert ledger.responses() == []


def test_an_unknown_claim_is_named(ledger):
    with pytest.raises(StorageError, match="nope"):
        ledger.claim("nope")


def test_a_ledger_of_a_newer_version_is_refused(ledger):
    with ledger.transaction() as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageError, match="version 99"):
        Ledger(ledger.path)


def test_a_ledger_of_an_older_version_keeps_its_claims_and_gets_what_is_new(tmp_path):
    path = tmp_path / "ledger.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(f"{ledger_tables.STEPS[0]} PRAGMA user_version = 1;")
    values = "('a', 'requests', x'61', 'published', 1, 1, '', 1)"
    connection.execute(f"INSERT INTO claims (id, folder, name, state, size, mtime, markers, is_whole) VALUES {values}")
    connection.commit()
    connection.close()
    for _ in range(2):
        with Ledger(path) as ledger:
            assert ledger.claim("a").state is State.PUBLISHED
            assert ledger.delivered() == []


def test_what_is_not_a_ledger_is_refused(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageError, match="damaged"):
        Ledger(path)
    assert path.read_bytes() == b"not a database" * 1000


def test_a_lock_is_held_by_one_and_let_go_at_the_end(ledger):
    with Ledger(ledger.path) as other:
        with ledger.lock("tick") as first, other.lock("tick") as second, other.lock("publish") as third:
            assert (first, second, third) == (True, False, True)
        with other.lock("tick") as again:
            assert again


def test_revisions_count_the_files_of_one_name_in_one_folder(ledger):
    def arrive(folder, name):
        claim = ledger.begin(folder, name, 1, 1)
        return ledger.ingested(claim, Content(1, "0" * 64), 0.0).revision

    assert [arrive("requests", b"a"), arrive("requests", b"a"), arrive("periodic", b"a"), arrive("requests", b"b")] == [
        1,
        2,
        1,
        1,
    ]


def test_a_new_state_forgets_the_trouble_of_the_old_one(ledger):
    claim = ledger.begin("requests", b"a", 1, 1)
    ledger.update(claim.id, tries=3, retry_at=9.0, problem="was refused")
    assert [held.id for held in ledger.held()] == [claim.id]
    moved = ledger.update(claim.id, state=State.CLAIMED)
    assert (moved.tries, moved.retry_at, moved.problem) == (0, 0.0, None)


def test_service_time_runs_with_the_boot_clock(ledger, clock):
    assert ledger.service_time(clock) == 0.0
    clock.pass_seconds(12.5)
    clock.wall_now += 90 * DAY
    assert ledger.service_time(clock) == 12.5
    clock.wall_now -= 300 * DAY
    assert ledger.service_time(clock) == 12.5


@pytest.mark.parametrize(("away", "counted"), [(3600.0, 3600.0), (30 * DAY, DAY), (-30 * DAY, 0.0)])
def test_across_a_reboot_service_time_follows_the_wall_clock_by_a_day_at_most(ledger, clock, away, counted):
    ledger.service_time(clock)
    clock.wall_now += away
    clock.boot_now, clock.boot_name = 5.0, "second boot"
    assert ledger.service_time(clock) == counted


def test_a_boot_clock_that_went_back_is_a_reboot_even_without_a_boot_id(ledger, clock):
    ledger.service_time(clock)
    clock.wall_now += 60
    clock.boot_now = 1.0
    assert ledger.service_time(clock) == 60.0


def test_the_file_is_a_plain_sqlite_database(ledger):
    ledger.begin("requests", b"a", 1, 1)
    with sqlite3.connect(ledger.path) as connection:
        assert connection.execute("SELECT count(*) FROM claims").fetchone() == (1,)
    connection.close()


def test_a_sighting_is_expected_until_that_very_file_is_claimed(ledger):
    ledger.see("periodic", {b"a.csv": ListingSnapshot(5, 7, "boot", 1.0)}, ())
    assert ledger.has_unclaimed("periodic")
    assert not ledger.has_unclaimed("one_time")
    ledger.begin("periodic", b"a.csv", 5, 7)
    assert not ledger.has_unclaimed("periodic")
    ledger.see("periodic", {b"a.csv": ListingSnapshot(9, 8, "boot", 2.0)}, ())  # sent again
    assert ledger.has_unclaimed("periodic")
