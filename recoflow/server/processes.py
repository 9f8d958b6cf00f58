"""The processes of a running installation: SFTP server, code server, daemon and UI, started, watched, stopped together.

What belongs here: starting child processes, their ports and their logs. What does not: what they do.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from recoflow.errors import RecoflowError

STOP_SECONDS = 20.0
WORKSPACE = Path("workspace.yaml")
LOCATION = "recoflow"  # as in workspace.yaml: the UI and Dagster's database name sensors by it


class ServiceError(RecoflowError):
    """A service did not start, or stopped by itself."""


@dataclass
class ManagedProcess:
    """One child process; its output goes to `log`."""

    name: str
    command: tuple[str, ...]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def exit_code(self) -> int | None:
        """Of the process that was started last; None while it runs, and before the first start."""
        return None if self.process is None else self.process.poll()

    def start(self, environment: Mapping[str, str], folder: Path) -> None:
        """Start the process in a group of its own, so that Ctrl-C reaches it only through `interrupt`.

        Raises:
            ServiceError: the log cannot be written, or the system refuses another process.
        """
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    self.command,
                    cwd=folder,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise ServiceError(self.name, f"cannot be started: {error}", "Mend that, e.g. the folder's owner") from None

    def check(self) -> None:
        """Raise a ServiceError, with the end of its log, when the process has ended."""
        if self.exit_code is None:
            return
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        raise ServiceError(self.name, f"stopped with exit code {self.exit_code}:\n{tail}", f"See {self.log}")

    def interrupt(self) -> None:
        """Ask the process to end."""
        if self.process is not None and self.exit_code is None:
            self.process.send_signal(signal.SIGINT)

    def restart(self, environment: Mapping[str, str], folder: Path) -> None:
        """End the process and start it again."""
        self.interrupt()
        self.wait(time.monotonic() + STOP_SECONDS)
        self.start(environment, folder)

    def wait(self, deadline: float) -> None:
        """Wait for its end until `deadline` (time.monotonic()), then end what is left of its group."""
        if self.process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.1, deadline - time.monotonic()))
        self.end_group()
        self.process.wait()

    def end_group(self) -> None:
        """Kill the process and those that it started, e.g. the run workers of a code server."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


@contextmanager
def running(
    services: list[ManagedProcess], environment: Mapping[str, str], folder: Path, *, stop_seconds: float = STOP_SECONDS
) -> Iterator[None]:
    """Start all services; on the way out interrupt all, last first, and kill what has not ended in `stop_seconds`."""
    try:
        for service in services:
            service.start(environment, folder)
        yield
    finally:
        for service in reversed(services):
            service.interrupt()
        deadline = time.monotonic() + stop_seconds
        for service in reversed(services):
            service.wait(deadline)


def free_port(wished: int, host: str = "127.0.0.1") -> int:
    """`wished` when it can be bound on `host`, else one that the system chooses."""
    for port in (wished, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServiceError(f"port {wished}", "is taken and no other is free", "Stop what listens there")


def await_http(url: str, services: list[ManagedProcess], seconds: float) -> None:
    """Wait until `url` answers; a service that ends meanwhile is an error at once."""

    def answers() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310 - http on loopback
                return int(reply.status) == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    await_true(answers, services, seconds, url)


def await_port(port: int, services: list[ManagedProcess], seconds: float) -> None:
    """Wait until something listens on a loopback port."""

    def listens() -> bool:
        with socket.socket() as probe:
            probe.settimeout(2)
            return probe.connect_ex(("127.0.0.1", port)) == 0

    await_true(listens, services, seconds, f"port {port}")


def await_true(
    condition: Callable[[], bool], services: list[ManagedProcess], seconds: float, what: str, *, pause: float = 0.2
) -> None:
    """Poll `condition` until it holds, with pauses.

    Raises:
        ServiceError: when a service ends, or `seconds` have passed.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        for service in services:
            service.check()
        if time.monotonic() > deadline:
            raise ServiceError(what, f"did not come within {seconds:.0f} s", f"See {services[0].log.parent}")
        time.sleep(pause)


def await_socket(path: Path, services: list[ManagedProcess], seconds: float) -> None:
    """Wait until something listens on a Unix socket."""

    def listens() -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2)
            return probe.connect_ex(str(path)) == 0

    await_true(listens, services, seconds, str(path))


def code_server(address: Path, logs: Path) -> ManagedProcess:
    """What answers Dagster's questions about our definitions, and starts each run in a process of its own."""
    code = ("--module-name", "recoflow.definitions", "--location-name", LOCATION)
    return _dagster("dagster", ("api", "grpc", "--socket", str(address), *code), logs, "code-server")


def daemon(logs: Path, workspace: Path = WORKSPACE) -> ManagedProcess:
    """The Dagster daemon over a workspace file, that of the folder that it is started in unless told."""
    return _dagster("dagster-daemon", ("run", "-w", str(workspace)), logs)


def webserver(port: int, logs: Path, workspace: Path = WORKSPACE) -> ManagedProcess:
    """The Dagster UI, guarded, over a workspace file, that of the folder that it is started in unless told."""
    arguments = ("--workspace", str(workspace), "--port", str(port))
    return _child("dagster-webserver", "recoflow.defs.ui:main", arguments, logs)


def recoflow(name: str, arguments: tuple[str, ...], logs: Path) -> ManagedProcess:
    """A command of recoflow itself."""
    return _child(name, "recoflow.cli:main", arguments, logs)


def _dagster(tool: str, arguments: tuple[str, ...], logs: Path, name: str = "") -> ManagedProcess:
    (script,) = entry_points(group="console_scripts", name=tool)
    return _child(name or tool, script.value, arguments, logs)


def _child(name: str, function: str, arguments: tuple[str, ...], logs: Path) -> ManagedProcess:
    return ManagedProcess(
        name, (sys.executable, "-m", "recoflow.server.child", function, *arguments), logs / f"{name}.log"
    )
