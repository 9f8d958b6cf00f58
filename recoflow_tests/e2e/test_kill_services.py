"""Processes of a running installation that are killed, one kind after the other: each recovers without a person.

Code server and daemon run as `recoflow up` starts them; a killed one is started again, as its supervisor does.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import yaml

from recoflow.defs.workers import WORKER_TAG, started
from recoflow.models.store import versions
from recoflow.sandbox import world
from recoflow.server import processes
from recoflow.server.processes import ManagedProcess
from recoflow.storage.lake.lake import Lake
from recoflow.storage.sftp.claims import State
from recoflow.storage.sftp.ledger import Ledger
from recoflow_tests import scenario
from recoflow_tests.scenario import REPOSITORY, Scenario

RECOVERY = 180.0  # seconds from a kill to the end of what was interrupted
START = 120.0
NAMES = [f"lorem_mail_{number}_2026-11-22.csv" for number in range(3)]
LISTS = {f"list {number}": 5 for number in range(100)}
ACTIVE = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


@dataclass
class Installation:
    """What runs, and how it is killed and started again."""

    made: Scenario
    instance: dg.DagsterInstance
    code: ManagedProcess
    daemon: ManagedProcess
    variables: dict[str, str]
    root: Path

    def await_true(self, condition: Callable[[], bool], what: str, seconds: float = RECOVERY) -> None:
        processes.await_true(condition, [self.code, self.daemon], seconds, what, pause=0.05)

    def worker(self, job: str, step: str) -> int:
        """The process of a run of a job, as soon as it has begun a step."""
        found: list[int] = []

        def has_begun() -> bool:
            for run in self.instance.get_runs(dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.STARTED])):
                logs = self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)
                if WORKER_TAG in run.tags and any(step in (log.step_key or "") for log in logs):
                    found.append(int(run.tags[WORKER_TAG].partition("-")[0]))
            return bool(found)

        self.await_true(has_begun, f"{step} of {job}")
        return found[0]

    def kill_worker(self, job: str, step: str) -> None:
        os.kill(self.worker(job, step), signal.SIGKILL)

    def kill_group(self, service: ManagedProcess) -> None:
        """With the code server go its workers, which are of its group."""
        assert service.process is not None
        os.killpg(service.process.pid, signal.SIGKILL)
        service.process.wait()

    def start(self, *killed: ManagedProcess) -> None:
        for service in killed:
            service.start(self.variables, self.root)

    def statuses(self, job: str) -> list[str]:
        """Of the runs of a job, the oldest first."""
        return [run.status.value for run in self.instance.get_runs(dg.RunsFilter(job_name=job))][::-1]


@contextmanager
def running(root: Path, made: Scenario) -> Iterator[Installation]:
    shutil.copy(REPOSITORY / "dagster.yaml", root)
    logs, address, workspace = root / "logs", root / "code", root / "workspace.yaml"
    server = {"socket": str(address), "location_name": processes.LOCATION}
    workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
    code, daemon = processes.code_server(address, logs), processes.daemon(logs, workspace)
    variables = {**os.environ, "DAGSTER_HOME": str(root), "RECOFLOW_DATA": str(root / "data")}
    variables["DAGSTER_GRPC_SHUTDOWN_GRACE_PERIOD"] = "1"
    with processes.running([code], variables, root):
        processes.await_socket(address, [code], START)
        with processes.running([daemon], variables, root), dg.DagsterInstance.from_config(str(root)) as instance:
            yield Installation(made, instance, code, daemon, variables, root)


def drop_files(made: Scenario, files: list[Path]) -> None:
    """Move copies of files into the local inbox, each whole."""
    folder = made.layout.inbox("lorem")
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(files):
        shutil.copy(path, folder / f".{path.name}")
        (folder / f".{path.name}").rename(folder / path.name)


@pytest.mark.fault("C1", "C2", "F52")
def test_each_kind_of_process_is_killed_once_and_nothing_is_lost_doubled_or_stuck(
    tmp_path: Path, sample: world.World, sample_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # dagster.yaml's folders are relative to it
    with scenario.installed(tmp_path / "data", "lorem") as made, running(tmp_path, made) as up:
        lake = made.definitions.resources["installation"].lake(made.environment("lorem"))

        def count() -> int:
            return 0 if lake.version("events") is None else lake.scan("events").collect().height

        def answers(name: str) -> Callable[[], bool]:
            return lambda: name in made.responses()

        # the worker of an ingest: it holds the slot of its pool
        first, *later = sorted(sample_files.glob("*events*"))
        drop_files(made, [*sample_files.glob("*items*"), *sample_files.glob("*purchases*"), first])
        up.kill_worker("lorem_ingest", "ingest")
        up.await_true(lambda: lake.version("interactions") is not None, "interactions")
        assert up.statuses("lorem_ingest")[0] == "FAILURE"

        # the worker of a training
        up.kill_worker("lorem_training", "factors")
        up.await_true(lambda: versions.is_serving(made.layout.models("lorem")), "the champion")
        assert up.statuses("lorem_training")[0] == "FAILURE"

        # the code server with its workers, during an ingest: nothing is left that knows of the run
        drop_files(made, later)
        up.worker("lorem_ingest", "ingest")
        up.kill_group(up.code)
        up.start(up.code)
        up.await_true(lambda: count() == sample.expected.accepted, "the events")

        # the code server, during a campaign
        made.drop_request(world.request(sample, lists=LISTS), NAMES[0])
        up.worker("lorem_campaign", "campaign_recommendations")
        up.kill_group(up.code)
        up.start(up.code)
        up.await_true(answers(NAMES[0]), NAMES[0])

        # the daemon alone: the worker goes on
        made.drop_request(world.request(sample, lists=LISTS), NAMES[1])
        up.worker("lorem_campaign", "campaign_recommendations")
        up.kill_group(up.daemon)
        up.start(up.daemon)
        up.await_true(answers(NAMES[1]), NAMES[1])

        # everything at once
        made.drop_request(world.request(sample, lists=LISTS), NAMES[2])
        up.worker("lorem_campaign", "campaign_recommendations")
        up.kill_group(up.daemon)
        up.kill_group(up.code)
        up.start(up.code)
        processes.await_socket(tmp_path / "code", [up.code], START)
        up.start(up.daemon)
        up.await_true(answers(NAMES[2]), NAMES[2])

        closing(up, lake)
        assert count() == sample.expected.accepted
        assert made.alerts()


def closing(up: Installation, lake: Lake) -> None:
    """Every request is answered exactly once, no slot is held, and no run is left without a process."""
    manifests = [f"{name}.manifest.json" for name in NAMES]
    assert up.made.responses() == sorted([*NAMES, *manifests])
    with Ledger(up.made.layout.mailbox("lorem") / "ledger.sqlite") as ledger:
        assert [claim.state for claim in ledger.named("requests", NAMES[0].encode())] == [State.PUBLISHED]
        assert ledger.pending() == []
    rows = [len(list(csv.reader(io.StringIO(up.made.fetch(name))))) - 1 for name in NAMES]

    def are_noted() -> bool:
        noted = lake.scan("responses").collect().group_by("campaign_id").len()
        return sorted(noted["len"]) == sorted(rows)

    up.await_true(are_noted, "the rows of the responses", 60)
    up.await_true(lambda: not up.instance.get_runs(dg.RunsFilter(statuses=ACTIVE)), "the end of all runs", 120)
    up.await_true(lambda: not up.instance.event_log_storage.get_concurrency_run_ids(), "the slots", 60)
    tagged = [run.tags[WORKER_TAG] for run in up.instance.get_runs() if WORKER_TAG in run.tags]

    def are_gone() -> bool:
        workers = (worker.partition("-") for worker in tagged)
        return not any(started(int(pid)) == since for pid, _, since in workers)

    up.await_true(are_gone, "the end of all workers", 30)
