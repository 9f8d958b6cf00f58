"""An installation at rest: an environment, some events, and Dagster's own folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recoflow.ingest.run import ingest_file
from recoflow.sandbox import keys, sftp_server
from recoflow.settings.environment import Environment
from recoflow.storage.lake.lake import Lake
from recoflow.storage.paths import Paths
from recoflow_tests import scenario

NOW = datetime.now(UTC)


@dataclass
class House:
    """An installation whose SFTP server runs."""

    home: Path
    layout: Paths
    environment: Environment

    @property
    def lake(self) -> Lake:
        return Lake(self.layout.lake("lorem"))


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))  # what others left in the real one is not ours
    home = tmp_path / "home"
    layout = Paths(home / "data")
    layout.environments.mkdir(parents=True)
    shutil.copy(scenario.REPOSITORY / "dagster.yaml", home)
    scenario.write_environment(layout, "lorem")
    from recoflow.settings import environment

    found = environment.load_environment(layout.environments / "lorem.yaml")
    with sftp_server.serve(layout.sftp, keys.prepare(layout.sftp, ("lorem",)), 0) as server:
        layout.sftp_port.write_text(str(server.port))
        made = House(home, layout, found)
        events = home / "lorem_events.jsonl"
        events.write_text("".join(event(number) for number in range(50)))
        ingest_file(events, found, made.lake, NOW)
        yield made


def event(number: int) -> str:
    row = {
        "event_id": f"e{number}",
        "event_type": "page_visit",
        "user_id": f"reader-{number % 7}",
        "page_type": "home",
        "channel": "www-desktop",
        "timestamp": 1_770_000_000_000 + number,
    }
    return json.dumps(row) + "\n"
