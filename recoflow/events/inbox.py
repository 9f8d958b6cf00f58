"""Files that wait to be ingested: SFTP dumps in the mailbox, the local inbox folder, and the gateway's sealed segments.

What belongs here: which files wait, and what happens to a file once it is in the lake. What does not: their content.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from recoflow.sources import froomle, items, metarank
from recoflow.sources.collect import Dialect
from recoflow.storage import names, spool
from recoflow.storage.mailbox import Mailbox

DUMP_FOLDERS: Final = ("periodic", "one_time")
INGESTED: Final = "ingested"
REJECTED: Final = "rejected"
DIALECTS: Final[Mapping[str, Dialect]] = {  # of spool.KINDS
    "events": froomle.parse,
    "items": items.parse_request,
    "metarank": metarank.parse,
}


@dataclass(frozen=True)
class Arrival:
    """A file that waits. One with a `claim_id` is a dump; one whose dialect is known is a segment of the spool."""

    name: str
    path: Path
    claim_id: str | None = None
    dialect: Dialect | None = None

    def received_at(self, now: datetime) -> datetime:
        """When the last of its events was received: a segment tells by its time of change, of other files it is now."""
        if self.dialect is None:
            return now
        return datetime.fromtimestamp(self.path.stat().st_mtime, UTC)

    def done(self, mailbox: Mailbox) -> None:
        """Its events are in the lake: consume the dump, drop the segment, or move the local file to `ingested/`.

        A file of that name that lies there already stays: this one gets a number before its name.
        """
        if self.claim_id is not None:
            mailbox.consume(self.claim_id)
        elif self.dialect is not None:
            self.path.unlink(missing_ok=True)
        else:
            self._move(INGESTED)

    def refuse(self, mailbox: Mailbox, problem: str) -> None:
        """It cannot be read at all: answer the dump with an error file, or move the local file to `rejected/`."""
        if self.claim_id is not None:
            mailbox.reject(self.claim_id, "unreadable", problem)
        else:
            self._move(REJECTED)

    def _move(self, folder: str) -> None:
        kept = self.path.parent / folder
        kept.mkdir(exist_ok=True)
        names_of_it = itertools.chain((self.path.name,), (f"{n}.{self.path.name}" for n in itertools.count(2)))
        self.path.replace(next(kept / name for name in names_of_it if not (kept / name).exists()))


def waiting(mailbox: Mailbox, folder: Path, quiet_seconds: float, now: datetime) -> list[Arrival]:
    """All complete files, dumps first, each group in the order of names.

    A local file is complete when its time of change is `quiet_seconds` old; one that a client is still writing, by its
    name, never is. Names carry dates, so their order is the order in which the events happened.
    """
    dumps = [
        Arrival(intake.name, intake.path, intake.claim_id)
        for dump_folder in DUMP_FOLDERS
        for intake in mailbox.pending(dump_folder)
    ]
    local = [
        Arrival(path.name, path)
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.is_file()
        and names.is_data(path.name.encode())
        and path.stat().st_mtime <= now.timestamp() - quiet_seconds
    ]
    return [*sorted(dumps, key=lambda each: each.name), *sorted(local, key=lambda each: each.name)]


def segments(folder: Path) -> list[Arrival]:
    """The sealed segments of the environment's spool, oldest first; those of one kind keep their order."""
    return [Arrival(path.name, path, dialect=DIALECTS[spool.kind_of(path)]) for path in spool.sealed(folder)]
