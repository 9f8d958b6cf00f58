"""Forgetting a person in one environment: the places in their order, and the report that proves it.

What belongs here: the order and the accounting. What does not: how each place is cleared.

Files first, for what is in the spool and in the inboxes would come back into the tables; then bundles and tables, the
warehouse, which is built again from them, and at last databases and logs. The last step looks through every file of the
environment again. Everything may be repeated: a run that was cut off is completed by the next.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from recoflow.erasure import bundles, databases, erased_ids, files, logs, other_uses, remaining_mentions, tables
from recoflow.erasure import request_file as requests
from recoflow.erasure import subject as persons
from recoflow.erasure.subject import ErasureSubject
from recoflow.errors import StorageError
from recoflow.settings.environment import Environment
from recoflow.storage import atomic_files, spool, sql, warehouse
from recoflow.storage.lake.lake import Lake
from recoflow.storage.paths import Paths
from recoflow.storage.sftp.claims import FINAL, State
from recoflow.storage.sftp.ledger import Ledger

NOT_COVERED: Final = (
    "the SFTP account: originals in claims/ stay 24 hours, responses/ as long as campaigns.retention_days says",
    "names of files",
    "what links in the data folder point to",
    "other requests to forget that wait: each is emptied when it is carried out",
    "item factors and popularity of trained models: sums over everybody, until the next training",
)


@dataclass(frozen=True)
class Removal:
    """What went from one place; `count` is of `what`: rows, records, files or versions."""

    place: str
    what: str
    count: int


@dataclass(frozen=True)
class Report:
    """The proof. It names no id, so that it can be kept.

    Args:
        environment: where the person was forgotten.
        user_ids, device_ids: how many ids were forgotten; devices of the users alone are among them.
        ambiguous: how many of the ids mean something else here too, and are recognized in fields for people only.
        removals: one for each place, with nothing removed too.
        files_searched: files that were looked through at the end.
        remaining: those that still mention the person, relative to the data folder.
    """

    environment: str
    user_ids: int
    device_ids: int
    ambiguous: int
    removals: tuple[Removal, ...]
    files_searched: int
    remaining: tuple[str, ...]

    @property
    def is_forgotten(self) -> bool:
        """Whether no file mentions the person any more."""
        return not self.remaining

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "environment": self.environment,
            "is_forgotten": self.is_forgotten,
            "user_ids": self.user_ids,
            "device_ids": self.device_ids,
            "ambiguous_ids": self.ambiguous,
            "removed": [{"place": each.place, "what": each.what, "count": each.count} for each in self.removals],
            "files_searched": self.files_searched,
            "remaining": list(self.remaining),
            "not_covered": list(NOT_COVERED),
        }


def erase(
    layout: Paths,
    environment: Environment,
    lakes: Mapping[str, Lake],
    *,
    user_ids: Iterable[str] = (),
    device_ids: Iterable[str] = (),
    request: Path | None = None,
) -> Report:
    """Remove a person from every place of an environment and look through all of its files afterwards.

    Stop nothing for it, but let no ingest run at the same time: what that commits meanwhile is not looked at.

    Args:
        layout: the installation.
        environment: where.
        lakes: environment → lake, of all environments: the warehouse is built from all of them.
        user_ids, device_ids: of the person, at least one.
        request: the file that asked for it; cleared last and only when nothing remains, so that it can be repeated.

    Raises:
        ConfigurationError: no id was named.
        StorageError, ModelError: a place cannot be read or written; run again when that is mended.
    """
    name, lake = environment.name, lakes[environment.name]
    spool.recover(layout.spool(name))
    claims = _claims(layout, name)
    with sql.connect() as connection:
        lake.views(connection)
        person = persons.resolve_subject(connection, user_ids, device_ids)
        names = [*lakes, *_names(layout, name), *claims.names]
        person = other_uses.with_ambiguous(person, connection, _arrived(layout, name), names)
    waiting = _other_requests(layout, name, request) | {path for path in claims.requests if path != request}
    asked = {request} if request else set()

    def is_expendable(path: Path) -> bool:
        is_refused = path.parent.name == "rejected" or path in claims.finished
        return is_refused or lake.has_transaction("ingests", atomic_files.sha256(path))

    removals = [*_from_files(layout, name, person, waiting | asked, is_expendable)]
    replaced = bundles.erase_from_bundles(layout.models(name), person)
    removals.append(Removal("models", "versions", len(replaced)))
    removals += [
        Removal(f"lake/{table}", "rows", rows) for table, rows in tables.erase_from_tables(lake, person).items()
    ]
    if layout.warehouse.exists():
        warehouse.build_warehouse(lakes, layout.warehouse)
        removals.append(Removal("warehouse", "files", 1))
    removals += _from_history(layout, name, person)
    searched, remaining = _search(layout, name, person, waiting | asked)
    erased_ids.record(layout, name, person.user_ids, person.device_ids)
    if request is not None and not remaining:
        files.redact_file(request, person, lambda _: True)
    return Report(
        name,
        len(person.user_ids),
        len(person.device_ids),
        len(person.ids) - len(person.distinctive),
        tuple(removals),
        searched,
        tuple(remaining),
    )


@dataclass(frozen=True)
class _Claims:
    """What the ledger of an environment says of fetched files."""

    names: tuple[str, ...] = ()
    finished: frozenset[Path] = frozenset()
    requests: frozenset[Path] = frozenset()  # to forget people, not carried out


def _claims(layout: Paths, name: str) -> _Claims:
    folder = layout.mailbox(name)
    if not (folder / "ledger.sqlite").exists():
        return _Claims()
    with Ledger(folder / "ledger.sqlite") as ledger:
        claims = ledger.in_state(*State)
    inbox = folder / "inbox"
    return _Claims(
        tuple(claim.name.decode("utf-8", "replace") for claim in claims),
        frozenset(inbox / claim.id for claim in claims if claim.state in FINAL),
        frozenset(
            inbox / claim.id
            for claim in claims
            if claim.state not in FINAL and requests.is_request(claim.name.decode("utf-8", "replace"))
        ),
    )


def _arrived(layout: Paths, name: str) -> list[Path]:
    folders = (layout.spool(name), layout.inbox(name), layout.mailbox(name) / "inbox")
    return [file for folder in folders for file in _shown(folder)]


def _names(layout: Paths, name: str) -> list[str]:
    return [path.name for folder in (layout.inbox(name), layout.campaigns(name)) for path in folder.rglob("*")]


def _from_files(
    layout: Paths, name: str, person: ErasureSubject, kept: set[Path], is_expendable: Callable[[Path], bool]
) -> Iterator[Removal]:
    campaigns = _shown(layout.campaigns(name))
    places = {
        "spool": spool.sealed(layout.spool(name)),
        "inbox": [*_shown(layout.inbox(name)), *_shown(layout.mailbox(name) / "inbox")],
        "campaigns": [file for file in campaigns if file.suffix != ".parquet"],
    }
    for place, paths in places.items():
        done = [files.redact_file(path, person, is_expendable) for path in paths if path not in kept]
        found = [each for each in done if each is not None]
        yield Removal(place, "records", sum(each.records for each in found))
        yield Removal(place, "mentions in other records", sum(each.blanked for each in found))
        yield Removal(place, "files", sum(each.is_removed for each in found))
    # A staged campaign holds its parts to their hashes; it can be made again from the request, which names nobody now.
    staged = {
        file.parent for file in campaigns if file.suffix == ".parquet" and remaining_mentions.mentions(file, person)
    }
    for folder in staged:
        shutil.rmtree(folder)
    yield Removal("campaigns/staging", "folders", len(staged))


def _from_history(layout: Paths, name: str, person: ErasureSubject) -> Iterator[Removal]:
    """Clear Dagster's databases, the ledger and all logs; what cannot be cleared now is found by the search."""
    values = mentions = 0
    # Dagster's events without a run are in a database with the hidden name `.db`.
    history = (path for path in layout.dagster.rglob("*") if path.is_file())
    for path in (*history, *_shown(layout.logs), *_shown(layout.mailbox(name))):
        if path.suffix in remaining_mentions.LOGS or path == layout.alerts:
            mentions += logs.redact_log(path, person)
        elif not databases.is_side_file(path) and databases.is_database(path):
            with contextlib.suppress(StorageError):
                values += databases.redact_database(path, person)
    yield Removal("databases", "values", values)
    yield Removal("logs", "mentions", mentions)


def _other_requests(layout: Paths, name: str, request: Path | None) -> set[Path]:
    """Requests that wait: they keep the ids that they name until they are carried out themselves."""
    inbox = layout.inbox(name)
    found = (*inbox.glob("*"), *inbox.glob("unfinished/*"))
    return {path for path in found if path != request and requests.is_request(path.name)}


def _shown(folder: Path) -> list[Path]:
    """Files that are complete: temporary ones have hidden names."""
    return sorted(path for path in remaining_mentions.files_below(folder) if not path.name.startswith("."))


def _search(layout: Paths, name: str, person: ErasureSubject, waiting: set[Path]) -> tuple[int, list[str]]:
    folders = [
        *(place(name) for place in (layout.lake, layout.models, layout.campaigns, layout.inbox, layout.mailbox)),
        *(layout.spool(name), layout.forgotten(name), layout.dagster, layout.logs),
    ]
    searched, found = remaining_mentions.search_mentions(folders, person)
    remaining = [str(path.relative_to(layout.root)) for path in found if path not in waiting]
    if remaining_mentions.in_warehouse(layout.warehouse, name, person):
        remaining.append(f"{layout.warehouse.name}: {name}")
    return searched + layout.warehouse.exists(), remaining
