"""Forgetting a person in one environment: the places in their order, and the report that proves it.

What belongs here: the order and the accounting. What does not: how each place is cleared.

Files first, for what lies in the spool and in the inboxes would come back into the tables; then bundles and tables, and
the warehouse made anew from them. The last step looks through every file of the environment again. Everything may be
repeated: a run that was cut off is completed by the next.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from recoflow.environment import Environment
from recoflow.privacy import bundles, files, search, tables
from recoflow.privacy import person as persons
from recoflow.privacy import request as requests
from recoflow.privacy.person import Person
from recoflow.storage import artifacts, spool, sql, warehouse
from recoflow.storage.lake import Lake
from recoflow.storage.layout import Layout

NOT_COVERED: Final = (
    "files on the SFTP account: originals and responses go by their own retention (campaigns.retention_days)",
    "previews and logs of past runs in Dagster's storage: delete those runs in the UI, or let them expire",
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
        removals: one for each place, with nothing removed too.
        files_searched: files that were looked through at the end.
        remaining: those that still mention the person, relative to the data folder.
    """

    environment: str
    user_ids: int
    device_ids: int
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
            "removed": [{"place": each.place, "what": each.what, "count": each.count} for each in self.removals],
            "files_searched": self.files_searched,
            "remaining": list(self.remaining),
            "not_covered": list(NOT_COVERED),
        }


def forget(
    layout: Layout,
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
        request: the file that asked for it; cleared last, so that a run that was cut off can be told again by it.

    Raises:
        ConfigurationError: no id was named.
        StorageError, ModelError: a place cannot be read or written; run again when that is mended.
    """
    lake = lakes[environment.name]
    with sql.connect() as connection:
        lake.views(connection, "events")
        person = persons.of(connection, user_ids, device_ids)
    removals = [*_from_files(layout, environment.name, lake, person, request)]
    replaced = bundles.forget(layout.models(environment.name), person)
    removals.append(Removal("models", "versions", len(replaced)))
    removals += [Removal(f"lake/{table}", "rows", rows) for table, rows in tables.forget(lake, person).items()]
    if layout.warehouse.exists():
        warehouse.build(lakes, layout.warehouse)
        removals.append(Removal("warehouse", "files", 1))
    if request is not None:
        files.redact(request, person, lambda _: True)
    searched, remaining = _search(layout, environment.name, person, request)
    return Report(
        environment.name, len(person.user_ids), len(person.device_ids), tuple(removals), searched, tuple(remaining)
    )


def _from_files(layout: Layout, name: str, lake: Lake, person: Person, request: Path | None) -> Iterator[Removal]:
    spool.recover(layout.spool(name))
    campaigns = _shown(layout.campaigns(name))
    inboxes = (layout.inbox(name), layout.mailbox(name) / "inbox")
    others = _other_requests(layout, name, request)
    places = {
        "spool": spool.sealed(layout.spool(name)),
        "inbox": [file for folder in inboxes for file in _shown(folder) if file not in others],
        "campaigns": [file for file in campaigns if file.suffix != ".parquet"],
    }
    for place, paths in places.items():
        done = [files.redact(path, person, lambda path: _is_known(lake, path)) for path in paths if path != request]
        found = [each for each in done if each is not None]
        yield Removal(place, "records", sum(each.records for each in found if not each.is_removed))
        yield Removal(place, "files", sum(each.is_removed for each in found))
    # A staged campaign holds its parts to their hashes; it can be made again from the request, which names nobody now.
    staged = {file.parent for file in campaigns if file.suffix == ".parquet" and search.mentions(file, person)}
    for folder in staged:
        shutil.rmtree(folder)
    yield Removal("campaigns/staging", "folders", len(staged))


def _other_requests(layout: Layout, name: str, request: Path | None) -> set[Path]:
    """Requests that wait: they keep the ids that they name until they are carried out themselves."""
    return {path for path in layout.inbox(name).glob("*") if path != request and requests.is_request(path.name)}


def _is_known(lake: Lake, path: Path) -> bool:
    return lake.has_transaction("ingests", artifacts.sha256(path))


def _shown(folder: Path) -> list[Path]:
    """Files that are complete: temporary ones have hidden names."""
    found = folder.rglob("*") if folder.is_dir() else ()
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def _search(layout: Layout, name: str, person: Person, request: Path | None) -> tuple[int, list[str]]:
    folders = [
        place(name)
        for place in (layout.lake, layout.models, layout.campaigns, layout.inbox, layout.mailbox, layout.spool)
    ]
    searched, found = search.search(folders, person)
    others = _other_requests(layout, name, request)
    remaining = [str(path.relative_to(layout.root)) for path in found if path not in others]
    if search.in_warehouse(layout.warehouse, name, person):
        remaining.append(f"{layout.warehouse.name}: {name}")
    return searched + layout.warehouse.exists(), remaining
