"""What people type about files and the quarantine, run as they run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recoflow.ingest.run import ingest_file
from recoflow.settings import environment
from recoflow.storage.lake.lake import Lake

REPOSITORY = Path(__file__).parents[2]
SAMPLE = sorted((REPOSITORY / "data/sample").glob("lorem_[eip]*_*"))
ITEMS = next(path for path in SAMPLE if "items" in path.name)
EVENTS = next(path for path in SAMPLE if "events" in path.name)


def recoflow(data: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "COLUMNS": "200", "RECOFLOW_DATA": str(data)}
    command = [sys.executable, "-m", "recoflow.cli", *map(str, arguments)]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "environments").mkdir()
    sample = REPOSITORY / "data/environments/lorem.yaml"
    (tmp_path / "environments/lorem.yaml").write_text(sample.read_text())
    return tmp_path


def test_validate_prints_one_json_object_and_exits_with_1_when_something_is_refused(data: Path) -> None:
    shown = recoflow(data, "validate", EVENTS, "--environment", "lorem", "--json")

    assert (shown.returncode, shown.stderr) == (1, "")
    told = json.loads(shown.stdout)
    assert list(told) == ["read", "accepted", "quarantined", "duplicates", "rejects"]
    assert told["read"] == told["accepted"] + told["quarantined"] + told["duplicates"]
    assert len(told["rejects"]) == told["quarantined"]
    assert list(told["rejects"][0]) == ["file", "line", "field", "code", "message"]


def test_validate_exits_with_0_when_nothing_is_refused(data: Path) -> None:
    shown = recoflow(data, "validate", ITEMS, "--environment", "lorem")

    assert (shown.returncode, shown.stderr) == (0, "")
    assert ITEMS.name in shown.stdout


@pytest.mark.parametrize("case", ["no such environment", "no such file", "damaged"])
def test_validate_exits_with_2_and_says_why_when_it_could_not_run(data: Path, case: str) -> None:
    path, name = EVENTS, "lorem"
    if case == "no such environment":
        name = "ipsum"
    else:
        path = data / "events.jsonl.gz"
    if case == "damaged":
        path.write_bytes(b"\x1f\x8b")
    shown = recoflow(data, "validate", path, "--environment", name, "--json")

    assert (shown.returncode, shown.stdout) == (2, "")
    assert ("ipsum.yaml" if name == "ipsum" else "events.jsonl.gz") in shown.stderr
    assert "Traceback" not in shown.stderr


def test_profile_tells_what_is_missing_and_exits_with_1(data: Path) -> None:
    shown = recoflow(data, "profile", ITEMS)

    assert shown.returncode == 1
    assert "page_visit: missing" in shown.stderr
    assert "must, before placements" in shown.stdout


def test_profile_prints_one_json_object_and_exits_with_0_when_all_musts_are_there(data: Path) -> None:
    shown = recoflow(data, "profile", *SAMPLE, "--environment", "lorem", "--json")

    assert (shown.returncode, shown.stderr) == (0, "")
    told = json.loads(shown.stdout)
    assert told["accepted"] == 230
    assert {each["name"] for each in told["verdicts"] if not each["is_possible"]} == {
        "collaborative_filtering",
        "conversion",
    }


def test_profile_refuses_to_require_what_it_does_not_know(data: Path) -> None:
    shown = recoflow(data, "profile", ITEMS, "--require", "newst")

    assert (shown.returncode, shown.stdout) == (2, "")
    assert "Did you mean 'newest'?" in shown.stderr


def test_refused_events_are_listed_exported_and_replayed(data: Path) -> None:
    path = data / "lorem_events.jsonl"
    event = {"event_type": "page_visit", "user_id": "ann", "timestamp": 1_772_000_000, "page_type": "home"}
    path.write_text("\n".join(json.dumps(event | {"channel": channel}) for channel in ("kiosk", "fax", "www")))
    settings = data / "environments/lorem.yaml"
    lake = Lake(data / "lake/lorem")
    ingest_file(path, environment.load_environment(settings), lake, datetime(2026, 3, 1, tzinfo=UTC))
    settings.write_text(settings.read_text().replace("events:\n", "events:\n  channels: [kiosk]\n", 1))

    listed = recoflow(data, "quarantine", "list", "-e", "lorem", "--field", "channel")
    exported = recoflow(data, "quarantine", "export", data / "mend.jsonl", "-e", "lorem")
    replayed = recoflow(data, "quarantine", "replay", "-e", "lorem", "--code", "unknown_channel")
    left = recoflow(data, "quarantine", "list", "-e", "lorem", "--json")

    assert f"{path.name}:2 unknown_channel" in listed.stdout
    assert exported.returncode == 0
    assert (data / "mend.jsonl").read_text().count("\n") == 2
    assert "2 tried: 1 accepted" in replayed.stdout
    assert [reject["line"] for reject in json.loads(left.stdout)["rejects"]] == [2]
    assert lake.scan("events").collect().height == 2
