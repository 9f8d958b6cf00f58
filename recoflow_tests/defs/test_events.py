"""What the assets of events show in the UI."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from recoflow.storage import atomic_files
from recoflow_tests import scenario

SAMPLE = Path(__file__).parents[2] / "data/sample"
EVENT = {
    "event_type": "page_visit",
    "user_id": "ann",
    "page_type": "home",
    "channel": "www-desktop",
    "timestamp": 1_770_000_000_000,
}


def test_the_quarantine_shows_how_often_each_reason_occurs_and_the_latest_refusals(tmp_path: Path) -> None:
    with scenario.installed(tmp_path / "data", "lorem") as made:
        inbox = made.layout.inbox("lorem")
        inbox.mkdir(parents=True)
        for path in SAMPLE.glob("lorem_events_*.jsonl"):
            shutil.copy(path, inbox)
        shown = scenario.materializations(made.run("lorem_ingest"))["quarantine"]

    assert shown["dagster/row_count"] == 7
    codes, latest = str(shown["codes"]).splitlines(), str(shown["latest"]).splitlines()
    assert codes[0] == "| code | field | events | files | latest |"
    assert len(codes) == 2 + 7
    assert latest[0] == "| received_at | file | line | field | code |"
    assert len(latest) == 2 + 7


def test_a_file_that_is_written_to_during_a_run_stays_in_the_inbox_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = atomic_files.sha256

    def hashed_while_it_grows(path: Path) -> str:
        found = sha256(path)
        with path.open("a") as file:
            file.write(json.dumps(EVENT | {"event_id": "late"}))
        os.utime(path, (0, 0))
        return found

    with scenario.installed(tmp_path / "data", "lorem") as made:
        inbox = made.layout.inbox("lorem")
        inbox.mkdir(parents=True)
        (inbox / "events.jsonl").write_text(json.dumps(EVENT | {"event_id": "early"}) + "\n")
        os.utime(inbox / "events.jsonl", (1, 1))
        with monkeypatch.context() as patched:
            patched.setattr(atomic_files, "sha256", hashed_while_it_grows)
            first = scenario.materializations(made.run("lorem_ingest"))["events"]
        waiting = [path.name for path in inbox.iterdir()]
        second = scenario.materializations(made.run("lorem_ingest"))["events"]

    assert (first["read"], waiting) == (0, ["events.jsonl"])
    assert (second["read"], second["accepted"]) == (2, 2)
