"""`recoflow up` with real processes: services, and `up` itself, are killed; nothing stays down and nothing survives."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recoflow.sandbox.dagster_ui import DagsterUi
from recoflow.storage.layout import DATA_VARIABLE, Layout
from recoflow_tests import scenario
from recoflow_tests.scenario import REPOSITORY

pytestmark = [pytest.mark.fault("H8"), pytest.mark.matrix]

SERVICES = ("code-server", "dagster-daemon", "dagster-webserver", "gateway", "sftp")
LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) { __typename ... on PythonError { message } }
}
"""


def checkout(folder: Path) -> Path:
    """What is committed, as links, and a data folder with one environment."""
    for name in ("recoflow", "pyproject.toml", "workspace.yaml", "dagster.yaml"):
        (folder / name).symlink_to(REPOSITORY / name)
    layout = Layout(folder / "data")
    layout.environments.mkdir(parents=True)
    scenario.write_environment(layout, "lorem")
    return folder


@dataclass
class Up:
    """A `recoflow up` in a folder; what it prints goes to `console`."""

    root: Path
    data: Path
    console: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def begin(cls, root: Path, data: Path | None = None) -> Up:
        data = data or root / "data"
        console = root / f"console-{time.monotonic_ns()}.txt"
        variables = {**os.environ, DATA_VARIABLE: str(data), "COLUMNS": "200"}
        command = [sys.executable, "-m", "recoflow.cli", "up"]
        with console.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=root, env=variables, stdout=output, stderr=output, start_new_session=True
            )
        return cls(root, data, console, process)

    def await_start(self) -> Up:
        await_true(lambda: "Ctrl-C stops" in self.printed or self.process.poll() is not None, 120, "the start")
        assert self.process.poll() is None, self.printed
        return self

    @property
    def printed(self) -> str:
        return self.console.read_text()

    def url(self, what: str) -> str:
        (found,) = re.findall(rf"{what} +(\S+)", self.printed)
        return found

    def processes(self) -> dict[int, str]:
        """All processes of the stack, `up` itself left out: by the data folder in their variables."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                variables = (folder / "environ").read_bytes().split(b"\0")
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if f"{DATA_VARIABLE}={self.data}".encode() in variables and command:
                found[int(folder.name)] = command
        found.pop(self.process.pid, None)
        return found

    def pid_of(self, service: str) -> int:
        arguments = {
            "code-server": "api grpc",
            "dagster-daemon": "dagster._daemon",
            "dagster-webserver": "recoflow.defs.ui",
            "gateway": "gateway --port",
            "sftp": "sandbox sftp",
        }
        commands = self.processes().items()
        (pid,) = [pid for pid, command in commands if arguments[service] in command]
        return pid

    def answers(self) -> bool:
        """Whether every service does what it is for."""
        try:
            with urllib.request.urlopen(f"{self.gateway}/health", timeout=5) as reply:
                assert reply.status == 200
            with socket.create_connection(("127.0.0.1", self.sftp_port), timeout=5) as connection:
                assert connection.recv(4) == b"SSH-"
            return self.code_is_loaded() and self.daemon_is_alive()
        except OSError:
            return False

    @property
    def gateway(self) -> str:
        return self.url("Gateway").removesuffix("/docs")

    @property
    def sftp_port(self) -> int:
        return int((self.data / "sftp/port").read_text())

    def ask(self, query: str, variables: dict[str, Any] | None = None) -> Any:
        return DagsterUi(self.url("Dagster UI")).ask(query, variables)

    def code_is_loaded(self) -> bool:
        asked = self.ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }")
        return bool(asked["repositoriesOrError"].get("nodes"))

    def daemon_is_alive(self) -> bool:
        return self.pid_of("dagster-daemon") > 0


def await_true(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:.0f} s"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def up(root: Path) -> Iterator[Up]:
    started = Up.begin(root).await_start()
    yield started
    for pid in [started.process.pid, *started.processes()]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    started.process.wait(10)


def test_each_killed_service_runs_again_and_is_named_on_the_console_and_in_the_log(up: Up) -> None:
    before = {service: up.pid_of(service) for service in SERVICES}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    await_true(lambda: all(f"{service}: stopped" in up.printed for service in SERVICES), 10, "the lines")
    await_true(lambda: len([*filter(None, map(alive(up), SERVICES))]) == len(SERVICES), 20, "the restart")
    await_true(up.answers, 60, "the services")
    assert up.process.poll() is None
    for service in SERVICES:
        assert up.pid_of(service) != before[service]
        line = f"{service}: stopped with exit code -9 and starts again in 1 s. See {up.data}/logs/{service}.log"
        assert up.printed.count(line) == 1
    raised = [json.loads(line) for line in (up.data / "logs/alerts.jsonl").read_text().splitlines()]
    assert sorted(alert["culprit"] for alert in raised) == sorted(SERVICES)


@pytest.mark.fault("M15")
def test_services_and_what_they_write_are_private(up: Up) -> None:
    masks = {re.findall(r"Umask:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0] for pid in up.processes()}
    assert masks == {"0077"}
    paths = [up.data, *up.data.rglob("*")]
    assert [f"{path} {path.stat().st_mode:o}" for path in paths if path.stat().st_mode & 0o077] == []


def alive(up: Up) -> Callable[[str], bool]:
    def is_alive(service: str) -> bool:
        try:
            return up.pid_of(service) > 0
        except ValueError:
            return False

    return is_alive


def test_a_second_checkout_on_the_same_data_is_refused_in_one_line(up: Up, tmp_path: Path) -> None:
    second = Up.begin(checkout(tmp_path), data=up.data)
    assert second.process.wait(60) == 2
    (line,) = second.printed.splitlines()
    assert f"{up.data}: is in use: `recoflow up` or `recoflow demo` runs on this data folder already" in line
    assert up.process.poll() is None


def launch_a_run(up: Up) -> None:
    selector = {"repositoryName": "__repository__", "repositoryLocationName": "recoflow", "jobName": "lorem_training"}
    answer = up.ask(LAUNCH, {"params": {"selector": selector, "runConfigData": {}}})
    assert answer["launchRun"]["__typename"] == "LaunchRunSuccess"


def members(up: Up) -> list[int]:
    """Processes of the stack, beside the services, that hold the members' lock: run workers."""
    known = {up.pid_of(service) for service in SERVICES}
    lock = Layout(up.data).members_lock

    def is_member(pid: int) -> bool:
        try:
            return lock in [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            return False

    return [pid for pid in up.processes() if pid not in known and is_member(pid)]


def test_nothing_survives_a_killed_up_run_workers_included_and_the_next_one_starts(up: Up, root: Path) -> None:
    launch_a_run(up)
    await_true(lambda: bool(members(up)), 60, "the run worker")
    up.process.kill()
    up.process.wait(10)
    await_true(lambda: not up.processes(), 10, "the end of all processes")
    following = Up.begin(root).await_start()
    try:
        assert following.sftp_port == up_port(up)
        following.process.send_signal(signal.SIGHUP)
        assert following.process.wait(60) == 0
        assert following.processes() == {}
        assert "Stopping" in following.printed
    finally:
        following.process.kill()


def up_port(up: Up) -> int:
    (port,) = re.findall(r"sftp://127\.0\.0\.1:(\d+)", up.printed)
    return int(port)


@pytest.mark.fault("M17")
@pytest.mark.skipif(os.getuid() == 0 and not shutil.which("setpriv"), reason="root writes everywhere")
def test_a_data_folder_that_cannot_be_written_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    as_ordinary_user = ["setpriv", "--bounding-set=-dac_override"] if os.getuid() == 0 else []
    data = checkout(tmp_path) / "data"
    data.chmod(0o555)
    try:
        done = subprocess.run(
            [*as_ordinary_user, sys.executable, "-m", "recoflow.cli", "up"],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "300"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            f"ConfigurationError {data}: cannot be written: Permission denied. "
            "Give this user the right to write there, or mount it writable"
        ]
        assert done.stdout == ""
    finally:
        data.chmod(0o755)
