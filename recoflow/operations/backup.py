"""A copy of a running installation from which it can be put back.

What belongs here: what is copied, and in which order. What does not: how (copying.py), putting back (restore.py).

The order is that of the data, so that nothing that was acknowledged is in no part: what waits first, then the ledger,
then what is made of it, the tables last. What moves on meanwhile may be in two parts; taking it in again changes
nothing, and a request that is answered again is answered with the same bytes.

Not copied: logs, the warehouse, which the next run builds again, files of the local inbox that are in the lake, and the
record of erased people, which has to outlive every backup: it is what keeps a restored one from bringing them back.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from recoflow.errors import StorageError
from recoflow.ingest import pending_files
from recoflow.operations import copying, runs
from recoflow.settings import environment as environments
from recoflow.storage import atomic_files
from recoflow.storage.paths import Paths

FORMAT: Final = 1
MANIFEST: Final = "backup.json"  # written last: a folder without it is not a backup
DAGSTER: Final = "dagster"
ERASURES: Final = "erasures"
LEFT_OUT: Final = ("logs", "warehouse.duckdb", ERASURES, DAGSTER, "sample")
INCOMING: Final = ("requests", "periodic", "one_time")  # before claims/, into which files move from there


@dataclass(frozen=True)
class Manifest:
    """What a backup is: file → SHA-256, relative to its folder; `root` is the data folder that it was made of."""

    format: int
    created_at: str
    root: str
    files: dict[str, str]


def back_up(layout: Paths, home: Path, target: Path, now: datetime) -> Manifest:
    """Copy an installation into a new folder, which only this user can read.

    Args:
        layout: the installation; may be running.
        home: the folder of dagster.yaml, DAGSTER_HOME.
        target: must be missing or empty.
        now: UTC.

    Raises:
        ConfigurationError: an environment's file is wrong.
        StorageError: something is damaged or cannot be copied; the folder is not a backup then.
    """
    names = [each.name for each in environments.load_all(layout.environments)]
    _begin(target)
    copy = Paths(target)
    try:
        for name in names:
            copying.segments(layout.spool(name), copy.spool(name))
            copying.folder(layout.inbox(name), copy.inbox(name), without=[pending_files.INGESTED])
        for name in names:
            copying.database(layout.mailbox(name) / "ledger.sqlite", copy.mailbox(name) / "ledger.sqlite")
            copying.folder(layout.mailbox(name), copy.mailbox(name))
        _accounts(layout.sftp / "accounts", copy.sftp / "accounts")
        for name in names:
            copying.file(layout.models(name) / "champion.json", copy.models(name) / "champion.json")
            copying.folder(layout.models(name), copy.models(name), without=["champion.json"])
            copying.folder(layout.campaigns(name), copy.campaigns(name))
        _rest(layout, target)
        copying.folder(runs.storage(layout, home), target / DAGSTER)
        for name in names:
            copying.tables(layout.lake(name), copy.lake(name))
        return _end(layout, target, now)
    except OSError as error:
        problem = f"cannot be written: {error.strerror or error}"
        raise StorageError(str(target), problem, "Free or repair the disk, and begin again in a new folder") from error


def read_backup(source: Path) -> Manifest:
    """The manifest of a backup.

    Raises:
        StorageError: it is none.
    """
    path = source / MANIFEST
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        manifest = Manifest(**found)
    except (OSError, ValueError, TypeError) as error:
        problem = f"is no backup that was finished ({error})"
        raise StorageError(str(source), problem, "Name a folder that `recoflow backup` wrote") from None
    if manifest.format != FORMAT:
        problem = f"is of format {manifest.format}, this recoflow reads format {FORMAT}"
        raise StorageError(str(path), problem, "Use the recoflow that wrote it")
    return manifest


def _begin(target: Path) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
        is_empty = not any(target.iterdir())
        target.chmod(0o700)  # it holds what people did, and the keys of the accounts
    except OSError as error:
        problem = f"cannot be made: {error.strerror}"
        raise StorageError(str(target), problem, "Name a folder that this user may write") from error
    if not is_empty:
        raise StorageError(str(target), "is not empty", "Name a new folder for each backup")


def _accounts(source: Path, target: Path) -> None:
    """What lies on the embedded SFTP server."""
    for account in sorted(source.glob("*")):
        for name in INCOMING:
            copying.folder(account / name, target / account.name / name)
        copying.folder(account, target / account.name, without=INCOMING)


def _rest(layout: Paths, target: Path) -> None:
    """Everything that is not copied in its own order: environments, keys, tokens, searches, reports of erasures."""
    done = {"spool", "inbox", "mailbox", "models", "campaigns", "lake", layout.sftp.name}
    copying.folder(layout.sftp, target / layout.sftp.name, without=["accounts", layout.sftp_port.name])
    copying.folder(layout.root, target, without=[*done, *LEFT_OUT])


def _end(layout: Paths, target: Path, now: datetime) -> Manifest:
    paths = sorted(path for path in target.rglob("*") if path.is_file())
    files = {path.relative_to(target).as_posix(): atomic_files.sha256(path) for path in paths}
    os.sync()  # the copies: the manifest, which says that they are there, comes after them
    manifest = Manifest(FORMAT, now.isoformat(timespec="seconds"), str(layout.root), files)
    atomic_files.write_atomic(target / MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
    return manifest
