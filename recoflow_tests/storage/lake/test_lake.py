from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import deltalake
import polars as pl
import pytest

from recoflow import schema
from recoflow.errors import StorageError
from recoflow.storage import sql
from recoflow.storage.lake.lake import TABLES, CommitConflictError, Lake

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "a folder with an odd na'me, é#?")


def _devices(*names: str) -> pl.DataFrame:
    return pl.DataFrame({"device_id": names, "user_id": ["ann"] * len(names)}, schema=schema.IDENTITY)


def _events(count: int, received_at: datetime = NOW) -> pl.DataFrame:
    rows = [
        {"event_id": f"e{number}", "content_hash": 2**64 - 1 - number, "part": 0, "received_at": received_at}
        for number in range(count)
    ]
    return pl.DataFrame(rows, schema=schema.EVENTS)


def _stored(lake: Lake) -> list[str]:
    return sorted(lake.scan("identity").collect()["device_id"])


def test_a_table_that_does_not_exist_yet_is_empty_and_typed(lake):
    assert lake.version("events") is None
    assert lake.files("events") == []
    assert lake.scan("events").collect().schema == schema.EVENTS
    assert not lake.has_transaction("events", "t")
    assert lake.delete("events", "true") == 0
    assert lake.vacuum("events") == 0
    with sql.connect() as connection:
        lake.views(connection)
        assert sql.frame(connection, "FROM events", schema.EVENTS).height == 0


def test_a_table_that_cannot_be_read_is_an_error_and_never_empty(lake):
    lake.append("identity", _devices("a"))
    log = next(Path(lake.root, "identity", "_delta_log").glob("*0.json"))
    log.write_text("garbage")

    with pytest.raises(StorageError, match="cannot be read"):
        lake.scan("identity")


def test_rows_come_back_with_their_dtypes_also_those_that_delta_does_not_know(lake):
    events = _events(3)

    lake.append("events", events)

    assert lake.scan("events").collect().equals(events)
    with sql.connect() as connection:
        lake.views(connection)
        assert sql.frame(connection, "FROM events ORDER BY event_id", schema.EVENTS).equals(events)


def test_other_columns_than_the_contract_s_are_refused(lake):
    with pytest.raises(StorageError, match="user_id"):
        lake.append("identity", pl.DataFrame({"device_id": ["a"], "user_id": [1]}))


@pytest.mark.parametrize("name", ["[a]", "a%20b"])
def test_a_folder_that_deltalake_cannot_work_in_is_refused_at_once(tmp_path, name):
    with pytest.raises(StorageError, match="Choose another data folder"):
        Lake(tmp_path / name)


def test_a_name_that_is_no_table_is_refused(lake):
    with pytest.raises(KeyError):
        lake.scan("event")


def test_a_transaction_is_committed_once(lake):
    first = lake.append("identity", _devices("a"), transaction="file-1")
    again = lake.append("identity", _devices("a"), transaction="file-1")

    assert first == again
    assert lake.has_transaction("identity", "file-1")
    assert _stored(lake) == ["a"]
    assert len(list(Path(lake.root, "identity").glob("*.parquet"))) == 1


def test_a_transaction_is_known_after_a_checkpoint_and_a_compaction(lake):
    for name in "abc":
        lake.append("identity", _devices(name), transaction=name)
    lake.compact("identity")
    deltalake.DeltaTable(f"{lake.root}/identity").create_checkpoint()

    assert lake.has_transaction("identity", "a")
    assert len(lake.files("identity")) == 1
    assert _stored(lake) == ["a", "b", "c"]


def test_overwrite_replaces_all_rows(lake):
    lake.append("identity", _devices("a"))
    lake.overwrite("identity", _devices("b"))

    assert _stored(lake) == ["b"]


def test_overwriting_with_nothing_leaves_an_empty_table(lake):
    lake.append("identity", _devices("a"))
    lake.overwrite("identity", _devices())

    assert lake.scan("identity").collect().equals(_devices())


def test_staged_rows_are_not_seen_before_their_commit(lake):
    snapshot = lake.ensure("identity")
    staged = lake.stage("identity", _devices("a"))
    assert _stored(lake) == []
    assert lake.scan("identity", [staged.path]).collect().equals(_devices("a"))

    lake.commit(snapshot, [staged], transactions={})
    assert _stored(lake) == ["a"]


def test_what_a_broken_off_staging_began_is_told_and_removed(lake):
    begun = lake.staging("identity", file_rows=2)
    begun.add(begun.prepared(_devices("a", "b")))
    begun.add(begun.prepared(_devices("c")))
    folder = Path(lake.root) / "identity"
    assert len(list(folder.glob("part-*"))) == 2
    lake.discard(begun.abandon(), None)
    assert list(folder.glob("part-*")) == []


