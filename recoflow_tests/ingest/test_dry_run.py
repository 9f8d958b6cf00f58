from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recoflow.errors import SourceError
from recoflow.ingest import dry_run
from recoflow.ingest.run import ingest_file
from recoflow.schema import Counts
from recoflow.settings.environment import Environment
from recoflow.settings.sections import Sftp
from recoflow.storage.lake.lake import Lake

LOREM = Environment(name="lorem", sftp=Sftp(username="lorem", private_key=Path("key"), known_hosts=Path("known_hosts")))
SAMPLE = sorted((Path(__file__).parents[2] / "data/sample").glob("lorem_events_*.jsonl"))


def _event(number: int, **fields: object) -> str:
    event = {"event_type": "page_visit", "page_type": "home", "user_id": "ann", "timestamp": 1_772_300_000 + number}
    return json.dumps(event | fields)


def _file(folder: Path, name: str, lines: list[str]) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines))
    return path


def test_duplicates_and_conflicts_within_and_between_files_are_counted(tmp_path, make):
    first = _file(tmp_path, "a.jsonl", [_event(1), _event(1), _event(2, event_id="x"), _event(3, event_id="x")])
    second = _file(tmp_path, "b.jsonl", [_event(1), _event(4, event_id="x"), _event(5), "{"])

    found = dry_run.dry_run([first, second], LOREM, make.now)

    assert [report.counts for report in found.reports] == [Counts(4, 2, 1, 1), Counts(4, 1, 2, 1)]
    assert found.counts == Counts(8, 3, 3, 2)
    assert found.rejects.select("file", "line", "field", "code").rows() == [
        ("a.jsonl", 4, "event_id", "conflict"),
        ("b.jsonl", 2, "event_id", "conflict"),
        ("b.jsonl", 4, None, "json_truncated"),
    ]


def test_the_json_form_has_the_counts_and_every_reject(tmp_path, make):
    path = _file(tmp_path, "a.jsonl", [_event(1), _event(2, channel="fax")])

    told = dry_run.dry_run([path], LOREM, make.now).as_json()

    (reject,) = told.pop("rejects")
    assert told == {"read": 2, "accepted": 1, "quarantined": 1, "duplicates": 0}
    assert list(reject) == ["file", "line", "field", "code", "message"]
    assert (reject["file"], reject["line"], reject["code"]) == ("a.jsonl", 2, "unknown_channel")


def test_a_file_given_twice_is_read_twice_and_accepted_once(tmp_path, make):
    path = _file(tmp_path, "a.jsonl", [_event(1), _event(2), "{"])

    assert dry_run.dry_run([path, path], LOREM, make.now).counts == Counts(6, 2, 2, 2)


def test_files_of_one_name_are_told_apart_by_their_paths(tmp_path, make):
    paths = [_file(tmp_path / folder, "a.jsonl", ["{"]) for folder in ("one", "two")]

    assert dry_run.dry_run(paths, LOREM, make.now).rejects["file"].to_list() == [str(path) for path in paths]


def test_a_folder_named_items_does_not_change_what_its_files_are(tmp_path, make):
    row = {"item_id": "p1", "item_type": "product", "user_id": "ann", "timestamp": 1_772_300_000}
    path = _file(tmp_path / "items", "lorem_purchases.jsonl", [json.dumps(row)])
    twin = _file(tmp_path / "b", "lorem_purchases.jsonl", [json.dumps(row)])

    with dry_run.trial([path, twin], LOREM, make.now) as made:
        assert made.lake.scan("events").collect()["event_type"].to_list() == ["purchase"]
        assert made.counts == Counts(read=2, accepted=1, duplicates=1)


def test_nothing_is_kept(tmp_path, make):
    with dry_run.trial([_file(tmp_path, "a.jsonl", [_event(1)])], LOREM, make.now) as made:
        folder = Path(made.lake.root)
        assert folder.exists()
    assert not folder.exists()


def test_an_unreadable_file_is_an_error_and_not_a_count(tmp_path, make):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\x1f\x8b no gzip")

    with pytest.raises(SourceError, match=r"a\.jsonl"):
        dry_run.dry_run([path], LOREM, make.now)


def test_every_batch_passes_the_watcher(tmp_path, make):
    seen = []

    def watch(path, batches):
        for batch in batches:
            seen.append((path.name, batch.read))
            yield batch

    paths = [_file(tmp_path, "a.jsonl", [_event(1)]), _file(tmp_path, "b.jsonl", [_event(1), "{"])]
    dry_run.dry_run(paths, LOREM, make.now, watch=watch)

    assert seen == [("a.jsonl", 1), ("b.jsonl", 2)]


LINES = [
    _event(1),
    _event(2),
    _event(1, event_id="x"),
    _event(3, event_id="x"),
    _event(4, channel="fax"),
    '{"a":}',
    '"text"',
]


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mix=st.lists(st.lists(st.sampled_from(LINES), min_size=1, max_size=6), min_size=1, max_size=2, unique_by=tuple))
def test_any_files_count_as_their_ingest_does(tmp_path_factory, make, mix):
    folder = tmp_path_factory.mktemp("mix")
    paths = [_file(folder, f"{place}.jsonl", lines) for place, lines in enumerate(mix)]
    lake = Lake(folder / "lake")

    found = dry_run.dry_run(paths, LOREM, make.now)

    assert found.counts.read == sum(map(len, mix))
    assert [each.counts for each in found.reports] == [ingest_file(p, LOREM, lake, make.now).counts for p in paths]
    columns = ["file", "line", "code"]
    kept = lake.scan("quarantine").collect().select(columns).sort(columns, nulls_last=True)
    assert found.rejects.select(columns).sort(columns, nulls_last=True).equals(kept)


def test_the_committed_sample_counts_as_its_readme_says(make):
    found = dry_run.dry_run(SAMPLE, LOREM, make.now.replace(month=12))

    assert found.counts == Counts(read=207, accepted=199, quarantined=7, duplicates=1)
