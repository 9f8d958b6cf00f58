"""Services that end are started again, later each time, and each end is reported once."""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from recoflow.errors import RecoflowError
from recoflow.server import processes
from recoflow.server.processes import ManagedProcess, ServiceError
from recoflow.server.supervision import Supervisor


@dataclass
class Ground:
    """A service, a supervisor on it, and a clock that stands."""

    folder: Path
    service: ManagedProcess
    time: float = 0.0
    reports: list[str] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    refusal: str = ""

    def __post_init__(self) -> None:
        self.service.start(os.environ, self.folder)
        self.supervisor = Supervisor([self.service], self.start, self.report, lambda: self.time)

    def start(self, service: ManagedProcess) -> None:
        self.starts.append(self.time)
        if self.refusal:
            raise ServiceError(service.name, self.refusal, "Free it")
        service.start(os.environ, self.folder)

    def report(self, error: RecoflowError) -> None:
        self.reports.append(str(error))

    def kill(self) -> None:
        assert self.service.process is not None
        self.service.process.send_signal(signal.SIGKILL)
        self.service.process.wait(10)

    def pass_seconds(self, seconds: int) -> None:
        for _ in range(seconds):
            self.time += 1
            self.supervisor.look()


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    sleeper = ManagedProcess(
        "sleeper", (sys.executable, "-c", "import time; time.sleep(600)"), tmp_path / "sleeper.log"
    )
    made = Ground(tmp_path, sleeper)
    yield made
    made.service.wait(0)


@pytest.mark.fault("H8")
def test_a_killed_service_is_named_with_exit_code_and_log_and_runs_again_after_a_second(ground: Ground) -> None:
    ground.kill()
    ground.supervisor.look()
    assert ground.starts == []
    ground.pass_seconds(3)
    assert ground.starts == [1]
    assert ground.service.exit_code is None
    (report,) = ground.reports
    assert report == f"sleeper: stopped with exit code -9 and starts again in 1 s. See {ground.service.log}"


@pytest.mark.fault("H8")
def test_each_wait_is_twice_the_one_before_and_a_minute_at_most(ground: Ground) -> None:
    waits = []
    for _ in range(8):
        ground.kill()
        ground.supervisor.look()
        killed = ground.time
        ground.pass_seconds(61)
        waits.append(ground.starts[-1] - killed)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_after_five_minutes_of_life_the_wait_is_a_second_again(ground: Ground) -> None:
    for _ in range(4):
        ground.kill()
        ground.pass_seconds(20)
    ground.pass_seconds(300)
    ground.kill()
    ground.supervisor.look()
    assert "starts again in 1 s" in ground.reports[-1]


@pytest.mark.fault("H8")
def test_a_start_that_fails_is_reported_and_tried_again(ground: Ground) -> None:
    ground.refusal = "cannot be started: [Errno 28] No space left on device"
    ground.kill()
    ground.pass_seconds(4)
    assert ground.reports[1:] == ["sleeper: cannot be started: [Errno 28] No space left on device. Free it"] * 2
    ground.refusal = ""
    ground.pass_seconds(4)
    assert ground.service.exit_code is None


@pytest.mark.fault("H8")
def test_what_a_dead_service_had_started_is_ended_before_it_starts_again(tmp_path: Path) -> None:
    # The child writes its process id, and outlives its parent.
    started = "subprocess.Popen(['sleep', '600']).pid"
    code = f"import subprocess, time; print({started}, flush=True); time.sleep(600)"
    parent = ManagedProcess("parent", (sys.executable, "-c", code), tmp_path / "log")
    ground = Ground(tmp_path, parent)
    processes.await_true(lambda: parent.log.read_text().endswith("\n"), [parent], 30, "the child")
    child = int(parent.log.read_text())
    ground.kill()
    os.kill(child, 0)
    ground.supervisor.look()
    processes.await_true(lambda: not _lives(child), [], 10, "its end")


def _lives(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
