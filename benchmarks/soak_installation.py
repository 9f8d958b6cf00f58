"""The installation of `benchmarks.soak`: `recoflow up` as a process, its addresses, and its processes by kind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
import yaml

from recoflow.storage.paths import Paths

REPOSITORY = Path(__file__).parents[1]
ADDRESSES = {
    "sftp": re.compile(r"sftp://127\.0\.0\.1:(\d+)"),
    "gateway": re.compile(r"Gateway\s+http://127\.0\.0\.1:(\d+)"),
    "ui": re.compile(r"Dagster UI\s+http://127\.0\.0\.1:(\d+)"),
}
SERVICES = {  # kind → what its command line contains
    "sftp_server": "recoflow.cli:main sandbox sftp",
    "gateway": "recoflow.cli:main gateway",
    "code_server": "api grpc",
    "daemon": " run -w ",
    "webserver": "recoflow.defs.ui:main",
}


class Installation:
    """`recoflow up` under a supervisor that starts it again whenever it ends, as systemd would."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layout = Paths(root / "data")
        self.ports: dict[str, int] = {}
        self.starts = 0
        self._ends = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("dagster.yaml", "workspace.yaml"):
            shutil.copy(REPOSITORY / name, root / name)
        settings = yaml.safe_load((REPOSITORY / "data/environments/lorem.yaml").read_text())
        settings["schedules"]["poll_seconds"] = 2
        self.layout.environments.mkdir(parents=True)
        (self.layout.environments / "lorem.yaml").write_text(yaml.safe_dump(settings))

    @property
    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self.root))

    @contextmanager
    def running(self) -> Iterator[None]:
        before = Path.cwd()
        os.chdir(self.root)  # dagster.yaml's folders are relative to it
        supervisor = threading.Thread(target=self._supervise)
        supervisor.start()
        try:
            deadline = time.time() + 180
            while len(self.ports) < len(ADDRESSES):
                if time.time() > deadline:
                    raise SystemExit(f"`recoflow up` did not start: see {self.root / 'up.log'}")
                time.sleep(0.2)
            yield
        finally:
            self._ends.set()
            if self._process is not None:
                self._process.send_signal(signal.SIGTERM)
            supervisor.join()
            os.chdir(before)

    def processes(self, kind: str) -> list[int]:
        """The process ids of a service."""
        return [pid for pid, command in self.commands().items() if is_service(kind, command)]

    def commands(self) -> dict[int, str]:
        """Process id → command line of all processes of the installation, those of `up` itself included."""
        marker = f"RECOFLOW_DATA={self.layout.root}".encode()
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) == os.getpid():
                continue
            with suppress(OSError):
                if marker in (folder / "environ").read_bytes().split(b"\0"):
                    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found[int(folder.name)] = command
        return found

    def _supervise(self) -> None:
        variables = os.environ | {
            "DAGSTER_HOME": str(self.root),
            "RECOFLOW_DATA": str(self.layout.root),
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "300",
        }
        command = [sys.executable, "-m", "recoflow.cli", "up"]
        with (self.root / "up.log").open("ab") as log:
            while not self._ends.is_set():
                self.starts += 1
                self._process = subprocess.Popen(
                    command, cwd=self.root, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
                )
                assert self._process.stdout is not None
                for line in self._process.stdout:
                    log.write(line)
                    log.flush()
                    self._read_address(line.decode(errors="replace"))
                self._process.wait()
                self._ends.wait(1)

    def _read_address(self, line: str) -> None:
        for name, pattern in ADDRESSES.items():
            if found := pattern.search(line):
                self.ports[name] = int(found[1])


def is_service(kind: str, command: str) -> bool:
    return SERVICES[kind] in command
