"""Run workers: which process executes a run, and whether it is still there (`run_launcher` in dagster.yaml).

Dagster's own launcher cannot check a worker: where the code server died together with its workers, their runs would
stay STARTED for hours, and with them the pool slots and the request files that they hold. This launcher lets Dagster's
run monitoring report such a run as failed.

A worker is known by its process id and by when that process started, as the kernel reports it: a number that no change
of the wall clock moves, and that differs for another process that has the same id. The launcher tags a run with the
boot id before the worker exists, the `installation` resource with the process as soon as the worker executes. In
between, Dagster's own engine event has the process id.

Dagster checks no run in STARTING: `start_timeout_seconds` in dagster.yaml ends it. A sensor calls `end_lost_starts`,
which ends it at once where it is known that no worker will start it. A worker that reads its definitions later than
that finds its run failed and ends.
"""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, LaunchRunContext, WorkerStatus

from recoflow.storage.sftp.clock import SystemClock

BOOT_TAG: Final = "recoflow/boot"
WORKER_TAG: Final = "recoflow/worker"
PROC: Final = Path("/proc")
DEAD: Final = frozenset("ZX")  # states of a process that has ended and is not collected yet
STATE, START_TIME = 0, 19  # fields of /proc/<pid>/stat behind the name, see proc_pid_stat(5)


class Launcher(DefaultRunLauncher):
    """Starts runs as Dagster's launcher does, and can tell whether a run's worker is still there."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the worker of a run."""
        self._instance.add_run_tags(context.dagster_run.run_id, {BOOT_TAG: SystemClock().boot_id()})
        super().launch_run(context)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring asks for each run in STARTED."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the worker of a run is there; one of which nothing is known counts as there."""
        problem = _absence(run.tags, _worker(self._instance, run))
        if problem is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, problem)


def lost_runs(instance: dg.DagsterInstance, *statuses: dg.DagsterRunStatus) -> Iterator[tuple[dg.DagsterRun, str]]:
    """Runs in one of the statuses whose worker has ended, each with what is known of its end."""
    for run in instance.get_runs(dg.RunsFilter(statuses=list(statuses))):
        if reason := _ended(instance, run):
            yield run, reason


def end_lost_starts(instance: dg.DagsterInstance, server_start: float | None) -> None:
    """Fail the runs in STARTING that cannot start: their worker has ended, or the code server that was to start it.

    Args:
        instance: of Dagster.
        server_start: when the present code server started, in seconds since 1970; None where that is not known.
    """
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING])):
        if reason := _ended(instance, run) or _never_begun(instance, run, server_start):
            instance.report_run_failed(run, f"The run was launched, but {reason}")


def _ended(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    """Why a run's worker is not there any more, None when it is or may be."""
    launcher = instance.run_launcher
    if not launcher.supports_check_run_worker_health:
        return None
    health = launcher.check_run_worker_health(run)
    now = instance.get_run_by_id(run.run_id)  # the worker may have done its work and ended since
    is_lost = health.status is WorkerStatus.NOT_FOUND and now is not None and now.status is run.status
    return health.msg if is_lost else None


def _never_begun(instance: dg.DagsterInstance, run: dg.DagsterRun, server_start: float | None) -> str | None:
    """Why a run has no worker: it was launched in an earlier code server, whose workers ended with it."""
    if server_start is None or not isinstance(instance.run_launcher, Launcher):
        return None
    launched = instance.get_run_stats(run.run_id).launch_time
    is_earlier = launched is not None and launched < server_start
    return "its code server has ended" if is_earlier and not _worker(instance, run) else None


def process_start() -> float | None:
    """When this process started, in seconds since 1970; None where there is no /proc."""
    if not PROC.exists():
        return None
    clock = SystemClock()
    age = clock.boot() - int(started(os.getpid()) or 0) / os.sysconf("SC_CLK_TCK")
    return clock.wall() - age


def sign(instance: dg.DagsterInstance, run_id: str) -> None:
    """Tag a run with this process, which executes it."""
    pid = os.getpid()
    instance.add_run_tags(run_id, {WORKER_TAG: f"{pid}-{started(pid)}"})


def started(pid: int) -> str | None:
    """When a process started: equal as long as it is the same process. None when there is none.

    On Linux clock ticks since the boot; elsewhere, where there is no /proc, what `ps` prints.
    """
    if not PROC.exists():
        command = ("ps", "-o", "stat=,lstart=", "-p", str(pid))
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
        state, _, since = shown.stdout.strip().partition(" ")
        return None if not state or state[0] in DEAD else re.sub(r"\W+", ".", since.strip())
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[STATE] in DEAD else fields[START_TIME]


def _absence(tags: Mapping[str, str], worker: str) -> str | None:
    """Why a worker cannot be there any more, None when it is or may be."""
    if (boot := tags.get(BOOT_TAG)) is not None and boot != SystemClock().boot_id():
        return "the machine was started again since"
    pid, _, since = worker.partition("-")
    if not pid:
        return None
    found = started(int(pid))
    if found is None:
        return f"its worker, process {pid}, has ended"
    if since and since != found:
        return f"its worker, process {pid}, has ended, and another process has that id now"
    return None


def _worker(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """What is known of a run's worker, "" when nothing is."""
    return run.tags.get(WORKER_TAG) or _reported(instance, run.run_id)


def _reported(instance: dg.DagsterInstance, run_id: str) -> str:
    """The process of Dagster's engine event `Started process for run`, "" when there is none."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        pid = event.engine_event_data.metadata.get("pid") if event is not None else None
        if pid is not None:
            return str(pid.value)
    return ""
