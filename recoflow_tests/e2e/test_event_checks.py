"""Checks of events and interactions, readiness and retention in real Dagster runs."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import yaml

from recoflow.event_quality import event_checks, interaction_checks
from recoflow_tests.scenario import Scenario, failed_checks, materializations


def check_again(made: Scenario) -> dict[str, dg.AssetCheckEvaluation]:
    """The ingest job once more, with nothing new in it."""
    result = made.run("lorem_ingest")
    assert result.success
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def change(made: Scenario, section: str, **settings: object) -> None:
    path = made.layout.environments / "lorem.yaml"
    text = yaml.safe_load(path.read_text())
    text[section] = text.get(section, {}) | settings
    path.write_text(yaml.safe_dump(text))
    made.reload()


def test_an_ingest_judges_events_and_interactions_and_tells_what_is_ready(trained: Scenario) -> None:
    result = trained.run("lorem_ingest")
    assert result.success
    made = {check.check_name for check in result.get_asset_check_evaluations()}
    assert made >= {*event_checks.CHECKS, *interaction_checks.CHECKS}
    assert failed_checks(result) == set()
    shown = materializations(result)["readiness"]
    assert shown["ready_before_placements"]
    assert shown["event_types_seen"] == shown["event_types_known"] == 15
    assert "| must, for live placements | click_on_recommendation | ready |" in str(shown["readiness"])


def test_thresholds_are_the_environments_and_a_failed_check_warns_with_examples(trained: Scenario) -> None:
    change(trained, "quality", max_unattributed_share=0.0, click_seconds=0.001)
    found = check_again(trained)
    clicks = found["clicks_without_preceding_impression"]
    assert not clicks.passed
    assert clicks.severity is dg.AssetCheckSeverity.WARN
    assert clicks.metadata["limit"].value == 0.0
    assert len(clicks.metadata["examples"].value) == 5
    assert "Send an impression" in clicks.description


def test_the_retention_job_removes_rows_past_their_tables_days(trained: Scenario, tmp_path: Path) -> None:
    change(trained, "retention", events=10)
    lake = trained.definitions.resources["installation"].lake(trained.environment("lorem"))
    before = lake.scan("events").collect()
    assert trained.run("lorem_retention").success
    after = lake.scan("events").collect()
    assert 0 < after.height < before.height
    assert after["timestamp"].min() > datetime.now(UTC) - timedelta(days=10, minutes=5)
    assert lake.scan("updates").collect().height > 0
