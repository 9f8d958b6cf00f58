"""Real processes that ingest at once, and real kills; files go through the real parsers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from recoflow import schema

CHILD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from recoflow.settings.environment import Environment
from recoflow.settings.sections import Sftp
from recoflow.ingest.run import ingest_file
from recoflow.storage.lake.lake import Lake

root, gate, *paths = map(Path, sys.argv[1:])
environment = Environment(name="lorem", sftp=Sftp(username="lorem", private_key="key", known_hosts="hosts"))
print("ready", flush=True)
while not gate.exists():
    pass
for path in paths:
    counts = ingest_file(path, environment, Lake(root), datetime(2026, 3, 1, tzinfo=UTC)).counts
    print(counts.read, counts.accepted, counts.quarantined, counts.duplicates, flush=True)
"""


def _write(path: Path, numbers: range, content: int = 0) -> Path:
    events = (
        {
            "event_type": "page_visit",
            "page_type": "home",
            "user_id": f"u{content}",
            "event_id": f"e{number}",
            "timestamp": 1_772_000_000 + number,
        }
        for number in numbers
    )
    path.write_text("\n".join(map(json.dumps, events)))
    return path


def _start(root: str, gate: Path, *paths: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, root, str(gate), *map(str, paths)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"POLARS_MAX_THREADS": "2"},
    )


def _open(gate: Path, *children: subprocess.Popen[str]) -> None:
    """Let all go at once, when all are ready."""
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    gate.touch()


def _counts(child: subprocess.Popen[str]) -> list[schema.Counts]:
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    return [schema.Counts(*map(int, line.split())) for line in out.splitlines()]


def test_processes_that_ingest_at_once_count_every_event_once(lake, tmp_path):
    # Each worker has its own 40 events, the 40 that all have, and an id that all claim with other content.
    gate = tmp_path / "gate"
    children = []
    for worker in range(3):
        own = [
            _write(
                tmp_path / f"{worker}-{part}.jsonl", range(1000 * worker + 20 * part, 1000 * worker + 20 * part + 20)
            )
            for part in (5, 6)
        ]
        shared = _write(tmp_path / f"{worker}-shared.jsonl", range(40 + worker))
        claimed = _write(tmp_path / f"{worker}-claimed.jsonl", range(99_999, 100_000), content=worker)
        children.append(_start(lake.root, gate, shared, claimed, *own))
    _open(gate, *children)
    reports = [count for child in children for count in _counts(child)]

    ids = Counter(lake.scan("events").collect()["event_id"])
    assert set(ids.values()) == {1}
    assert len(ids) == 42 + 1 + 3 * 40
    total = sum(reports, schema.Counts())
    assert total == schema.Counts(read=40 + 41 + 42 + 3 + 120, accepted=len(ids), quarantined=2, duplicates=40 + 41)


def test_the_same_file_in_two_processes_at_once_is_one_delivery(lake, tmp_path):
    gate = tmp_path / "gate"
    path = _write(tmp_path / "events.jsonl", range(500))
    children = [_start(lake.root, gate, path) for _ in range(2)]
    _open(gate, *children)

    assert [_counts(child) for child in children] == [[schema.Counts(read=500, accepted=500)]] * 2
    assert lake.scan("events").collect()["event_id"].n_unique() == 500
    assert lake.scan("events").collect().height == 500
    assert lake.scan("ingests").collect().height == 1


@pytest.mark.parametrize("delay", [0.03, 0.1])
def test_a_killed_ingest_leaves_nothing_doubled_or_lost(lake, tmp_path, delay):
    gate = tmp_path / "gate"
    paths = [_write(tmp_path / f"{part}.jsonl", range(300 * part, 300 * part + 400)) for part in range(6)]
    child = _start(lake.root, gate, *paths)
    _open(gate, child)
    time.sleep(delay)
    child.kill()
    child.communicate(timeout=60)

    second = _start(lake.root, gate, *paths)
    _open(gate, second)
    reports = _counts(second)

    assert sum(reports, schema.Counts()) == schema.Counts(read=2400, accepted=1900, duplicates=500)
    assert lake.scan("events").collect().height == lake.scan("events").collect()["event_id"].n_unique() == 1900


def test_an_ingest_imports_nothing_that_it_does_not_need(lake, tmp_path):
    heavy = {"pandas", "pyarrow.compute", "scipy.linalg"}  # each costs a process of its own 0.1 s and more
    gate = tmp_path / "gate"
    gate.touch()
    told = f"{CHILD}\nassert 'numba' in sys.modules and not {heavy!r} & sys.modules.keys()"
    path = _write(tmp_path / "large.jsonl", range(2000))
    subprocess.run([sys.executable, "-c", told, lake.root, str(gate), str(path)], check=True, timeout=60)
