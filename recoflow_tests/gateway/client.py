"""A real gateway process on a free port of loopback, and what a client needs to speak with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import IO, Any

import httpx
import polars as pl

from recoflow.ingest import pending_files
from recoflow.ingest.run import ingest_file
from recoflow.schema import Counts
from recoflow.settings import environment
from recoflow.settings.environment import Environment
from recoflow.storage.lake.lake import Lake
from recoflow.storage.paths import Paths

YAML = """
name: {name}
sftp: {{ username: {name}, private_key: key, known_hosts: known_hosts }}
events: {{ item_types: [article] }}
gateway: {gateway}
"""
TOKENS = {"IPSUM_TOKEN": "ipsum-secret", "DOLOR_TOKEN": "dolor-secret"}


class Running:
    """One gateway process; what it logs goes to `log`, or to the test's own standard error."""

    def __init__(self, layout: Paths, log: IO[bytes] | None = None) -> None:
        self.layout = layout
        command = [sys.executable, "-m", "recoflow.cli", "gateway", "--data", str(layout.root), "--port", "0"]
        variables = {**os.environ, **TOKENS, "COLUMNS": "200"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=variables)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().decode().removeprefix("Gateway ").strip()
        assert self.url.startswith("http://127.0.0.1:"), self.url
        self.client = httpx.Client(base_url=self.url, timeout=20)
        self.admin = httpx.Client(base_url=self.url, timeout=20, headers=self.token())

    def post(self, events: list[Any], name: str = "lorem", **options: Any) -> httpx.Response:
        return self.client.post(f"/api/{name}/events", json={"events": events}, **options)

    def token(self) -> dict[str, str]:
        """The header that opens lorem, as the README's curl lines send it; none when lorem has tokens of its own."""
        path = self.layout.token("lorem")
        return {"Authorization": f"Bearer {path.read_text().strip()}"} if path.exists() else {}

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and give the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end and give the exit code."""
        code = self.process.wait(20)
        self.client.close()
        self.admin.close()
        self.process.stdout.close()
        return code

    def await_sealed(self, name: str = "lorem") -> None:
        """Wait until every segment is complete."""
        deadline = time.monotonic() + 10
        while list(self.layout.spool(name).glob("*.open")):
            assert time.monotonic() < deadline, "not sealed by age"
            time.sleep(0.05)

    def ingest(self, name: str = "lorem") -> Counts:
        """What the sensor's run does with the sealed segments."""
        return ingest_spool(self.layout, name)

    def table(self, table: str, name: str = "lorem") -> pl.DataFrame:
        return Lake(self.layout.lake(name)).scan(table).collect()


def ingest_spool(layout: Paths, name: str = "lorem") -> Counts:
    found = environment.load_environment(layout.environments / f"{name}.yaml")
    total = Counts()
    for arrival in pending_files.segments(layout.spool(name)):
        lake, received_at = Lake(layout.lake(name)), arrival.received_at(datetime.now(UTC))
        total += ingest_file(arrival.path, found, lake, received_at, name=arrival.name, dialect=arrival.dialect).counts
        arrival.path.unlink()
    return total


def write_environment(layout: Paths, name: str, gateway: str = "{}") -> Environment:
    layout.environments.mkdir(parents=True, exist_ok=True)
    path = layout.environments / f"{name}.yaml"
    path.write_text(YAML.format(name=name, gateway=gateway))
    return environment.load_environment(path)


def view(number: int | str = 0, **changes: Any) -> dict[str, Any]:
    """A good event."""
    event = {
        "event_type": "detail_pageview",
        "event_id": f"event-{number}",
        "user_id": "u1",
        "channel": "www",
        "page_type": "article_detail",
        "action_item": "a1",
        "timestamp": "2026-05-01T12:00:00Z",
    }
    return {key: value for key, value in {**event, **changes}.items() if value is not None}
