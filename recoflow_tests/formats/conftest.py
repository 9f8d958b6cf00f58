from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recoflow import schema
from recoflow.formats import batch_builder, files, froomle
from recoflow.formats.read_limits import LIMITS, ReadLimits
from recoflow.schema import ParsedBatch
from recoflow.settings import sections
from recoflow.settings.environment import Environment

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)
SFTP = {"username": "lorem", "private_key": "key", "known_hosts": "hosts"}

ReadBytes = Callable[..., ParsedBatch]
Deliver = Callable[[dict[str, Any]], ParsedBatch]


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def environment() -> Environment:
    """One item type, so that action_item_type has a default."""
    events = {
        "item_types": ["article"],
        "channels": ["kiosk"],
        "page_types": ["quiz"],
        "metarank_types": {"like": "add_to_cart"},
    }
    return Environment.model_validate({"name": "lorem", "sftp": SFTP, "events": events})


@pytest.fixture
def without_default(environment: Environment) -> Environment:
    return environment.model_copy(update={"events": sections.Events()})


@pytest.fixture
def limits() -> ReadLimits:
    """With what `read_bytes` reads; a test that is parametrized with `limits` replaces them."""
    return LIMITS


@pytest.fixture
def read_bytes(tmp_path: Path, environment: Environment, limits: ReadLimits) -> ReadBytes:
    """Write bytes to a file and read it; all batches as one, checked against the contract that every event counts."""

    def read(name: str, data: bytes, *, of: Environment = environment, limits: ReadLimits = limits) -> ParsedBatch:
        path = tmp_path / name
        path.write_bytes(data)
        batches = list(files.read_events(path, of, NOW, limits=limits))
        empty = batch_builder.BatchBuilder(batch_builder.ParseContext(of, name, NOW)).batch()
        found = batch_builder.merge([empty, *batches])
        assert found.events.schema == schema.EVENTS
        assert found.updates.schema == schema.UPDATES
        assert found.rejects.schema == schema.REJECTS
        accepted = found.events.select("kind", pl.col("event_id")).with_columns(pl.col("event_id")).height
        parts = found.events.filter(pl.col("part") > 1).height
        assert found.read == accepted - parts + found.updates.height + found.rejects.height
        return found

    return read


@pytest.fixture(params=["jsonl", "csv", "api", "jsonl by columns", "csv by columns"])
def deliver(request: pytest.FixtureRequest, read_bytes: ReadBytes, environment: Environment) -> Deliver:
    """Send one Froomle event by each way in; values that CSV cannot hold are left to the JSON ways."""
    way, _, path = request.param.partition(" ")
    limits = ReadLimits(exact_bytes=0) if path else LIMITS

    def send(event: dict[str, Any], *, of: Environment = environment) -> ParsedBatch:
        if way == "api":
            return froomle.from_api(json.dumps({"events": [event]}).encode(), of, NOW)
        if way == "jsonl":
            return read_bytes("lorem_events.jsonl", json.dumps(event).encode(), of=of, limits=limits)
        if not all(isinstance(value, str | int | float) and not isinstance(value, bool) for value in event.values()):
            pytest.skip("CSV has texts only")
        text = io.StringIO()
        writer = csv.DictWriter(text, event.keys())
        writer.writeheader()
        writer.writerow(event)
        return read_bytes("lorem_events.csv", text.getvalue().encode(), of=of, limits=limits)

    return send
