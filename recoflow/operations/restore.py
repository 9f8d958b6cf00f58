"""Putting an installation back from a backup, before any of its services starts.

What belongs here: the steps and their order. What does not: what a backup has (backup.py).

All is made ready beside its place and moved there at the end, so that a restore that was cut off leaves nothing that
looks like an installation. People who were erased since the backup are erased again before that.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from recoflow.erasure import erase, erased_ids
from recoflow.errors import StorageError
from recoflow.operations import backup, runs
from recoflow.operations.backup import DAGSTER, ERASURES, Manifest
from recoflow.settings import environment as environments
from recoflow.settings.environment import Environment
from recoflow.storage import atomic_files
from recoflow.storage.lake.lake import Lake
from recoflow.storage.paths import Paths
from recoflow.storage.sftp.account import Account
from recoflow.storage.sftp.ledger import Ledger
from recoflow.storage.sftp.mailbox import Mailbox

READY: Final = ".restoring"
OWN: Final = ("lake", "spool", "mailbox", "models", "campaigns", "inbox")  # must not be there yet
PEOPLE: Final = {"events": ("user_id", "device_id"), "identity": ("user_id", "device_id")}


@dataclass(frozen=True)
class Restored:
    """What was put back: when the backup was made, its environments, and how many people were erased again in each."""

    created_at: str
    environments: tuple[Environment, ...]
    erased: dict[str, int]


def restore_backup(source: Path, layout: Paths, home: Path, record: Path | None = None) -> Restored:
    """Put a backup back into a data folder that has no data yet.

    Args:
        source: what `backup` wrote.
        layout: where to. Environments, keys and settings that lie there are replaced by those of the backup.
        home: the folder of dagster.yaml, DAGSTER_HOME.
        record: the folder `erasures` of the lost installation; that of the data folder unless told.

    Raises:
        StorageError: the backup is damaged, or the data folder has data.
    """
    manifest = backup.read_backup(source)
    _check_empty(layout)
    _verify(source, manifest)
    ready = Paths(layout.root / READY)
    layout.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if ready.root.exists():
        shutil.rmtree(ready.root)
    shutil.copytree(source, ready.root, ignore=shutil.ignore_patterns(backup.MANIFEST))
    known = record or layout.root / ERASURES
    if known.exists():
        shutil.copytree(known, ready.root / ERASURES, dirs_exist_ok=True)
    found = environments.load_all(ready.environments)
    for each in found:
        _move_paths(ready.mailbox(each.name) / "ledger.sqlite", manifest.root, str(layout.root))
    erased = {each.name: _erase_again(ready, each, found) for each in found}
    _put(ready.root, layout.root, runs.storage(layout, home))
    return Restored(manifest.created_at, tuple(environments.load_all(layout.environments)), erased)


def reconcile(layout: Paths, environment: Environment) -> int:
    """Take up the claims on the server that came after the backup; returns how many. Each is answered again.

    Raises:
        MailboxError: the server is away.
    """
    folder, account = layout.mailbox(environment.name), Account.of(environment, layout)
    with Ledger(folder / "ledger.sqlite") as ledger, Mailbox(account, ledger, folder / "inbox") as mailbox:
        return mailbox.rebuild()


def _check_empty(layout: Paths) -> None:
    there = [name for name in OWN if (layout.root / name).exists() and any((layout.root / name).rglob("*"))]
    if there:
        problem = f"has data already ({', '.join(there)}): a restore replaces nothing"
        raise StorageError(str(layout.root), problem, "Name an empty data folder with --data, or move these away")


def _verify(source: Path, manifest: Manifest) -> None:
    for name, sha256 in manifest.files.items():
        path = source / name
        if not path.is_file():
            raise StorageError(str(path), "is missing in the backup", "Use another backup")
        if atomic_files.sha256(path) != sha256:
            raise StorageError(str(path), "is not as it was when the backup was made", "Use another backup")


def _move_paths(ledger: Path, before: str, after: str) -> None:
    """Answers that wait for their publication are named by absolute paths."""
    if not ledger.exists() or before == after:
        return
    with contextlib.closing(sqlite3.connect(ledger)) as opened, opened:
        opened.execute(
            "UPDATE outgoing SET local = ? || substr(local, ?) WHERE substr(local, 1, ?) = ?",
            (after, len(before) + 1, len(before) + 1, f"{before}/"),
        )


def _erase_again(layout: Paths, environment: Environment, every: Sequence[Environment]) -> int:
    """Erase the people of the record who are in the backup; returns how many ids they had."""
    lakes = {each.name: Lake(layout.lake(each.name)) for each in every}
    ids = {kind: _people(lakes[environment.name], f"{kind}_id") for kind in erased_ids.KINDS}
    found = {kind: erased_ids.matches(layout, environment.name, kind, each) for kind, each in ids.items()}
    if any(found.values()):
        erase.erase(layout, environment, lakes, user_ids=found[erased_ids.USER], device_ids=found[erased_ids.DEVICE])
    return sum(map(len, found.values()))


def _people(lake: Lake, column: str) -> list[str]:
    tables = [lake.scan(table).select(pl.col(column)) for table, columns in PEOPLE.items() if column in columns]
    return pl.concat([*tables, lake.scan("responses").select(column)]).drop_nulls().unique().collect()[column].to_list()


def _put(ready: Path, root: Path, dagster: Path) -> None:
    """Move all to its place, what services look for first at the end."""
    if (ready / DAGSTER).exists():
        dagster.parent.mkdir(parents=True, exist_ok=True)
        if dagster.exists():
            raise StorageError(str(dagster), "has runs already", "Move this folder away, and restore again")
        shutil.move(ready / DAGSTER, dagster)
    for path in sorted(ready.iterdir(), key=lambda path: path.name == "environments"):
        _replace(path, root / path.name)
    ready.rmdir()


def _replace(source: Path, target: Path) -> None:
    if source.is_dir() and target.is_dir():
        for path in source.iterdir():
            _replace(path, target / path.name)
        source.rmdir()
    else:
        source.replace(target)
