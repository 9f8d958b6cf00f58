from __future__ import annotations

from pathlib import Path

import polars as pl

from recoflow import schema
from recoflow.storage.lake import purge
from recoflow.storage.lake.lake import Lake


def _devices(*names: str) -> pl.DataFrame:
    return pl.DataFrame({"device_id": names, "user_id": list(names)}, schema=schema.IDENTITY)


def _mentions(lake: Lake, text: str) -> list[Path]:
    return [path for path in Path(lake.root).rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_a_purged_table_keeps_rows_and_transactions_and_nothing_of_what_was_deleted(tmp_path):
    lake = Lake(tmp_path)
    lake.append("identity", _devices("ann-4711", "bob"), transaction="first")
    lake.append("identity", _devices("zoe"), transaction="second")
    lake.delete("identity", "user_id = 'ann-4711'")
    assert _mentions(lake, "ann-4711")  # in the old file, and in the log's words

    assert purge.purge(lake, "identity") == 1

    assert _mentions(lake, "ann-4711") == []
    assert sorted(lake.scan("identity").collect()["user_id"]) == ["bob", "zoe"]
    assert lake.has_transaction("identity", "first")
    lake.append("identity", _devices("again"), transaction="second")
    lake.append("identity", _devices("later"), transaction="third")
    assert sorted(Lake(tmp_path).scan("identity").collect()["user_id"]) == ["bob", "later", "zoe"]


def test_staged_rows_of_a_running_ingest_survive_a_purge(tmp_path):
    lake = Lake(tmp_path)
    lake.append("identity", _devices("bob"))
    staged = lake.stage("identity", _devices("zoe"))
    purge.purge(lake, "identity")
    lake.commit_once("identity", [staged], transaction="t")
    assert sorted(lake.scan("identity").collect()["user_id"]) == ["bob", "zoe"]


def test_a_table_that_does_not_exist_needs_no_purge(tmp_path):
    assert purge.purge(Lake(tmp_path), "events") == 0
