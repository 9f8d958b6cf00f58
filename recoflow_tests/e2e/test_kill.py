"""A worker that is killed while it ranks: the daemon notices, the sensor tries again, one complete response appears."""

import hashlib
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from recoflow.sandbox import services, world
from recoflow_tests import scenario
from recoflow_tests.scenario import REPOSITORY

NAME = "lorem_weekly_mail_2026-11-22T06:00:00Z.csv"
LISTS = {f"list {number}": 5 for number in range(300)}


@contextmanager
def daemon(root: Path) -> Iterator[services.Service]:
    """The real daemon over the repository's own dagster.yaml and workspace.yaml, with its data under `root`."""
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(REPOSITORY / name, root)
    child = services.daemon(root / "logs")
    variables = {**os.environ, "DAGSTER_HOME": str(root), "RECOFLOW_DATA": str(root / "data")}
    with services.running([child], variables, root):
        yield child


def worker(instance: dg.DagsterInstance) -> int | None:
    """The process that is ranking now."""
    for run in instance.get_runs(dg.RunsFilter(job_name="lorem_campaign", statuses=[dg.DagsterRunStatus.STARTED])):
        logs = instance.all_logs(run.run_id)
        started = [log for log in logs if log.dagster_event and log.dagster_event.is_step_start]
        if any("campaign_recommendations" in (log.step_key or "") for log in started):
            pids = [re.search(r"pid: (\d+)", log.message) for log in logs]
            return next(int(found[1]) for found in pids if found)
    return None


def test_a_killed_worker_leaves_exactly_one_complete_response(
    tmp_path: Path, trained_data: Path, sample: world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # dagster.yaml's folders are relative to it
    with scenario.installed(tmp_path / "data", "lorem", template=trained_data) as made, daemon(tmp_path) as child:
        instance = dg.DagsterInstance.from_config(str(tmp_path))
        made.drop_request(world.request(sample, lists=LISTS), NAME)
        services.await_true(lambda: worker(instance) is not None, [child], 90, "the ranking")
        killed = worker(instance)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        assert not list(made.layout.campaigns("lorem").glob("*/staging/manifest.json")), "it had finished ranking"
        services.await_true(lambda: NAME in made.responses(), [child], 120, "the response")
        time.sleep(2 * made.environment("lorem").schedules.poll_seconds)  # nothing follows
        statuses = [run.status for run in instance.get_runs(dg.RunsFilter(job_name="lorem_campaign"))]
        assert statuses == [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
        assert made.responses() == [NAME, NAME.replace(".csv", ".manifest.json")]
        manifest = json.loads(made.fetch(NAME.replace(".csv", ".manifest.json")))
        assert manifest["counts"]["answered"] == len(LISTS) * len(sample.users)
        assert manifest["response_sha256"] == hashlib.sha256(made.fetch(NAME).encode()).hexdigest()
