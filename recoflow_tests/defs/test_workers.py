"""Whether a run's worker is still there, with real processes that are really killed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus

from recoflow.defs import workers
from recoflow.defs.resources import Installation
from recoflow.storage.sftp.clock import SystemClock
from recoflow_tests.scenario import REPOSITORY

RUN_STARTING = dg.DagsterEventType.RUN_STARTING.value
NO_PROCESS = 2**22  # one more than the largest process id of Linux
SLEEPER = (sys.executable, "-c", "import time; time.sleep(60)")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(
        overrides={"run_launcher": {"module": "recoflow.defs.workers", "class": "Launcher"}}
    ) as made:
        yield made


@pytest.fixture
def launcher(instance: dg.DagsterInstance) -> workers.Launcher:
    assert isinstance(instance.run_launcher, workers.Launcher)
    return instance.run_launcher


def status(launcher: workers.Launcher, **tags: str) -> WorkerStatus:
    named = {f"recoflow/{name}": value for name, value in tags.items()}
    return launcher.check_run_worker_health(dg.DagsterRun(job_name="lorem_ingest", tags=named)).status


def test_a_worker_is_there_until_it_is_killed(launcher: workers.Launcher) -> None:
    with subprocess.Popen(SLEEPER) as process:
        worker = f"{process.pid}-{workers.started(process.pid)}"
        assert status(launcher, worker=worker) is WorkerStatus.RUNNING
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is dead, and not collected yet
        assert status(launcher, worker=worker) is WorkerStatus.NOT_FOUND
    assert status(launcher, worker=worker) is WorkerStatus.NOT_FOUND


def test_another_process_with_the_id_of_a_worker_is_not_the_worker(launcher: workers.Launcher) -> None:
    assert status(launcher, worker=f"{os.getpid()}-{workers.started(os.getpid())}") is WorkerStatus.RUNNING
    assert status(launcher, worker=f"{os.getpid()}-1") is WorkerStatus.NOT_FOUND


def test_no_worker_survives_a_start_of_the_machine(launcher: workers.Launcher) -> None:
    here = f"{os.getpid()}-{workers.started(os.getpid())}"
    assert status(launcher, worker=here, boot=SystemClock().boot_id()) is WorkerStatus.RUNNING
    assert status(launcher, worker=here, boot="5f1f7d3e-another-boot") is WorkerStatus.NOT_FOUND
    assert status(launcher, boot="5f1f7d3e-another-boot") is WorkerStatus.NOT_FOUND


def test_a_worker_of_which_nothing_is_known_counts_as_there(launcher: workers.Launcher) -> None:
    assert status(launcher) is WorkerStatus.RUNNING


@pytest.fixture
def starting(instance: dg.DagsterInstance) -> Callable[[int], str]:
    """Adds a run in STARTING whose worker Dagster has reported."""

    def added(pid: int) -> str:
        run = instance.add_run(dg.DagsterRun(job_name="lorem_ingest", status=dg.DagsterRunStatus.STARTING))
        instance.report_engine_event("Started process for run", run, EngineEventData.in_process(pid))
        return run.run_id

    return added


def test_before_it_is_tagged_a_worker_is_known_by_dagsters_event(
    instance: dg.DagsterInstance, launcher: workers.Launcher, starting: Callable[[int], str]
) -> None:
    for pid, expected in ((os.getpid(), WorkerStatus.RUNNING), (NO_PROCESS, WorkerStatus.NOT_FOUND)):
        run = instance.get_run_by_id(starting(pid))
        assert run is not None
        assert launcher.check_run_worker_health(run).status is expected


@pytest.mark.fault("C1")
def test_a_run_whose_worker_died_before_it_started_is_ended_and_no_other(
    instance: dg.DagsterInstance, starting: Callable[[int], str]
) -> None:
    alive, dead = starting(os.getpid()), starting(NO_PROCESS)
    unknown = instance.add_run(dg.DagsterRun(job_name="lorem_ingest", status=dg.DagsterRunStatus.STARTING)).run_id
    workers.end_lost_starts(instance, server_start=None)
    found = {run.run_id: run.status.value for run in instance.get_runs()}
    assert found == {alive: "STARTING", dead: "FAILURE", unknown: "STARTING"}
    (failure,) = instance.all_logs(dead, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert f"process {NO_PROCESS}, has ended" in failure.message


@pytest.mark.fault("C1")
def test_a_run_launched_in_an_earlier_code_server_is_ended_unless_its_worker_runs(
    instance: dg.DagsterInstance, starting: Callable[[int], str]
) -> None:
    alive = starting(os.getpid())
    never = instance.add_run(dg.DagsterRun(job_name="lorem_ingest", status=dg.DagsterRunStatus.STARTING)).run_id
    for run_id in (alive, never):
        run = instance.get_run_by_id(run_id)
        assert run is not None
        instance.report_dagster_event(dg.DagsterEvent(RUN_STARTING, run.job_name), run_id)
    workers.end_lost_starts(instance, server_start=time.time() - 60)
    assert {run.status.value for run in instance.get_runs()} == {"STARTING"}
    workers.end_lost_starts(instance, server_start=time.time() + 1)
    assert {run.run_id: run.status.value for run in instance.get_runs()} == {alive: "STARTING", never: "FAILURE"}


@pytest.mark.skipif(not workers.PROC.exists(), reason="Linux")
def test_the_start_of_a_process_is_known() -> None:
    before = time.time()
    shown = subprocess.run(
        [sys.executable, "-c", "from recoflow.defs import workers; print(workers.process_start())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert before - 0.1 <= float(shown.stdout) <= time.time()


def test_a_run_of_any_job_is_tagged_with_its_process(tmp_path: Path) -> None:
    @dg.op
    def look(context: dg.OpExecutionContext, installation: Installation) -> None:
        assert installation.data == str(tmp_path)

    @dg.job(resource_defs={"installation": Installation(data=str(tmp_path))})
    def job() -> None:
        look()

    with dg.instance_for_test() as instance:
        run_id = job.execute_in_process(instance=instance).run_id
        run = instance.get_run_by_id(run_id)
        assert run is not None
        assert run.tags["recoflow/worker"] == f"{os.getpid()}-{workers.started(os.getpid())}"


def test_the_instance_uses_the_launcher_and_frees_slots() -> None:
    settings = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text())
    assert settings["run_launcher"] == {"module": "recoflow.defs.workers", "class": "Launcher"}
    monitoring = settings["run_monitoring"]
    assert (monitoring["free_slots_after_run_end_seconds"], monitoring["poll_interval_seconds"]) == (10, 10)
