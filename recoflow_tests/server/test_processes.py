"""Child processes are started, watched and stopped; a taken port is told and another one used."""

import os
import socket
import sys
import time
from pathlib import Path

import pytest

from recoflow.errors import ConfigurationError
from recoflow.server import processes, stack
from recoflow.server.processes import ManagedProcess, ServiceError
from recoflow.storage import stack_lock
from recoflow.storage.paths import Paths
from recoflow_tests import scenario

WAITS = "import time; print('up', flush=True); time.sleep(60)"


def python(code: str, log: Path) -> ManagedProcess:
    return ManagedProcess("child", (sys.executable, "-c", code), log)


def test_a_taken_port_gives_another_one_and_is_told() -> None:
    told: list[str] = []
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        port = stack.choose_port(taken, "the SFTP server", told.append)
    assert port != taken
    assert told == [f"Port {taken} is taken: the SFTP server listens on {port} instead."]


def test_a_free_port_is_the_one_that_was_wished() -> None:
    wished = processes.free_port(0)
    assert processes.free_port(wished) == wished


def test_an_installation_that_runs_already_is_not_started_a_second_time(tmp_path: Path) -> None:
    (tmp_path / "workspace.yaml").touch()
    layout = Paths(tmp_path / "data")
    layout.environments.mkdir(parents=True)
    told: list[str] = []
    with pytest.raises(ConfigurationError, match="has no environment"), stack.up(tmp_path, layout, told.append):
        pass
    scenario.write_environment(layout, "lorem")
    with (
        stack_lock.hold(layout),
        pytest.raises(ConfigurationError, match="is in use: `recoflow up` or `recoflow demo` runs on this data folder"),
        stack.up(tmp_path, layout, told.append),
    ):
        pass
    assert told == []


def test_services_are_stopped_when_the_block_ends(tmp_path: Path) -> None:
    child = python(WAITS, tmp_path / "log")
    with processes.running([child], os.environ, tmp_path):
        processes.await_true(lambda: "up" in child.log.read_text(), [child], 30, "the child")
    assert child.process is not None
    assert child.process.poll() is not None


def test_a_service_that_ignores_the_interrupt_is_ended(tmp_path: Path) -> None:
    child = python(f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {WAITS}", tmp_path / "log")
    started = time.monotonic()
    with processes.running([child], os.environ, tmp_path, stop_seconds=0.2):
        processes.await_true(lambda: "up" in child.log.read_text(), [child], 30, "the child")
    assert child.process is not None
    assert child.process.returncode == -9
    assert time.monotonic() - started < 30


def test_a_service_that_ends_by_itself_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    child = python("raise SystemExit('no disk left')", tmp_path / "log")
    with processes.running([child], os.environ, tmp_path), pytest.raises(ServiceError, match="no disk left"):
        processes.await_true(lambda: False, [child], 30, "never")


def test_waiting_has_an_end(tmp_path: Path) -> None:
    child = python(WAITS, tmp_path / "log")
    with processes.running([child], os.environ, tmp_path), pytest.raises(ServiceError, match="did not come within 0 s"):
        processes.await_true(lambda: False, [child], 0.1, "the miracle")


def test_a_restarted_service_is_another_process(tmp_path: Path) -> None:
    child = python(WAITS, tmp_path / "log")
    with processes.running([child], os.environ, tmp_path):
        processes.await_true(lambda: child.log.read_text().splitlines().count("up") == 1, [child], 30, "the child")
        first = child.process
        child.restart(os.environ, tmp_path)
        processes.await_true(
            lambda: child.log.read_text().splitlines().count("up") == 2, [child], 30, "the child again"
        )
        assert first is not None
        assert first.poll() is not None
    assert child.process is not None
    assert child.process.poll() is not None
