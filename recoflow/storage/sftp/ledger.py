"""The ledger: what is known of every file that came in and every response that went out. SQLite, fsynced commits.

What belongs here: rows and their states. What does not: any act on the server or the disk (`inbound`, `outbound`).

The rule of the protocol: the intent is committed here before each external act, its result after it. Whoever dies in
between leaves a row that tells the next one what to look for. Times in rows are of the service clock (`service_time`).
"""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any, Final
from uuid import uuid4

from recoflow.errors import StorageError
from recoflow.storage.sftp.claims import ARRIVED, FINAL, Claim, ListingSnapshot, Outgoing, PublishedName, State
from recoflow.storage.sftp.clock import Clock
from recoflow.storage.sftp.ledger_tables import CLAIM_COLUMNS, STEPS, VERSION
from recoflow.storage.sftp.transfer import Content

ID_LENGTH: Final = 16
LONGEST_REBOOT: Final = 86_400.0  # a wall clock that was changed counts as one day at most


class Ledger:
    """The ledger of one account, opened or made at `path`.

    May be used from several threads, one at a time, and from several processes.

    Raises:
        StorageError: when the file is damaged or of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._guard = RLock()
        self._connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except sqlite3.OperationalError as error:  # the disk is full, the file is locked or not ours
            self._connection.close()
            raise StorageError(str(path), f"cannot be used: {error}", "Make room on this disk, check rights") from None
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise StorageError(str(path), f"is damaged: {error}", _REBUILD) from None
        except StorageError:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        if (found := self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise StorageError(str(self.path), f"is damaged: {found}", _REBUILD)
        with self.transaction() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise StorageError(str(self.path), f"is of version {version}, this is {VERSION}", "Update recoflow")
            for statements in STEPS[version:]:
                for statement in statements.split(";"):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Ledger:
        """It is open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, on disk when the block ends."""
        with self._guard:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def lock(self, name: str, *, seconds: float = 0) -> Iterator[bool]:
        """Hold the ledger's lock `name` among all processes; False when another holds it for `seconds`."""
        deadline = time.monotonic() + seconds
        with self.path.with_name(f"{self.path.name}.{name}.lock").open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        yield False
                        return
                    time.sleep(0.05)
                else:
                    break
            yield True

    # Time

    def service_time(self, clock: Clock) -> float:
        """Seconds of service since the ledger was made.

        Runs with the boot clock, so that a changed wall clock moves nothing; across a reboot it follows the wall
        clock, by a day at most (docs/spec/sftp.md, step 13).
        """
        boot_id, boot, wall = clock.boot_id(), clock.boot(), clock.wall()
        with self.transaction() as connection:
            row = connection.execute("SELECT boot_id, boot, wall, service FROM service_clock").fetchone()
            service = 0.0 if row is None else row[3] + _passed(row, boot_id, boot, wall)
            connection.execute(
                "INSERT OR REPLACE INTO service_clock VALUES (1, ?, ?, ?, ?)", (boot_id, boot, wall, service)
            )
        return float(service)

    # Sightings

    def sightings(self, folder: str) -> dict[bytes, ListingSnapshot]:
        """What the last scan of a folder left."""
        rows = self._all("SELECT name, size, mtime, boot_id, since FROM sightings WHERE folder = ?", folder)
        return {name: ListingSnapshot(*rest) for name, *rest in rows}

    def see(self, folder: str, changed: dict[bytes, ListingSnapshot], gone: Iterable[bytes]) -> None:
        """Write what a scan of a folder changed."""
        with self.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO sightings VALUES (?, ?, ?, ?, ?, ?)",
                [(folder, name, s.size, s.mtime, s.boot_id, s.since) for name, s in changed.items()],
            )
            connection.executemany(
                "DELETE FROM sightings WHERE folder = ? AND name = ?", [(folder, name) for name in gone]
            )

    def has_unclaimed(self, folder: str) -> bool:
        """Whether the last scan of a folder left files without a claim: they still grow, or wait for their turn."""
        claimed = "SELECT 1 FROM claims AS c WHERE c.folder = s.folder AND c.name = s.name AND c.size = s.size"
        unclaimed = f"SELECT 1 FROM sightings AS s WHERE s.folder = ? AND NOT EXISTS ({claimed} AND c.mtime = s.mtime)"
        return bool(self._all(f"{unclaimed} LIMIT 1", folder))

    # Claims

    def begin(
        self,
        folder: str,
        name: bytes,
        size: int,
        mtime: int,
        *,
        markers: tuple[bytes, ...] = (),
        is_whole: bool = False,
        parent: str | None = None,
        claim_id: str | None = None,
    ) -> Claim:
        """Write the intent to claim a file. A claim of that name that was denied is taken up again."""
        with self.transaction() as connection:
            denied = connection.execute(
                "DELETE FROM claims WHERE folder = ? AND name = ? AND state = ? RETURNING tries",
                (folder, name, State.CLAIM_DENIED),
            ).fetchall()
            made = claim_id or uuid4().hex[:ID_LENGTH]
            tries = sum(row[0] for row in denied)
            endings = b" ".join(markers).decode("ascii")
            connection.execute(
                "INSERT INTO claims (id, folder, name, state, size, mtime, markers, is_whole, parent, tries) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (made, folder, name, State.CLAIMING, size, mtime, endings, is_whole, parent, tries),
            )
        return self.claim(made)

    def deposit(self, claim_id: str, folder: str, name: bytes) -> Claim:
        """Write the intent to put a file of our own into the inbox; a claim of this id that there is stays as it is."""
        with self.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO claims (id, folder, name, state, size, mtime, markers, is_whole, is_removed) "
                "VALUES (?, ?, ?, ?, 0, 0, '', 1, 1)",
                (claim_id, folder, name, State.DEPOSITING),
            )
        return self.claim(claim_id)

    def is_empty(self) -> bool:
        """Whether no file was ever claimed."""
        return not self._all("SELECT 1 FROM claims LIMIT 1")

    def find(self, claim_id: str) -> Claim | None:
        """A claim by its id, None when there is none."""
        return next(iter(self._claims("id = ?", claim_id)), None)

    def claim(self, claim_id: str) -> Claim:
        """A claim by its id.

        Raises:
            StorageError: when there is none.
        """
        found = self.find(claim_id)
        if found is None:
            raise StorageError(f"{self.path}: claim {claim_id}", "is unknown", "Use an id that `pending` gave")
        return found

    def in_state(self, *states: State) -> list[Claim]:
        """Claims in any of these states, the oldest first."""
        return self._claims(f"state IN ({_marks(states)})", *states)

    def pending(self) -> list[Claim]:
        """Claims whose file is safe in the inbox and which no run has answered yet, the oldest first."""
        return self.in_state(State.INGESTED)

    def held(self) -> list[Claim]:
        """Unfinished claims whose last step failed, with the problem told."""
        return self._claims(f"problem IS NOT NULL AND state NOT IN ({_marks(FINAL)})", *FINAL)

    def is_known(self, problem: str) -> bool:
        """Whether a claim that waits for its answer has this problem."""
        found = self._all("SELECT 1 FROM claims WHERE state = ? AND problem = ? LIMIT 1", State.INGESTED, problem)
        return bool(found)

    def named(self, folder: str, name: bytes) -> list[Claim]:
        """Arrived claims of a folder and a name, the newest first."""
        return self._claims(f"folder = ? AND name = ? AND state IN ({_marks(ARRIVED)})", folder, name, *ARRIVED)[::-1]

    def on_server(self) -> list[Claim]:
        """Claims whose original still lies on the server."""
        excluded = (State.CLAIMING, State.CLAIM_DENIED, State.VANISHED)
        return self._claims(f"is_removed = 0 AND state NOT IN ({_marks(excluded)})", *excluded)

    def namesakes(self, claim: Claim) -> list[Claim]:
        """Other arrived claims of the same folder and name, the newest first."""
        return [other for other in self.named(claim.folder, claim.name) if other.id != claim.id]

    def is_newest(self, claim: Claim) -> bool:
        """Whether no newer file of its name has arrived: the newest owns the answer's name."""
        newer = self._all(
            "SELECT 1 FROM claims WHERE folder = ? AND name = ? AND number > (SELECT number FROM claims WHERE id = ?) "
            f"AND state IN ({_marks(ARRIVED)}) LIMIT 1",
            *(claim.folder, claim.name, claim.id, *ARRIVED),
        )
        return not newer

    def update(self, claim_id: str, **values: Any) -> Claim:
        """Set columns of a claim; a new state clears what went wrong in the old one."""
        if "state" in values:
            values = {"tries": 0, "retry_at": 0.0, "problem": None} | values
        assignments = ", ".join(f"{column} = ?" for column in values)
        with self.transaction() as connection:
            connection.execute(f"UPDATE claims SET {assignments} WHERE id = ?", (*values.values(), claim_id))
        return self.claim(claim_id)

    def ingested(self, claim: Claim, content: Content, at: float) -> Claim:
        """The file is safe in the inbox: the next revision of its name."""
        with self.transaction() as connection:
            connection.execute(
                "UPDATE claims SET state = ?, size = ?, sha256 = ?, ingested_at = ?, tries = 0, retry_at = 0, "
                "problem = NULL, revision = 1 + (SELECT coalesce(max(revision), 0) FROM claims "
                "WHERE folder = ? AND name = ?) WHERE id = ?",
                (State.INGESTED, content.size, content.sha256, at, claim.folder, claim.name, claim.id),
            )
        return self.claim(claim.id)

    # Answers

    def ready(self, claim_id: str, files: Iterable[Outgoing], at: float, reference: str | None = None) -> Claim:
        """Write down which files answer a claim, when they count as published, and their reference for `delivered`.

        An answer that may have been published before keeps the time of then.
        """
        with self.transaction() as connection:
            connection.execute("DELETE FROM outgoing WHERE claim = ?", (claim_id,))
            connection.executemany(
                "INSERT INTO outgoing VALUES (?, ?, ?, ?, ?, ?)",
                [(claim_id, f.position, str(f.local), f.name, f.content.size, f.content.sha256) for f in files],
            )
            connection.execute(
                "UPDATE claims SET state = ?, tries = 0, retry_at = 0, problem = NULL, reference = ?, delivered_at = "
                "CASE WHEN id IN (SELECT claim FROM responses) THEN coalesce(delivered_at, ?) ELSE ? END WHERE id = ?",
                (State.READY, reference, at, at, claim_id),
            )
        return self.claim(claim_id)

    def outgoing(self, claim_id: str) -> list[Outgoing]:
        """The files that answer a claim, in the order of their publication."""
        rows = self._all(
            "SELECT position, local, name, size, sha256 FROM outgoing WHERE claim = ? ORDER BY position", claim_id
        )
        return [Outgoing(row[0], Path(row[1]), row[2], Content(row[3], row[4])) for row in rows]

    def own(
        self, claim: Claim, files: Iterable[Outgoing], at: float, state: State, delivered_at: float | None = None
    ) -> Claim:
        """The files' names in responses/ are this claim's, which is PUBLISHING them or has PUBLISHED them.

        They are so from the intent on: a side file whose publication was cut off is then known as ours. `delivered_at`
        holds where `ready` gave none, as before version 0.2.
        """
        with self.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?)",
                [(f.name, claim.id, f.content.size, f.content.sha256, at) for f in files],
            )
            connection.execute(
                "UPDATE claims SET state = ?, tries = 0, retry_at = 0, problem = NULL, "
                "delivered_at = coalesce(delivered_at, ?) WHERE id = ?",
                (state, delivered_at, claim.id),
            )
        return self.claim(claim.id)

    def delivered(self) -> list[Claim]:
        """Claims whose answer was published with a reference that nobody acknowledged yet, the oldest first."""
        return self._claims("reference IS NOT NULL AND state IN ('published', 'rejected', 'expired')")

    def responses(self) -> list[PublishedName]:
        """Every name in responses/ that is ours, whether or not the consumer has removed it."""
        rows = self._all("SELECT name, claim, size, sha256, published_at FROM responses ORDER BY name")
        return [PublishedName(row[0], row[1], Content(row[2], row[3]), row[4]) for row in rows]

    def leftovers(self, claim: Claim) -> list[str]:
        """Names in responses/ that answered an older file of this claim's name and that its answer does not have."""
        rows = self._all(
            "SELECT responses.name FROM responses JOIN claims ON claims.id = responses.claim WHERE claims.folder = ? "
            "AND claims.name = ? AND responses.name NOT IN (SELECT name FROM outgoing WHERE claim = ?)",
            *(claim.folder, claim.name, claim.id),
        )
        return [name for (name,) in rows]

    def forget_response(self, name: str) -> None:
        """A name in responses/ is no longer ours; the claim whose last it was has expired."""
        with self.transaction() as connection:
            row = connection.execute("DELETE FROM responses WHERE name = ? RETURNING claim", (name,)).fetchone()
            if row:
                connection.execute(
                    "UPDATE claims SET state = ? WHERE id = ? AND state IN (?, ?) "
                    "AND NOT EXISTS (SELECT 1 FROM responses WHERE claim = claims.id)",
                    (State.EXPIRED, row[0], State.PUBLISHED, State.REJECTED),
                )

    def _claims(self, condition: str, *values: Any) -> list[Claim]:
        rows = self._all(f"SELECT {CLAIM_COLUMNS} FROM claims WHERE {condition} ORDER BY number", *values)
        return [_claim(row) for row in rows]

    def _all(self, query: str, *values: Any) -> list[Any]:
        with self._guard:
            return self._connection.execute(query, values).fetchall()


_REBUILD: Final = "Move it away and run `recoflow sftp rebuild`, which reads claims/ again; nothing is deleted by that"


def _claim(row: Any) -> Claim:
    values = dict(zip(CLAIM_COLUMNS.split(", "), row, strict=True))
    values["state"] = State(values["state"])
    values["markers"] = tuple(values["markers"].encode("ascii").split())
    values["is_whole"] = bool(values["is_whole"])
    values["is_removed"] = bool(values["is_removed"])
    return Claim(**values)


def _marks(values: Iterable[object]) -> str:
    return ", ".join("?" for _ in values)


def _passed(row: Any, boot_id: str, boot: float, wall: float) -> float:
    if row[0] == boot_id and boot >= row[1]:
        return float(boot - row[1])
    return min(max(wall - float(row[2]), 0.0), LONGEST_REBOOT)
