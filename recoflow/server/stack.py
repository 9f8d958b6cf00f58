"""Everything of an installation at once: SFTP server, gateway, daemon and UI, on ports that are free.

What belongs here: which services there are and how they find each other. What does not: the sample world, and how a
single process is started and stopped (`processes`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from recoflow.errors import ConfigurationError
from recoflow.server import processes
from recoflow.server.dagster_ui import DagsterUi
from recoflow.server.processes import ManagedProcess
from recoflow.settings.environment import Environment, load_all
from recoflow.storage import permissions, scratch, stack_lock
from recoflow.storage.paths import DATA_VARIABLE, Paths
from recoflow.storage.scratch import Scratch

UI_PORT = 3000
GATEWAY_PORT = 8080
START_SECONDS = 120.0


@dataclass(frozen=True)
class Stack:
    """A running installation."""

    layout: Paths
    environments: tuple[Environment, ...]
    services: list[ManagedProcess]
    ui: DagsterUi
    sftp_port: int | None  # None when no environment uses the embedded server
    read_again: Callable[[], None]  # ends the code server and starts it again; runs that it started are ended too
    start: Callable[[ManagedProcess], None]  # starts a service that has ended


@contextmanager
def up(root: Path, layout: Paths, tell: Callable[[str], None]) -> Iterator[Stack]:
    """Start all services of the installation whose workspace.yaml lies in `root`; stop them on the way out.

    Args:
        root: the folder of workspace.yaml and dagster.yaml; becomes DAGSTER_HOME.
        layout: the data folder.
        tell: called with one line for each thing that a person should know.

    Raises:
        ConfigurationError: when `root` is no installation, an environment's file is wrong, or the data folder is in
            use or cannot be written.
        ServiceError: when a service does not start.
    """
    if not (root / "workspace.yaml").exists():
        raise ConfigurationError(str(root), "has no workspace.yaml", "Run this in the repository's root")
    environments = load_all(layout.environments)
    with stack_lock.hold(layout) as token:
        permissions.close(layout, permissions.shared(layout, environments))
        with _started(root, layout, environments, token, tell) as stack:
            yield stack


@contextmanager
def _started(
    root: Path, layout: Paths, environments: tuple[Environment, ...], token: str, tell: Callable[[str], None]
) -> Iterator[Stack]:
    logs = layout.logs
    ui_port = choose_port(UI_PORT, "the Dagster UI", tell)
    wished = {environment.sftp.port for environment in environments if environment.sftp.embedded}
    sftp_port = choose_port(min(wished), "the SFTP server", tell) if wished else None
    gateway_port = choose_port(GATEWAY_PORT, "the gateway", tell)
    variables = {
        **os.environ,
        "DAGSTER_HOME": str(root),
        DATA_VARIABLE: str(layout.root),
        stack_lock.VARIABLE: token,
        "DAGSTER_DISABLE_TELEMETRY": "1",  # dagster.yaml switches it off too, yet its empty folders would be made
        "DAGSTER_GRPC_SHUTDOWN_GRACE_PERIOD": "1",  # seconds that a code server waits for calls; 60 unless told
    }
    scratch.clear_scratch(time.time())
    with Scratch() as temporary:
        address, workspace = Path(temporary) / "code", Path(temporary) / "workspace.yaml"
        workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": _server(address)}]}))
        code = processes.code_server(address, logs)
        children = [
            code,
            processes.recoflow("gateway", ("gateway", "--port", str(gateway_port)), logs),
        ]
        if sftp_port is not None:
            children.insert(0, processes.recoflow("sftp", ("sandbox", "sftp", "--port", str(sftp_port)), logs))
        with processes.running(children, variables, root):
            if sftp_port is not None:
                processes.await_port(sftp_port, children, START_SECONDS)
                tell(f"SFTP server  sftp://127.0.0.1:{sftp_port} (keys in {layout.sftp / 'keys'})")
            gateway = f"http://127.0.0.1:{gateway_port}"
            processes.await_http(f"{gateway}/health", children, START_SECONDS)
            tell(f"Gateway      {gateway}/docs (tokens in {layout.root / 'tokens'})")
            # Daemon and UI come later than the code server, because the first of the three makes Dagster's database.
            processes.await_socket(address, children, START_SECONDS)
            users = [processes.daemon(logs, workspace), processes.webserver(ui_port, logs, workspace)]
            every = [*children, *users]
            with processes.running(users, variables, root):
                url = f"http://127.0.0.1:{ui_port}"
                processes.await_http(f"{url}/server_info", every, START_SECONDS)
                tell(f"Dagster UI   {url}")
                read_again = partial(code.restart, variables, root)
                start = partial(ManagedProcess.start, environment=variables, folder=root)
                yield Stack(layout, environments, every, DagsterUi(url), sftp_port, read_again, start)


def _server(address: Path) -> dict[str, str]:
    return {"socket": str(address), "location_name": processes.LOCATION}


def choose_port(wished: int, what: str, tell: Callable[[str], None]) -> int:
    """`wished`, or a free port where that is taken; `tell` gets a line then, which names the service as `what`."""
    port = processes.free_port(wished)
    if port != wished:
        tell(f"Port {wished} is taken: {what} listens on {port} instead.")
    return port
