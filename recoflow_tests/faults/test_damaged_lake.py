"""A damaged lake under real runs: derived tables are built again, others are named, and nothing that waits is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from recoflow.storage.lake.lake import Lake
from recoflow_tests import scenario
from recoflow_tests.scenario import Scenario

SAMPLE = Path(__file__).parents[2] / "data/sample"
DERIVED = ("items", "identity", "interactions")


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Scenario]:
    """An installation that took the sample's events in."""
    with scenario.installed(tmp_path / "data", "lorem") as installed:
        inbox = installed.layout.inbox("lorem")
        inbox.mkdir(parents=True)
        for path in SAMPLE.glob("lorem_events_*.jsonl"):
            shutil.copy(path, inbox)
        assert installed.run("lorem_ingest").success
        yield installed


def lake(made: Scenario) -> Lake:
    return Lake(made.layout.lake("lorem"))


def failures(result: dg.ExecuteInProcessResult) -> str:
    return " ".join(str(event.event_specific_data) for event in result.all_events if event.is_failure)


@pytest.mark.fault("M17")
def test_derived_tables_with_cut_files_are_built_again_by_the_next_ingest(made: Scenario) -> None:
    before = {table: lake(made).scan(table).collect().height for table in DERIVED}
    for table in DERIVED:
        for file in lake(made).files(table):
            Path(file).write_bytes(Path(file).read_bytes()[:-4])
    assert made.run("lorem_ingest").success
    assert {table: lake(made).scan(table).collect().height for table in DERIVED} == before


@pytest.mark.fault("M17")
def test_a_derived_table_whose_log_is_damaged_is_named_and_heals_when_its_folder_is_removed(made: Scenario) -> None:
    entry = made.layout.lake("lorem") / "items" / "_delta_log" / f"{0:020}.json"
    entry.write_text("{")
    broken = made.run("lorem_ingest")
    assert not broken.success
    assert str(entry) in failures(broken)
    assert f"Remove this folder, {entry.parent.parent}" in failures(broken)
    shutil.rmtree(entry.parent.parent)
    assert made.run("lorem_ingest").success
    assert lake(made).version("items") is not None


@pytest.mark.fault("M17")
def test_damaged_events_stop_the_ingest_by_name_and_nothing_that_waits_is_lost(made: Scenario) -> None:
    file = Path(lake(made).files("events")[0])
    whole = file.read_bytes()
    file.write_bytes(whole[:-4])
    waiting = made.layout.inbox("lorem") / "late_events.jsonl"
    shutil.copy(next(SAMPLE.glob("lorem_events_*.jsonl")), waiting)
    waiting.write_text(waiting.read_text().replace('"channel"', ' "channel"'))
    broken = made.run("lorem_ingest")
    assert not broken.success
    assert str(file) in failures(broken)
    assert "recoflow restore" in failures(broken)
    assert waiting.exists()
    file.write_bytes(whole)
    assert made.run("lorem_ingest").success
    assert not waiting.exists()
