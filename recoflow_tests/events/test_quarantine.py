from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from recoflow.environment import Environment, Events, Sftp
from recoflow.events import quarantine
from recoflow.events.ingest import ingest_batches, ingest_file

SFTP = Sftp(username="lorem", private_key=Path("key"), known_hosts=Path("known_hosts"))
STRICT = Environment(name="lorem", sftp=SFTP)
LENIENT = Environment(name="lorem", sftp=SFTP, events=Events(channels=("kiosk",)))


def _event(number: int, **fields: object) -> str:
    event = {"event_type": "page_visit", "page_type": "home", "user_id": "ann", "timestamp": 1_772_300_000 + number}
    return json.dumps(event | fields, ensure_ascii=False)


def _drop(folder: Path, lines: list[str]) -> Path:
    path = folder / "events.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_listing_filters_by_file_code_and_time(lake, make):
    for name, line in (("a.jsonl", 1), ("b.jsonl", 2)):
        reject = make.reject(line) | {"file": name, "code": f"code_{line}"}
        ingest_batches([make.batch(rejects=[reject])], lake, make.now, name=name, sha256=name)

    assert quarantine.listing(lake)["file"].to_list() == ["a.jsonl", "b.jsonl"]
    assert quarantine.listing(lake, file="b.jsonl")["line"].to_list() == [2]
    assert quarantine.listing(lake, code="code_1")["line"].to_list() == [1]
    assert quarantine.listing(lake, since=make.now).height == 2


def test_the_export_has_each_raw_text_on_one_line(lake, make, tmp_path):
    rejects = pl.DataFrame({"raw": ['{"a":\r\n 1}', "no json"]})

    quarantine.export(rejects, tmp_path / "mend.jsonl")

    assert (tmp_path / "mend.jsonl").read_text() == '{"a":   1}\nno json\n'


def test_replay_moves_what_passes_now_to_the_lake_and_leaves_the_rest(lake, make, tmp_path):
    odd = _event(1, channel="kiosk", referrer="it's \\ é")
    path = _drop(tmp_path, [odd, _event(2, channel="nowhere"), '{"event_type": ', _event(3)])
    assert ingest_file(path, STRICT, lake, make.now).counts.quarantined == 3

    before = quarantine.replay(lake, STRICT)
    after = quarantine.replay(lake, LENIENT)

    assert (before.tried, before.passed) == (2, 0)
    assert (after.tried, after.passed) == (2, 1)
    assert sorted(lake.scan("events").collect()["channel"].to_list(), key=str) == [None, "kiosk"]
    assert quarantine.listing(lake)["code"].sort().to_list() != []
    assert quarantine.listing(lake).height == 2
    assert quarantine.replay(lake, LENIENT).passed == 0


def test_replay_leaves_conflicts(lake, make, tmp_path):
    path = _drop(tmp_path, [_event(1, event_id="x"), _event(2, event_id="x")])
    ingest_file(path, STRICT, lake, make.now)

    assert quarantine.replay(lake, STRICT).tried == 0
    assert quarantine.listing(lake)["code"].to_list() == ["conflict"]
