"""Files that wait to be ingested: SFTP dumps in the mailbox, the local inbox folder, and the gateway's sealed segments.

What belongs here: which files wait, and what happens to a file once it is in the lake. What does not: their content.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from recoflow.formats import froomle, items, metarank
from recoflow.formats.batch_builder import EventFormat
from recoflow.ingest import file_hash, local_folder
from recoflow.ingest.file_hash import ArrivalError, ChangedFileError
from recoflow.storage import spool
from recoflow.storage.sftp.mailbox import Mailbox

DUMP_FOLDERS: Final = ("periodic", "one_time")
INGESTED: Final = "ingested"
REJECTED: Final = "rejected"
LOCAL: Final = "inbox"  # the local folder among those whose files the mailbox has seen
DIALECTS: Final[Mapping[str, EventFormat]] = {  # of spool.KINDS
    "events": froomle.parse_froomle,
    "items": items.parse_request,
    "metarank": metarank.parse_metarank,
}


@dataclass(frozen=True)
class PendingFile:
    """A file that waits. One with a `claim_id` is a dump; one whose dialect is known is a segment of the spool.

    `name` is printable where the file's own name is not text. `status` is what a local file was like when it was found.
    """

    name: str
    path: Path
    claim_id: str | None = None
    dialect: EventFormat | None = None
    status: os.stat_result | None = None

    def received_at(self, now: datetime) -> datetime:
        """When the last of its events was received: a segment tells by its time of change, of other files it is now.

        Raises:
            ArrivalError: it is not there any more.
        """
        if self.dialect is None:
            return now
        with file_hash.explained(self.name):
            return datetime.fromtimestamp(self.path.stat().st_mtime, UTC)

    def done(self, mailbox: Mailbox) -> None:
        """Its events are in the lake: consume the dump, drop the segment, or move the local file to `ingested/`.

        A file of that name that lies there already stays: this one gets a number before its name.

        Raises:
            ArrivalError: it cannot be moved. It stays where it is; taking it in again adds nothing to the lake.
            ChangedFileError: it was written to between the last look and the move, and is back in its place.
        """
        if self.claim_id is not None:
            mailbox.consume(self.claim_id)
        elif self.dialect is not None:
            with self._moving("removed"):
                self.path.unlink(missing_ok=True)
        else:
            self._move(INGESTED)

    def refuse(self, mailbox: Mailbox, problem: str) -> None:
        """It cannot be read at all: answer the dump with an error file, or move the local file to `rejected/`.

        Raises:
            ArrivalError, ChangedFileError: as for `done`.
            MailboxError: the dump cannot be answered now.
        """
        if self.claim_id is not None:
            mailbox.reject(self.claim_id, "unreadable", problem)
        else:
            self._move(REJECTED)

    def _move(self, folder: str) -> None:
        with self._moving(f"moved to {folder}/"):
            kept = self.path.parent / folder
            kept.mkdir(exist_ok=True)
            moved = _free(kept, self.path.name)
            self.path.replace(moved)
            # Whoever has the file open may have added to it since it was read, and whoever may write, replaced it.
            if self.status is None or file_hash.content_state(moved.lstat()) == file_hash.content_state(self.status):
                return
            moved.replace(_free(self.path.parent, self.path.name))
        raise ChangedFileError(self.name, f"changed before it was moved to {folder}/", "It is taken in once more")

    @contextmanager
    def _moving(self, how: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            cure = f"Give {self.path.parent} to the user who runs recoflow, or repair the disk; it is tried again"
            raise ArrivalError(self.name, f"cannot be {how}: {error.strerror}", cure) from error


@dataclass(frozen=True)
class Waiting:
    """Files that can be taken in now, and why others cannot."""

    arrivals: list[PendingFile]
    problems: list[ArrivalError]


def pending_files(mailbox: Mailbox, folder: Path, quiet_seconds: float, now: datetime) -> Waiting:
    """All complete files, dumps first, each group in the order of names.

    Names carry dates, so their order is the order in which the events happened.
    """
    dumps = [
        PendingFile(intake.name, intake.path, intake.claim_id)
        for dump_folder in DUMP_FOLDERS
        for intake in mailbox.pending(dump_folder)
    ]
    seen = local_folder.look(folder, quiet_seconds, now.timestamp(), partial(mailbox.rested, LOCAL))
    files = [PendingFile(file.name, file.path, status=file.status) for file in seen.files]
    return Waiting([*sorted(dumps, key=lambda each: each.name), *files], seen.problems)


def _free(folder: Path, name: str) -> Path:
    """The name in the folder, with a number before it where it is taken."""
    paths = itertools.chain((folder / name,), (folder / f"{n}.{name}" for n in itertools.count(2)))
    return next(path for path in paths if not os.path.lexists(path))


def segments(folder: Path) -> list[PendingFile]:
    """The sealed segments of the environment's spool, oldest first; those of one kind keep their order."""
    return [PendingFile(path.name, path, dialect=DIALECTS[spool.kind_of(path)]) for path in spool.sealed(folder)]
