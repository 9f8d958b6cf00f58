"""Workers that are killed: the daemon notices, the sensor tries again, each request has one complete response."""

import hashlib
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from recoflow.sandbox import world
from recoflow.server import processes
from recoflow_tests import scenario
from recoflow_tests.scenario import REPOSITORY

NAME = "lorem_weekly_mail_2026-11-22T06:00:00Z.csv"
LISTS = {f"list {number}": 5 for number in range(300)}


@contextmanager
def daemon(root: Path) -> Iterator[processes.ManagedProcess]:
    """The real daemon over the repository's own dagster.yaml and workspace.yaml, with its data under `root`."""
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(REPOSITORY / name, root)
    child = processes.daemon(root / "logs")
    variables = {**os.environ, "DAGSTER_HOME": str(root), "RECOFLOW_DATA": str(root / "data")}
    with processes.running([child], variables, root):
        yield child


def worker(instance: dg.DagsterInstance, job: str, has_begun: Callable[[dg.EventLogEntry], bool]) -> int | None:
    """The process of a run of this job whose log says that it is far enough."""
    for run in instance.get_runs(dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.STARTED])):
        logs = instance.all_logs(run.run_id)
        if any(has_begun(log) for log in logs):
            pids = [re.search(r"pid: (\d+)", log.message) for log in logs]
            return next(int(found[1]) for found in pids if found)
    return None


def is_ranking(log: dg.EventLogEntry) -> bool:
    """A step of a campaign alone."""
    has_started = log.dagster_event is not None and log.dagster_event.is_step_start
    return has_started and "campaign_recommendations" in (log.step_key or "")


def is_publishing(log: dg.EventLogEntry) -> bool:
    """The first campaign of a burst is answered, the others are not."""
    event = log.dagster_event
    return event is not None and event.asset_key is not None and event.asset_key.path[-1] == "campaign_response"


@pytest.mark.fault("F52")
def test_a_killed_worker_leaves_exactly_one_complete_response(
    tmp_path: Path, trained_data: Path, sample: world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # dagster.yaml's folders are relative to it
    with (
        scenario.installed(tmp_path / "data", "lorem", template=trained_data) as made,
        daemon(tmp_path) as child,
        dg.DagsterInstance.from_config(str(tmp_path)) as instance,
    ):
        made.drop_request(world.request(sample, lists=LISTS), NAME)
        processes.await_true(
            lambda: worker(instance, "lorem_campaign", is_ranking) is not None, [child], 90, "the ranking"
        )
        killed = worker(instance, "lorem_campaign", is_ranking)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        assert not list(made.layout.campaigns("lorem").glob("*/staging/manifest.json")), "it had finished ranking"
        processes.await_true(lambda: NAME in made.responses(), [child], 120, "the response")
        time.sleep(2 * made.environment("lorem").schedules.poll_seconds)  # nothing follows
        statuses = [run.status for run in instance.get_runs(dg.RunsFilter(job_name="lorem_campaign"))]
        assert statuses == [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
        assert made.responses() == [NAME, f"{NAME}.manifest.json"]
        manifest = json.loads(made.fetch(f"{NAME}.manifest.json"))
        assert manifest["counts"]["answered"] == len(LISTS) * len(sample.users)
        assert manifest["response_sha256"] == hashlib.sha256(made.fetch(NAME).encode()).hexdigest()


@pytest.mark.fault("F52")
def test_a_burst_whose_worker_is_killed_half_way_answers_each_file_once(
    tmp_path: Path, trained_data: Path, sample: world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"lorem_mail_{number}_2026-11-22.csv" for number in range(12)]
    with scenario.installed(tmp_path / "data", "lorem", template=trained_data) as made:
        made.drop_requests({name: world.request(sample, sample.users[:20]) for name in names})
        with daemon(tmp_path) as child, dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            processes.await_true(
                lambda: worker(instance, "lorem_campaign_batch", is_publishing) is not None,
                [child],
                90,
                "the first response",
            )
            killed = worker(instance, "lorem_campaign_batch", is_publishing)
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            assert not set(names) <= set(made.responses()), "it had answered all"
            processes.await_true(lambda: set(names) <= set(made.responses()), [child], 180, "the responses")
            manifests = [json.loads(made.fetch(f"{name}.manifest.json")) for name in names]
            digests = [hashlib.sha256(made.fetch(name).encode()).hexdigest() for name in names]
            assert [manifest["response_sha256"] for manifest in manifests] == digests
            lake = made.definitions.resources["installation"].lake(made.environment("lorem"))
            # The last one is noted behind its publication, what the killed worker had published by another run.
            processes.await_true(
                lambda: lake.scan("responses").collect()["campaign_id"].n_unique() == len(names),
                [child],
                60,
                "the rows",
            )
            noted = lake.scan("responses").collect().group_by("campaign_id").len()
            assert sorted(noted["campaign_id"]) == sorted(manifest["campaign_id"] for manifest in manifests)
            assert noted["len"].unique().to_list() == [manifests[0]["rows"]]
