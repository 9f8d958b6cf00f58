from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recoflow import schema
from recoflow.errors import SourceError
from recoflow.ingest import dedupe
from recoflow.ingest.run import ingest_batches
from recoflow.schema import Counts
from recoflow.storage import sql
from recoflow.storage.lake.lake import Lake
from recoflow.storage.lake.staging import Staging


def test_new_events_are_accepted_and_come_back_as_they_were(lake, make):
    parsed = make.batch([make.event("a", 1), make.event("b", 2)])

    report = ingest_batches([parsed], lake, make.now, name="dump.jsonl", sha256="1")

    assert report.counts == Counts(read=2, accepted=2)
    assert lake.scan("events").collect().equals(parsed.events)


def test_the_first_of_identical_events_stays_and_the_others_are_duplicates(lake, make):
    first, later = (
        make.batch([make.event("a", 1), make.event("a", 1)]),
        make.batch([make.event("a", 1), make.event("b", 2)]),
    )

    report = ingest_batches([first, later], lake, make.now, name="dump.jsonl", sha256="1")

    assert report.counts == Counts(read=4, accepted=2, duplicates=2)
    assert sorted(lake.scan("events").collect()["event_id"]) == ["a", "b"]


def test_in_many_batches_the_first_content_of_an_id_stays(lake, make):
    batches = [
        make.batch([make.event("a", content), make.event(f"other-{content}", content)]) for content in range(1, 9)
    ]

    report = ingest_batches(batches, lake, make.now, name="dump.jsonl", sha256="1")

    assert report.counts == Counts(read=16, accepted=9, quarantined=7)
    kept = lake.scan("events").filter(pl.col("event_id") == "a").collect()
    assert kept.equals(batches[0].events.head(1))


class _LakeOfSmallFiles(Lake):
    """A file of it is full with 20 rows."""

    def staging(self, table: str, *, file_rows: int = 20) -> Staging:
        return super().staging(table, file_rows=file_rows)


def test_how_a_delivery_is_cut_into_batches_and_files_does_not_show(make, tmp_path):
    rows = [make.event(f"event-{number % 30}", number % 40) for number in range(90)]
    whole = Lake(tmp_path / "whole")
    expected = ingest_batches([make.batch(rows)], whole, make.now, name="dump.jsonl", sha256="1")
    lake = _LakeOfSmallFiles(tmp_path / "parts")
    batches = [make.batch(rows[start : start + 7]) for start in range(0, len(rows), 7)]

    report = ingest_batches(batches, lake, make.now, name="dump.jsonl", sha256="1")

    assert report == expected
    assert len(lake.files("events")) > 1
    for table, order in (("events", "event_id"), ("quarantine", "raw")):
        found, one_file = (each.scan(table).collect().sort(order) for each in (lake, whole))
        assert found.equals(one_file)


@pytest.mark.parametrize("at_once", [9, 120])
def test_repeated_ids_of_a_delivery_are_found_a_share_at_a_time(lake, make, at_once):
    names = [f"event-{number}" for number in range(40)]
    arrived = [
        lake.stage("events", make.batch([make.event(name, content) for name in names]).events) for content in (1, 2, 1)
    ]

    with sql.connect() as connection:
        lookup = dedupe.Lookup(connection, "events", arrived, at_once=at_once)
        lookup.judge()
        dropped = [lookup.dropped(file) for file in range(3)]

    assert lookup.heads == 120
    assert [file["is_conflict"].to_list() for file in dropped] == [[], [True] * 40, [False] * 40]


def test_an_id_that_the_lake_has_with_other_content_is_quarantined_as_a_conflict(lake, make):
    ingest_batches([make.batch([make.event("a", 1)])], lake, make.now, name="one.jsonl", sha256="1")

    report = ingest_batches(
        [make.batch([make.event("a", 2), make.event("a", 1)])], lake, make.now, name="two.jsonl", sha256="2"
    )

    assert report.counts == Counts(read=2, quarantined=1, duplicates=1)
    reject = lake.scan("quarantine").collect().row(0, named=True)
    assert (reject["file"], reject["code"], reject["field"]) == ("two.jsonl", "conflict", "event_id")
    assert json.loads(reject["raw"])["item_id"] == "i2-0"
    assert lake.scan("events").collect()["item_id"].to_list() == ["i1-0"]


def test_ids_are_unique_per_kind(lake, make):
    parsed = make.batch(
        [
            make.event("a", 1, kind="event"),
            make.event("a", 2, kind="interaction"),
            make.event("a", 3, kind="ranking", size=2),
        ]
    )

    report = ingest_batches([parsed], lake, make.now, name="dump.jsonl", sha256="1")

    assert report.counts == Counts(read=3, accepted=3)


