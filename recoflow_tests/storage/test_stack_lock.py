"""One stack per data folder; its processes end with it, however it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from recoflow.errors import ConfigurationError
from recoflow.storage import stack_lock
from recoflow.storage.paths import DATA_VARIABLE, Paths

HOLDER = """
import sys, time
from pathlib import Path
from recoflow.storage import stack_lock
from recoflow.storage.paths import Paths
with stack_lock.hold(Paths(Path(sys.argv[1]))) as token:
    print(token, flush=True)
    time.sleep(600)
"""
MEMBER = """
import os, time
from recoflow.storage import stack_lock
stack_lock.join(os.environ)
print("joined", flush=True)
time.sleep(600)
"""
# As Dagster's code server starts a run worker: spawned, without inherited descriptors.
SERVER = """
import multiprocessing, os, time
def work():
    from recoflow import definitions
    try:
        definitions.defs()
    except Exception:
        pass  # no environment lies there
    print(os.getpid(), flush=True)
    time.sleep(600)
if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=work).start()
    time.sleep(600)
"""
SLOW_TO_LEAVE = """
import fcntl, sys, time
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_SH)
print("here", flush=True)
time.sleep(float(sys.argv[2]))
"""


@contextmanager
def process(code: str, *arguments: str, variables: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A Python process that is killed with the block."""
    started = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(variables or {})},
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate(timeout=10)


def first_line(started: subprocess.Popen[str]) -> str:
    assert started.stdout is not None
    return started.stdout.readline().strip()


def member_of(layout: Paths, token: str) -> dict[str, str]:
    return {DATA_VARIABLE: str(layout.root), stack_lock.VARIABLE: token}


@pytest.mark.fault("H8")
def test_a_member_ends_when_its_stack_is_killed(tmp_path: Path) -> None:
    layout = Paths(tmp_path)
    with (
        process(HOLDER, str(tmp_path)) as holder,
        process(MEMBER, variables=member_of(layout, first_line(holder))) as member,
    ):
        assert first_line(member) == "joined"
        assert member.poll() is None
        holder.send_signal(signal.SIGKILL)
        assert member.wait(10) == 1
        assert member.stderr is not None
        assert "`recoflow up` has ended" in member.stderr.read()


@pytest.mark.fault("H8")
def test_a_spawned_run_worker_ends_when_its_stack_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    layout = Paths(tmp_path)
    with process(HOLDER, str(tmp_path)) as holder:
        variables = member_of(layout, first_line(holder))
        with subprocess.Popen(
            [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={**os.environ, **variables}
        ) as server:
            worker = int(first_line(server))
            server.kill()  # the worker is an orphan, and goes on
            os.kill(worker, 0)
            holder.send_signal(signal.SIGKILL)
            assert ended(worker, 10)


def ended(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.fault("H8")
def test_a_process_that_comes_late_to_an_ended_stack_ends_at_once_though_another_stack_is_at_work(
    tmp_path: Path,
) -> None:
    layout = Paths(tmp_path)
    with stack_lock.hold(layout) as first:
        pass
    with (
        stack_lock.hold(layout) as second,
        process(MEMBER, variables=member_of(layout, first)) as late,
        process(MEMBER, variables=member_of(layout, second)) as member,
    ):
        assert late.wait(10) == 1
        assert first_line(late) == ""
        assert first_line(member) == "joined"


@pytest.mark.fault("H8")
def test_a_second_stack_on_a_data_folder_is_refused(tmp_path: Path) -> None:
    with process(HOLDER, str(tmp_path)) as holder:
        first_line(holder)
        with (
            pytest.raises(ConfigurationError, match=r"is in use: `recoflow up` or `recoflow demo` runs on this data"),
            stack_lock.hold(Paths(tmp_path)),
        ):
            pass
    with stack_lock.hold(Paths(tmp_path)):
        pass


@pytest.mark.fault("H8")
def test_the_next_stack_waits_for_the_members_of_the_one_before(tmp_path: Path) -> None:
    layout = Paths(tmp_path)
    layout.members_lock.touch()
    with process(SLOW_TO_LEAVE, str(layout.members_lock), "1.5") as member:
        first_line(member)
        with stack_lock.hold(layout):
            assert member.wait(5) == 0
    with process(SLOW_TO_LEAVE, str(layout.members_lock), "600") as member:
        first_line(member)
        with pytest.raises(ConfigurationError, match="still at work"), stack_lock.hold(layout, leave_seconds=0.3):
            pass


def test_a_process_that_no_stack_started_is_no_member(tmp_path: Path) -> None:
    stack_lock.join({DATA_VARIABLE: str(tmp_path)})
    assert list(tmp_path.iterdir()) == []
