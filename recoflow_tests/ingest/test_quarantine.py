from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from recoflow.errors import SourceError
from recoflow.ingest import quarantine
from recoflow.ingest.quarantine import Replay, Selection
from recoflow.ingest.run import ingest_batches, ingest_file
from recoflow.settings.environment import Environment
from recoflow.settings.sections import Events, Sftp
from recoflow.storage.lake.lake import Lake

SFTP = Sftp(username="lorem", private_key=Path("key"), known_hosts=Path("known_hosts"))
STRICT = Environment(name="lorem", sftp=SFTP)
LENIENT = Environment(name="lorem", sftp=SFTP, events=Events(channels=("kiosk",)))
HEADER = "event_type,user_id,timestamp,page_type,channel,referrer"


def _event(number: int, **fields: object) -> str:
    event = {"event_type": "page_visit", "page_type": "home", "user_id": "ann", "timestamp": 1_772_300_000 + number}
    return json.dumps(event | fields, ensure_ascii=False)


def _drop(folder: Path, lines: list[str], name: str = "events.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_listing_filters_by_file_code_field_and_time(lake, make):
    for name, line in (("a.jsonl", 1), ("b.jsonl", 2)):
        reject = make.reject(line) | {"file": name, "code": f"code_{line}", "field": f"field_{line}"}
        ingest_batches([make.batch(rejects=[reject])], lake, make.now, name=name, sha256=name)

    assert quarantine.listing(lake)["file"].to_list() == ["a.jsonl", "b.jsonl"]
    assert quarantine.listing(lake, Selection(file="b.jsonl"))["line"].to_list() == [2]
    assert quarantine.listing(lake, Selection(code="code_1"))["line"].to_list() == [1]
    assert quarantine.listing(lake, Selection(field="field_2"))["line"].to_list() == [2]
    assert quarantine.listing(lake, Selection(since=make.now)).height == 2
    assert quarantine.listing(lake, Selection(file="a.jsonl", code="code_2")).is_empty()
    assert quarantine.listing(lake, limit=1)["file"].to_list() == ["a.jsonl"]


def test_reasons_are_counted_the_most_frequent_first(lake, tmp_path, make):
    path = _drop(tmp_path, ["{", _event(1, channel="fax"), _event(2, channel="fax")])
    ingest_file(path, STRICT, lake, make.now)

    assert quarantine.by_code(lake).rows() == [
        ("unknown_channel", "channel", 2, 1, make.now),
        ("json_truncated", None, 1, 1, make.now),
    ]
    assert quarantine.by_code(lake, Selection(field="channel"))["code"].to_list() == ["unknown_channel"]


def test_the_export_has_each_raw_text_on_one_line(tmp_path):
    rejects = pl.DataFrame({"file": ["a.jsonl", "segment", "b.csv"], "raw": ['{"a":\r\n 1}', "no json", 'x,"a\nb"']})

    quarantine.export_quarantine(rejects, tmp_path / "mend.jsonl")

    assert (tmp_path / "mend.jsonl").read_bytes() == b'{"a":   1}\nno json\nx,"a\nb"\n'


def test_a_mended_export_is_taken_in_like_any_file(lake, make, tmp_path):
    ingest_file(_drop(tmp_path, [_event(1, channel="fax"), _event(2)]), STRICT, lake, make.now)
    mended = tmp_path / "mended.jsonl"

    quarantine.export_quarantine(quarantine.listing(lake), mended)
    mended.write_text(mended.read_text().replace("fax", "www"))

    assert ingest_file(mended, STRICT, lake, make.now).counts.accepted == 1


def test_replay_moves_what_passes_now_to_the_lake_and_leaves_the_rest(lake, make, tmp_path):
    odd = _event(1, channel="kiosk", referrer="it's \\ é")
    path = _drop(tmp_path, [odd, _event(2, channel="nowhere"), '{"event_type": ', _event(3)])
    assert ingest_file(path, STRICT, lake, make.now).counts.quarantined == 3

    before = quarantine.replay(lake, STRICT)
    after = quarantine.replay(lake, LENIENT)

    assert before == Replay(tried=2, accepted=0, duplicates=0, conflicts=0, without_header=0)
    assert after == Replay(tried=2, accepted=1, duplicates=0, conflicts=0, without_header=0)
    assert sorted(lake.scan("events").collect()["channel"].to_list(), key=str) == [None, "kiosk"]
    assert quarantine.listing(lake)["line"].to_list() == [2, 3]
    assert quarantine.replay(lake, LENIENT).accepted == 0


def test_a_file_that_was_refused_as_a_whole_can_be_replayed(lake, make, tmp_path):
    path = _drop(tmp_path, [_event(1, channel="kiosk"), _event(2, channel="kiosk")])
    ingest_file(path, STRICT, lake, make.now)

    assert quarantine.replay(lake, LENIENT).accepted == 2
    assert lake.scan("events").collect().height == 2
    assert quarantine.listing(lake).is_empty()


def test_replay_tries_what_is_selected_only(lake, make, tmp_path):
    ingest_file(_drop(tmp_path, [_event(1, channel="kiosk")], "a.jsonl"), STRICT, lake, make.now)
    ingest_file(_drop(tmp_path, [_event(2, channel="kiosk")], "b.jsonl"), STRICT, lake, make.now)

    assert quarantine.replay(lake, LENIENT, Selection(file="b.jsonl")).tried == 1
    assert quarantine.listing(lake)["file"].to_list() == ["a.jsonl"]


def test_an_event_that_was_refused_twice_counts_once(lake, make, tmp_path):
    ingest_file(_drop(tmp_path, [_event(1, channel="kiosk")] * 2, "a.jsonl"), STRICT, lake, make.now)
    ingest_file(_drop(tmp_path, [_event(1, channel="kiosk")], "b.jsonl"), STRICT, lake, make.now)

    found = quarantine.replay(lake, LENIENT)

    assert (found.accepted, found.duplicates, found.left) == (1, 2, 0)
    assert lake.scan("events").collect().height == 1


def test_replay_leaves_conflicts(lake, make, tmp_path):
    path = _drop(tmp_path, [_event(1, event_id="x"), _event(2, event_id="x")])
    ingest_file(path, STRICT, lake, make.now)

    assert quarantine.replay(lake, STRICT).tried == 0
    assert quarantine.listing(lake)["code"].to_list() == ["conflict"]


def test_a_replayed_event_whose_id_is_taken_stays_as_a_conflict(lake, make, tmp_path):
    path = _drop(tmp_path, [_event(1, event_id="x", channel="kiosk"), _event(2, event_id="x")])
    ingest_file(path, STRICT, lake, make.now)

    found = quarantine.replay(lake, LENIENT)

    assert (found.tried, found.accepted, found.conflicts, found.left) == (1, 0, 1, 1)
    assert quarantine.listing(lake)["code"].to_list() == ["conflict"]


def test_a_replay_that_was_cut_off_before_the_quarantine_was_emptied_is_completed(lake, make, tmp_path, monkeypatch):
    ingest_file(_drop(tmp_path, [_event(1, channel="kiosk"), "{"]), STRICT, lake, make.now)

    stage = Lake.stage

    def cut_off(self, table, frame):
        if table == "quarantine":
            raise KeyboardInterrupt
        return stage(self, table, frame)

    with monkeypatch.context() as patched:
        patched.setattr(Lake, "stage", cut_off)
        with pytest.raises(KeyboardInterrupt):
            quarantine.replay(lake, LENIENT)
    assert quarantine.listing(lake).height == 2
    assert lake.scan("events").collect().height == 1

    assert quarantine.replay(lake, LENIENT).left == 0
    assert quarantine.listing(lake)["code"].to_list() == ["json_truncated"]
    assert lake.scan("events").collect().height == 1


def test_what_others_add_or_erase_during_a_replay_is_kept_that_way(lake, make, tmp_path, monkeypatch):
    ingest_file(_drop(tmp_path, [_event(1, channel="kiosk"), _event(2, channel="fax")]), STRICT, lake, make.now)
    stage = Lake.stage

    def stage_late(self, table, frame):
        if table == "quarantine":
            monkeypatch.undo()
            late = make.batch(rejects=[make.reject(7)])
            ingest_batches([late], lake, make.now, name="late.jsonl", sha256="late")
            lake.delete("quarantine", "line = 2")
        return stage(self, table, frame)

    monkeypatch.setattr(Lake, "stage", stage_late)
    quarantine.replay(lake, LENIENT)

    assert quarantine.listing(lake)["line"].to_list() == [7]


CSV_ROWS = [
    "page_visit,ann,1772300001,home,kiosk,",
    'page_visit,ann,1772300002,home,nowhere,"two\nlines"',
    'page_visit,ann,1772300003,home,kiosk,"two\nlines"',
    "page_visit,ann,1772300004,home",
    'page_visit,ann,1772300005,home,kiosk,"open',
    "page_visit,ann,1772300006,home,kiosk,",
]


def test_rows_of_csv_are_replayed_with_their_header(lake, make, tmp_path):
    ingest_file(_drop(tmp_path, [HEADER, *CSV_ROWS], "events.csv"), STRICT, lake, make.now)
    assert quarantine.listing(lake).height == 6

    assert quarantine.replay(lake, LENIENT) == Replay(0, 0, 0, 0, without_header=4)
    found = quarantine.replay(lake, LENIENT, Selection(file="events.csv"), header=HEADER)

    assert found == Replay(tried=4, accepted=3, duplicates=0, conflicts=0, without_header=0)
    assert lake.scan("events").collect()["referrer"].drop_nulls().to_list() == ["two\nlines"]
    assert quarantine.listing(lake)["code"].to_list() == ["unknown_channel", "wrong_field_count", "bad_quoting"]


def test_a_wrong_header_is_an_error_that_changes_nothing(lake, make, tmp_path):
    ingest_file(_drop(tmp_path, [HEADER, *CSV_ROWS], "events.csv"), STRICT, lake, make.now)

    with pytest.raises(SourceError, match="columns"):
        quarantine.replay(lake, LENIENT, header="a,b,c,d,e,f")
    assert quarantine.listing(lake).height == 6
