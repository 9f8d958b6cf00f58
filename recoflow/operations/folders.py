"""The data folder itself: space, rights, what dead processes left, and files that nothing takes in."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from recoflow.errors import StorageError
from recoflow.ingest import local_folder, pending_files
from recoflow.operations.finding import Fault
from recoflow.settings.environment import Environment
from recoflow.storage import scratch, spool
from recoflow.storage.paths import Paths

AREA = "disk"
DAY = 86_400.0
TEMPORARY = (".*.tmp", "*.part")  # of `atomic_files.write_atomic` and of fetches
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def disk(layout: Paths, environments: Sequence[Environment]) -> Iterator[Fault]:
    """Space, and the rights of folders and keys."""
    free = shutil.disk_usage(layout.root).free
    needed = max((each.gateway.min_free_bytes for each in environments), default=0)
    if free < needed:
        problem = f"has {free} bytes free; below {needed} the gateway takes no events"
        yield Fault(AREA, str(layout.root), problem, "Make room on this disk")
    for folder in (layout.root, *sorted(path for path in layout.root.iterdir() if path.is_dir())):
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            yield Fault(AREA, str(folder), "may not be written by this user", f"chown and chmod u+rwx {folder}")
        if stat.S_IMODE(folder.stat().st_mode) & stat.S_IWOTH:
            yield Fault(AREA, str(folder), "may be written by everybody on this machine", f"chmod o-w {folder}")
    for key in sorted((layout.sftp / "keys").glob("*")):
        if key.suffix != ".pub" and stat.S_IMODE(key.stat().st_mode) & OTHERS:
            yield Fault(AREA, str(key), "is a private key that others may read", f"chmod 600 {key}")


def leftovers(
    layout: Paths, environments: Sequence[Environment], now: datetime, *, is_repairing: bool
) -> Iterator[Fault]:
    """Temporary files that no living process writes any more: of dead processes, or older than a day."""
    old = [path for path in _temporary(layout, environments) if now.timestamp() - path.stat().st_mtime > DAY]
    for path in (*scratch.left(time.time()), *old):
        finding = Fault(AREA, str(path), "was left by a process that was killed", "Remove it")
        if is_repairing:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            finding = finding.repaired()
        yield finding


def waiting_files(layout: Paths, environment: Environment, now: datetime, *, is_repairing: bool) -> Iterator[Fault]:
    """Files of the local inbox and of the spool that no run takes."""
    name, folder = environment.name, layout.inbox(environment.name)
    seen = local_folder.look(folder, DAY, now.timestamp(), lambda _: set())
    yield from (Fault.of("files", problem, name) for problem in seen.problems)
    running = "See whether `recoflow up` runs, and the alerts and runs of the ingest"
    for file in seen.files:
        if now.timestamp() - file.status.st_ctime < DAY:  # its time of change may be that of another place
            continue
        yield Fault("files", str(file.path.with_name(file.name)), "waits for more than a day", running, name)
    for path in sorted(folder.iterdir() if folder.is_dir() and os.access(folder, os.R_OK) else ()):
        if (
            path.is_dir()
            and path.name not in {pending_files.INGESTED, pending_files.REJECTED}
            and not path.name.startswith(".")
        ):
            cure = f"Put its files into {folder} itself"
            yield Fault("files", str(path), "is a folder: files in it are not taken", cure, name)
    for path in spool.sealed(layout.spool(name)):
        if now.timestamp() - path.stat().st_mtime > DAY:
            yield Fault("files", str(path), "waits for more than a day", running, name)
    yield from _open_segments(layout, name, is_repairing=is_repairing)


def _open_segments(layout: Paths, name: str, *, is_repairing: bool) -> Iterator[Fault]:
    for path in spool.abandoned(layout.spool(name)):
        problem = "was being written by a process that is gone: what was acknowledged waits in it"
        finding = Fault("files", str(path), problem, "Start the gateway, which seals it at its start", name)
        if is_repairing:
            try:
                spool.recover(path.parent)
            except StorageError as error:
                yield Fault.of("files", error, name)
                continue
            finding = finding.repaired()
        yield finding


def _temporary(layout: Paths, environments: Sequence[Environment]) -> Iterator[Path]:
    """Temporary files in folders where only recoflow writes; those of customers are theirs."""
    yield from layout.root.glob(".*.tmp")
    for each in environments:
        for place in (layout.models(each.name), layout.campaigns(each.name), layout.forgotten(each.name)):
            yield from (path for path in place.rglob(".*.tmp") if path.is_file())
        for pattern in TEMPORARY:
            yield from (layout.mailbox(each.name) / "inbox").glob(pattern)
