"""A campaign through everything that production pays: OpenSSH, the sensor, a run of all assets, the published file.

`recoflow up` runs on a data folder that has the benchmark's model. A request file is uploaded under a hidden name and
renamed; the clock runs from the rename to the visible response. Beside it: the bare service (`campaign_runs`), and
paramiko's own put of the same response to the same server.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import paramiko
import yaml

from benchmarks import campaign_world
from benchmarks.campaign_world import Folder
from recoflow.server import processes
from recoflow.server.stack import Stack, up
from recoflow.storage.paths import DATA_VARIABLE, Paths
from recoflow.storage.sftp.account import Account
from recoflow_tests.faults import sftp_lab

REPOSITORY = Path(__file__).parents[1]
QUIET_SECONDS = 2
POLL_SECONDS = 5  # Dagster's daemon evaluates sensors at most this often
LONGEST = 900.0


def measure(folder: Folder, users: int, k: int) -> dict[str, Any]:
    """Seconds from the request's rename to the visible response, seconds of the bare put, peak bytes of the workers."""
    with tempfile.TemporaryDirectory(prefix="recoflow-campaign-", ignore_cleanup_errors=True) as name:
        root = Path(name)
        with sftp_lab.openssh(root / "sftp") as lab:
            paths = install(root, folder, lab.account)
            with up(root, paths, print) as stack, lab.customer() as sftp:
                return answer(stack, sftp, folder.request(users, k), root)


def install(root: Path, folder: Folder, account: Account) -> Paths:
    """A data folder with the model of the world, whose environment uses this account."""
    paths = Paths(root / "data")
    paths.environments.mkdir(parents=True)
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(REPOSITORY / name, root / name)
    settings = yaml.safe_load(campaign_world.CONFIGURATION)
    settings["sftp"] |= {
        "host": account.host,
        "port": account.port,
        "username": account.username,
        "private_key": str(account.private_key),
        "known_hosts": str(account.known_hosts),
        "quiet_seconds": QUIET_SECONDS,
    }
    settings["schedules"] = {"poll_seconds": POLL_SECONDS}
    (paths.environments / f"{campaign_world.NAME}.yaml").write_text(yaml.safe_dump(settings))
    models = paths.models(campaign_world.NAME)
    shutil.copytree(folder.paths.models(campaign_world.NAME), models)
    return paths


def answer(stack: Stack, sftp: paramiko.SFTPClient, request: Path, root: Path) -> dict[str, Any]:
    name, hidden = campaign_world.REQUEST, f"requests/.{campaign_world.REQUEST}.part"
    sftp.put(str(request), hidden)
    with peak_of_workers(stack) as peak:
        begin = time.perf_counter()
        sftp.posix_rename(hidden, f"requests/{name}")
        processes.await_true(
            lambda: name in sftp.listdir("responses"), stack.services, LONGEST, "the response", pause=1
        )
        seconds = time.perf_counter() - begin
    response = root / "response"
    sftp.get(f"responses/{name}", str(response))
    begin = time.perf_counter()
    sftp.put(str(response), "requests/.bare.part")
    put = time.perf_counter() - begin
    sftp.remove("requests/.bare.part")
    return {"seconds": seconds, "put_s": put, "bytes": response.stat().st_size, "peak_bytes": peak[0]}


@contextmanager
def peak_of_workers(stack: Stack) -> Iterator[list[int]]:
    """The largest sum of the proportional set sizes of all processes that the stack's services started."""
    peak, is_over = [0], threading.Event()

    def watch() -> None:
        while not is_over.wait(2):  # reading smaps_rollup blocks the worker's page faults
            peak[0] = max(peak[0], sum(map(proportional_bytes, workers(stack))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        is_over.set()
        watcher.join()


def workers(stack: Stack) -> list[int]:
    """Process ids of run workers and of what they start."""
    marker = f"{DATA_VARIABLE}={stack.layout.root}".encode()
    services = {service.process.pid for service in stack.services if service.process is not None}
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and marker in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return [process for process in found if process not in services | {os.getpid()} and is_worker(process)]


def is_worker(process: int) -> bool:
    """Whether Dagster's code server spawned it for a run, or a run worker for its checks."""
    with suppress(OSError):
        command = Path(f"/proc/{process}/cmdline").read_bytes()
        return b"spawn_main" in command or b"checker_process" in command
    return False


def proportional_bytes(process: int) -> int:
    """The proportional set size; 0 of a process that has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