def test_a_frame_that_cannot_be_written_leaves_no_file(lake):
    with pytest.raises(StorageError):
        lake.stage("identity", _devices("a").drop("user_id"))
    assert list(Path(lake.root).rglob("part-*")) == []


def test_rows_that_are_staged_bit_by_bit_keep_their_order_over_several_files(lake):
    writing = lake.staging("identity", file_rows=2)
    for name in "abcde":
        writing.add(writing.prepared(_devices(name)))
    files = writing.close()

    assert [file.rows for file in files] == [2, 2, 1]
    assert [Path(file.path).stat().st_size for file in files] == [file.size for file in files]
    rows = lake.scan("identity", [file.path for file in files]).collect()
    assert rows.equals(_devices(*"abcde"))
    assert lake.staging("identity").close() == []


def test_of_two_commits_with_one_transaction_id_on_one_snapshot_the_second_is_refused(lake):
    first, second = lake.ensure("identity"), lake.ensure("identity")
    lake.commit(first, [lake.stage("identity", _devices("a"))], transactions={"fence": 1})

    with pytest.raises(CommitConflictError):
        lake.commit(second, [lake.stage("identity", _devices("b"))], transactions={"fence": 1})

    assert _stored(lake) == ["a"]


def test_commits_without_a_common_transaction_id_do_not_conflict(lake):
    first, second = lake.ensure("identity"), lake.ensure("identity")
    lake.commit(first, [lake.stage("identity", _devices("a"))], transactions={"x": 1})
    lake.commit(second, [lake.stage("identity", _devices("b"))], transactions={"y": 1})

    assert _stored(lake) == ["a", "b"]


def test_discard_keeps_files_that_were_committed_after_all(lake):
    staged = [lake.stage("identity", _devices(name)) for name in "ab"]
    committed = lake.commit(lake.ensure("identity"), staged[:1], transactions={})

    lake.discard(staged, committed)

    assert _stored(lake) == ["a"]
    assert not Path(staged[1].path).exists()


def test_appends_of_many_threads_are_all_kept(lake):
    threads = [
        threading.Thread(target=lambda name=name: lake.append("identity", _devices(name), transaction=name))
        for name in "abcdef"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert _stored(lake) == list("abcdef")


def test_delete_removes_the_rows_that_the_predicate_names(lake):
    lake.append("identity", _devices("a", "it's"))

    assert lake.delete("identity", "device_id = 'it''s'") == 1
    assert _stored(lake) == ["a"]


def test_expire_removes_rows_from_before_a_time(lake):
    lake.append("events", _events(2, NOW - timedelta(days=2)))
    lake.append("events", _events(3, NOW))

    assert lake.expire("events", "received_at", NOW - timedelta(seconds=1)) == 2
    assert lake.scan("events").collect()["received_at"].to_list() == [NOW] * 3


def test_vacuum_removes_what_was_deleted_and_nothing_that_is_read(lake):
    lake.append("identity", _devices("a", "b"))
    lake.delete("identity", "device_id = 'a'")

    assert lake.vacuum("identity", keep_hours=0) == 1
    assert _stored(lake) == ["b"]
    assert len(list(Path(lake.root, "identity").glob("*.parquet"))) == 1


def test_views_have_every_table(lake):
    with sql.connect() as connection:
        lake.views(connection)
        for table, columns in TABLES.items():
            assert sql.frame(connection, f"FROM {table}", columns).schema == columns


def test_a_table_that_an_older_recoflow_wrote_says_so_and_how_to_get_it_anew(tmp_path: Path) -> None:
    folder = tmp_path / "lake" / "interactions"
    folder.mkdir(parents=True)
    old = pl.DataFrame({"subject": ["u:ann"], "item_id": ["i"], "weight": [1.0], "is_consumed": [True]})
    deltalake.write_deltalake(str(folder), old.to_arrow())
    with sql.connect() as connection, pytest.raises(StorageError, match=r"interactions: .*older recoflow.*Remove this"):
        Lake(tmp_path / "lake").views(connection)


def test_an_earlier_version_can_be_read_until_its_files_are_gone(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    owners = [pl.DataFrame({"device_id": ["d"], "user_id": [user]}, schema=schema.IDENTITY) for user in ("ann", "bob")]
    first, second = (lake.overwrite("identity", frame) for frame in owners)
    assert lake.scan("identity", version=first).collect()["user_id"].to_list() == ["ann"]
    assert lake.has_version("identity", first)
    assert not lake.has_version("identity", second + 1)
    lake.vacuum("identity", keep_hours=0)
    assert not lake.has_version("identity", first)
    assert lake.has_version("identity", second)
