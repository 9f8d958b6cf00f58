"""Runs are deleted after their retention with everything that they left, and nothing that is needed goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef

from recoflow.defs import names, retention
from recoflow.settings.environment import Environment
from recoflow.settings.sections import Sftp

LOREM = Environment(name="lorem", sftp=Sftp(username="lorem", private_key=Path("key"), known_hosts=Path("hosts")))
STORAGE = {"custom": {"module": "recoflow.defs.run_storage", "class": "RunStorage"}}


@dg.asset
def first() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"note": "seen"})


@pytest.fixture
def instance(tmp_path: Path) -> dg.DagsterInstance:
    storage = {"custom": STORAGE["custom"] | {"config": {"base_dir": str(tmp_path / "storage")}}}
    settings = {"storage": storage, "telemetry": {"enabled": False}}
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path), overrides=settings))


def run(instance: dg.DagsterInstance, environment: str) -> str:
    return dg.materialize([first], instance=instance, tags={names.ENVIRONMENT_TAG: environment}).run_id


@pytest.mark.fault("M15")
def test_old_runs_go_with_their_events_and_the_latest_materialization_stays(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    with instance:
        old, foreign, latest = run(instance, "lorem"), run(instance, "ipsum"), run(instance, "lorem")
        now = datetime.now(UTC)
        assert retention.delete_runs(instance, LOREM, now - timedelta(days=1)) == 0
        assert retention.delete_runs(instance, LOREM, now + timedelta(minutes=1)) == 1
        assert {each.run_id for each in instance.get_runs()} == {foreign, latest}
        assert not list(tmp_path.rglob(f"{old}*"))
        event = instance.get_latest_materialization_event(first.key)
        assert event is not None
        assert event.run_id == latest
        assert instance.all_logs(latest)