def test_a_ranking_is_one_event_of_many_rows(lake, make):
    ranking = make.event("r", 1, kind="ranking", size=3)
    parsed = make.batch(
        [ranking, ranking, make.event("r", 2, kind="ranking", size=4), make.event("s", 3, kind="ranking", size=1)]
    )

    report = ingest_batches([parsed], lake, make.now, name="dump.jsonl", sha256="1")

    assert report.counts == Counts(read=4, accepted=2, quarantined=1, duplicates=1)
    assert report.rows == 4
    assert lake.scan("events").collect().select("event_id", "part").rows() == [("r", 1), ("r", 2), ("r", 3), ("s", 1)]
    assert lake.scan("quarantine").collect().height == 1


def test_updates_are_deduplicated_like_events(lake, make):
    ingest_batches([make.batch(updates=[make.update("i", "u1", 1)])], lake, make.now, name="one.jsonl", sha256="1")
    again = make.batch(updates=[make.update("i", "u1", 1), make.update("i", "u1", 2), make.update("i", "u2", 3)])

    report = ingest_batches([again], lake, make.now, name="two.jsonl", sha256="2")

    assert report.counts == Counts(read=3, accepted=1, quarantined=1, duplicates=1)
    assert lake.scan("updates").collect()["event_id"].sort().to_list() == ["u1", "u2"]


def test_a_file_that_was_taken_in_before_is_reported_and_not_parsed_again(lake, make):
    parsed = make.batch([make.event("a", 1)], [make.update("i", "u", 1)], [make.reject(3)], {"colour": 2})
    first = ingest_batches([parsed], lake, make.now, name="dump.jsonl", sha256="1")

    def untouchable() -> Any:
        yield pytest.fail("a known file is not parsed again")

    again = ingest_batches(untouchable(), lake, make.now, name="again.jsonl", sha256="1")

    assert (first.was_known, again.was_known) == (False, True)
    assert again.counts == first.counts == Counts(read=3, accepted=2, quarantined=1)
    assert (again.rows, again.ignored_keys) == (first.rows, first.ignored_keys) == (2, {"colour": 2})
    assert {table: lake.scan(table).collect().height for table in ("events", "updates", "quarantine", "ingests")} == {
        "events": 1,
        "updates": 1,
        "quarantine": 1,
        "ingests": 1,
    }


def test_an_event_that_the_parser_lost_stops_the_file_before_anything_is_committed(lake, make):
    parsed = make.batch([make.event("a", 1)])
    lossy = schema.ParsedBatch(2, parsed.events, parsed.updates, parsed.rejects)

    with pytest.raises(SourceError, match="2 events were read, 1 were parsed"):
        ingest_batches([parsed, lossy], lake, make.now, name="dump.jsonl", sha256="1")

    assert lake.files("events") == []
    assert not list(Path(lake.root).rglob("*.parquet"))


def test_no_staged_file_is_left_over(lake, make):
    ingest_batches([make.batch([make.event("a", 1)])], lake, make.now, name="one.jsonl", sha256="1")
    ingest_batches(
        [make.batch([make.event("a", 1)]), make.batch([make.event("a", 1), make.event("b", 2)])],
        lake,
        make.now,
        name="2",
        sha256="2",
    )

    on_disk = {str(path) for path in Path(lake.root).joinpath("events").glob("*.parquet")}
    assert on_disk == set(lake.files("events"))


class Killed(BaseException):
    """Stands for the end of the process between two commits."""


@pytest.mark.parametrize("commits", range(5))
def test_killed_after_any_commit_a_second_run_completes_the_file(lake, make, commits):
    ingest_batches(
        [make.batch([make.event("old", 1), make.event("taken", 2)])], lake, make.now, name="one.jsonl", sha256="1"
    )
    parsed = make.batch(
        [
            make.event("old", 1),
            make.event("new", 5),
            make.event("new", 5),
            make.event("taken", 9),
            make.event("r", 6, kind="ranking", size=2),
        ],
        [make.update("i", "u", 1)],
        [make.reject(7)],
    )
    dying = _DyingLake(lake.root, commits)
    if commits < 4:
        with pytest.raises(Killed):
            ingest_batches([parsed], dying, make.now, name="two.jsonl", sha256="2")

    report = ingest_batches([parsed], lake, make.now, name="two.jsonl", sha256="2")

    assert report.counts == Counts(read=7, accepted=3, quarantined=2, duplicates=2)
    assert report.rows == 4
    assert sorted(lake.scan("events").collect()["event_id"]) == ["new", "old", "r", "r", "taken"]
    assert lake.scan("updates").collect().height == 1
    assert lake.scan("quarantine").collect()["code"].sort().to_list() == ["conflict", "not_json"]
    assert lake.scan("ingests").collect()["accepted"].sort().to_list() == [2, 3]


class _DyingLake(Lake):
    """Dies in the place of a commit, once it has made as many as it was given."""

    def __init__(self, root: str, commits: int) -> None:
        super().__init__(root)
        self._left = commits

    def commit(self, *arguments: Any, **settings_: Any) -> Any:
        if self._left == 0:
            raise Killed
        self._left -= 1
        return super().commit(*arguments, **settings_)
