"""The mailbox: files that customers drop come in exactly once, answers go out whole (docs/spec/sftp.md).

What belongs here: the mailbox's public acts and their locks. What does not: the steps (`inbound`, `outbound`,
`retention`), and what the files say.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

from recoflow.errors import MailboxError
from recoflow.storage.sftp import attempts, inbound, names, outbound, retention, transfer, upload_completeness
from recoflow.storage.sftp.account import Account
from recoflow.storage.sftp.claims import ARRIVED, Claim, Delivery, Outgoing, State
from recoflow.storage.sftp.clock import Clock, SystemClock
from recoflow.storage.sftp.context import SftpContext
from recoflow.storage.sftp.ledger import Ledger
from recoflow.storage.sftp.retention import Sweep
from recoflow.storage.sftp.server_replies import Attributes, LinkLostError, ListingEntry

LIMIT: Final = 100
PUBLISH_SECONDS: Final = 600.0  # how long an answer waits for the answers before it
T = TypeVar("T")


@dataclass(frozen=True)
class IncomingFile:
    """A file that is safely here.

    Args:
        claim_id: stable; names the claim in every other act.
        folder: requests, periodic or one_time.
        name: the remote name, exactly.
        path: the local copy; its name says nothing, and its bytes never change.
        sha256, size: of its content.
        revision: 1 for the first file of this name, then 2, …; the newest owns the answer.
        attempts: runs that were started for it.
        lost: runs that began to work on it, and neither answered it nor reported a failure.
        is_due: the pause after its last attempt is over.
        is_hopeless: no further attempt is worth it, see `storage.sftp.attempts`.
        problem: the last failure, for people; None before one.
    """

    claim_id: str
    folder: str
    name: str
    path: Path
    sha256: str
    size: int
    revision: int
    attempts: int = 0
    lost: int = 0
    is_due: bool = True
    is_hopeless: bool = False
    problem: str | None = None


class Mailbox:
    """One environment's SFTP account.

    Args:
        account: server, keys and limits.
        ledger: what is known; one file per account.
        inbox: local folder of the fetched files, best beside the ledger.
        clock: wall and boot clock.
        on_state: called with a step's name after each commit and each external act (tests stop there).

    All acts may be repeated, by several processes at once, after a crash at any point. They raise `LinkLostError` when
    the server is away (try later) and other `MailboxError`s for what a person must mend. What concerns one file holds
    back that file alone; `held` tells which and why.
    """

    def __init__(
        self,
        account: Account,
        ledger: Ledger,
        inbox: Path,
        clock: Clock | None = None,
        *,
        on_state: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._desk = SftpContext(account, ledger, inbox, clock or SystemClock(), on_state)

    def __enter__(self) -> Mailbox:
        """Nothing is opened before it is needed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up."""
        self.close()

    def close(self) -> None:
        """Hang up; the next act connects again."""
        self._desk.link.close()

    def poll(self, folder: str = "requests", limit: int = LIMIT) -> list[IncomingFile]:
        """Scan a folder once, claim what is complete (`limit` files at most) and fetch it.

        Returns what came in now and needs a run; `pending` tells what came in earlier. [] while another process polls.
        """
        with self._desk.ledger.lock("tick") as is_ours:
            return self._reconnecting(lambda: self._poll(folder, limit)) if is_ours else []

    def resume(self) -> None:
        """Finish what was interrupted, and what was held back and is due: claims, fetches, publications."""
        with self._desk.ledger.lock("tick") as is_ours:
            if is_ours:
                self._reconnecting(self._resume_intake)
        with self._desk.ledger.lock("publish") as is_ours:
            if is_ours:
                self._reconnecting(lambda: outbound.advance_due(self._desk))

    def pending(self, folder: str | None = None) -> list[IncomingFile]:
        """Files that are here and that no run has answered yet, of one folder or of all, the oldest first."""
        return [self._told(claim) for claim in self._desk.ledger.pending() if folder in {None, claim.folder}]

    def expects(self, folder: str) -> bool:
        """Whether the last poll left files in a folder that are not complete yet, or beyond its limit."""
        return self._desk.ledger.has_unclaimed(folder)

    def deposit(self, name: str, content: bytes, folder: str = "requests") -> IncomingFile:
        """Take in a file of our own as if a customer had sent it: it is pending, its answer goes into responses/.

        Once per name: a second deposit gives what became of the first. The server is not needed.
        """
        with self._desk.ledger.lock("deposit", seconds=60) as is_ours:
            if not is_ours:
                raise MailboxError(str(self._desk.ledger.path), "is busy", "Deposit again later")
            self._desk.check_ledger()
            return self._told(inbound.deposit(self._desk, folder, _checked(name), content))

    def attempted(self, claim_id: str) -> int:
        """Count a run that is started for a claim; claim id and this number make its run key."""
        return attempts.started(self._desk.ledger, claim_id, self._desk.now())

    def begun(self, claim_ids: Sequence[str]) -> None:
        """Count a run that begins to work on these claims."""
        attempts.begun(self._desk.ledger, list(claim_ids))

    def failed(self, claim_id: str, problem: str, *, is_own: bool) -> bool:
        """Count a failure that a run reports; `is_own` when the file itself is its cause.

        Returns whether the problem is new: no other file that waits for its answer has it.
        """
        return attempts.count_failure(self._desk.ledger, claim_id, problem, self._desk.now(), is_own=is_own)

    def suspect(self, claim_id: str, problem: str) -> bool:
        """Note what is wrong with a file's last run, which reported nothing. Returns whether the problem is new."""
        is_new = not self._desk.ledger.is_known(problem)
        self._desk.ledger.update(claim_id, problem=problem)
        return is_new

    def give_up(self, claim_id: str) -> State:
        """Answer a claim with an errors file that asks for another upload, because no attempt had success."""
        return self.reject(claim_id, attempts.GIVEN_UP, attempts.EXCUSE)

    def retry(self, claim_id: str) -> IncomingFile:
        """Forget how earlier attempts at a claim ended, so that the next one is due now.

        Raises:
            MailboxError: it is answered, or its file is not here any more.
        """
        claim = self._desk.ledger.claim(claim_id)
        culprit = names.escaped(claim.name)
        if claim.state is not State.INGESTED and not (claim.state is State.REJECTED and attempts.is_given_up(claim)):
            raise MailboxError(culprit, f"is {claim.state}: it waits for no attempt", "Drop a changed file instead")
        if not self._desk.local(claim).exists():
            raise MailboxError(culprit, "is not here any more", "Drop the file again")
        return self._told(attempts.reset(self._desk.ledger, claim_id))

    def newest(self, name: str, folder: str = "requests") -> str | None:
        """The claim of the newest file of a name, None when none has arrived."""
        return next(
            (claim.id for claim in self._desk.ledger.named(folder, name.encode("utf-8", "surrogateescape"))), None
        )

    def rested(self, place: str, found: Mapping[bytes, tuple[int, int]]) -> set[bytes]:
        """Which local files were seen as they are now for the quiet time, by the boot clock.

        Args:
            place: the folder's name, none of those on the server.
            found: name → size and time of change of all of its files whose time of change tells nothing.
        """
        ledger, clock = self._desk.ledger, self._desk.clock
        seen = ledger.sightings(place)
        entries = [ListingEntry(name, Attributes(size, stat.S_IFREG, mtime)) for name, (size, mtime) in found.items()]
        quiet = self._desk.account.quiet_seconds
        verdict = upload_completeness.classify(entries, seen, quiet, clock.boot_id(), clock.boot())
        if verdict.changed or verdict.gone:
            ledger.see(place, verdict.changed, verdict.gone)
        return {complete.entry.name for complete in verdict.complete}

    def held(self) -> list[tuple[str, str]]:
        """Files that cannot go on for now: escaped remote name and problem."""
        return [(names.escaped(claim.name), claim.problem or "") for claim in self._desk.ledger.held()]

    def publish(
        self,
        claim_id: str,
        files: Sequence[tuple[Path, str]],
        *,
        reference: str | None = None,
        on_ready: Callable[[datetime], object] | None = None,
    ) -> State:
        """Publish the answer to a claim.

        Args:
            claim_id: of a file that was fetched.
            files: local paths and their names in responses/, the response itself last.
            reference: the name under which `delivered` reports the answer once it is published.
            on_ready: called before the upload with the time of publication; an answer that was published before keeps
                its first time.

        Returns PUBLISHED (REJECTED for a claim that was rejected), or SUPERSEDED when a newer file of that name has
        arrived: then nothing was published. After an error the next `resume` goes on where this stopped.
        """
        claim = self._desk.ledger.claim(claim_id)
        if claim.state not in {*ARRIVED, State.SUPERSEDED}:
            raise MailboxError(f"claim {claim_id}", f"is {claim.state}", "Publish answers to files that were fetched")
        outgoing = [
            Outgoing(position, path, _checked(name), transfer.local_content(path))
            for position, (path, name) in enumerate(files)
        ]
        if not outgoing or len({file.name for file in outgoing}) < len(outgoing):
            raise MailboxError(f"claim {claim_id}", "has no answer, or two files of one name", "Give each its own name")
        with self._publishing():
            claim = self._desk.ledger.ready(claim_id, outgoing, self._desk.clock.wall(), reference)
            self._desk.on_state("ready")
            if on_ready is not None:
                assert claim.delivered_at is not None
                on_ready(datetime.fromtimestamp(claim.delivered_at, UTC))
            return self._advance(claim)

    def delivered(self) -> list[Delivery]:
        """Answers that were published with a reference and not acknowledged yet, the oldest first."""
        return [
            Delivery(claim.id, claim.reference, datetime.fromtimestamp(claim.delivered_at, UTC))
            for claim in self._desk.ledger.delivered()
            if claim.reference is not None and claim.delivered_at is not None
        ]

    def acknowledge(self, delivery: Delivery) -> None:
        """What was to be done about a delivery is done: it is not told again."""
        self._desk.ledger.update(delivery.claim_id, reference=None)

    def reject(self, claim_id: str, code: str, message: str) -> State:
        """Answer a claim with its errors file (see `names.side`) alone: for files that no run can read."""
        with self._publishing():
            inbound.reject(self._desk, self._desk.ledger.claim(claim_id), code, message)
            return self._advance(self._desk.ledger.claim(claim_id))

    def consume(self, claim_id: str) -> None:
        """A dump is in the lake: it is not pending any more and has no answer."""
        self._desk.ledger.update(claim_id, state=State.CONSUMED)

    def sweep(self) -> Sweep:
        """Remove lingering originals and responses past their retention; report what is not ours and leave it.

        There is no `now`: ages are told by the service clock, which a changed wall clock does not move.
        """
        with self._desk.ledger.lock("tick", seconds=60) as has_tick, self._publishing():
            if not has_tick:
                raise MailboxError(str(self._desk.ledger.path), "is busy", "Sweep again later")
            return self._reconnecting(lambda: retention.sweep(self._desk))

    def unanswered(self, seconds: float) -> list[str]:
        """Escaped names of requests that came in so long ago and have no answer."""
        limit = self._desk.now() - seconds
        return [
            names.escaped(claim.name)
            for claim in self._desk.ledger.pending()
            if claim.folder == "requests" and claim.ingested_at is not None and claim.ingested_at < limit
        ]

    def untaken(self, seconds: float) -> list[str]:
        """What lies in the exchange folders, unchanged for so long: folder and escaped name of each."""
        return self._reconnecting(lambda: inbound.untaken_files(self._desk, seconds))

    def unknown(self) -> list[str]:
        """Claims that lie on the server and that the ledger does not know: folder and escaped name of each."""
        found = self._reconnecting(lambda: inbound.unknown_claims(self._desk))
        return [f"{folder}/{names.escaped(name)}" for folder, _, name, _ in found]

    def rebuild(self) -> int:
        """After the loss of the ledger: take up every claim that lies on the server and that the ledger does not know.

        Each is fetched and answered again, with the same bytes as before. Returns how many there were. Not for an
        account that two installations share: the other's claims would be taken too.
        """
        with self._desk.ledger.lock("tick", seconds=60) as is_ours:
            if not is_ours:
                raise MailboxError(str(self._desk.ledger.path), "is busy", "Stop the service before a rebuild")
            return self._reconnecting(lambda: inbound.adopt(self._desk))

    def _poll(self, folder: str, limit: int) -> list[IncomingFile]:
        desk = self._desk
        desk.check_ledger()
        inbound.check_claims(desk)
        inbound.settle_renames(desk)
        inbound.scan_folder(desk, folder, limit)
        inbound.watch(desk, folder)
        return [self._told(claim) for claim in inbound.fetch_due(desk, folder)]

    def _resume_intake(self) -> None:
        self._desk.check_ledger()
        inbound.check_claims(self._desk)
        inbound.settle_renames(self._desk)
        inbound.fetch_due(self._desk)
        for claim in self._desk.ledger.pending():
            if claim.attempts == 0:
                inbound.identify(self._desk, claim)

    def _advance(self, claim: Claim) -> State:
        ledger = self._desk.ledger
        return self._reconnecting(lambda: outbound.advance(self._desk, ledger.claim(claim.id))).state

    @contextmanager
    def _publishing(self) -> Iterator[None]:
        with self._desk.ledger.lock("publish", seconds=PUBLISH_SECONDS) as is_ours:
            if not is_ours:
                raise MailboxError(str(self._desk.ledger.path), "is busy with other answers", "Publish again later")
            yield

    def _reconnecting(self, act: Callable[[], T]) -> T:
        """Acts are repeatable, so that a connection that broke since the last one costs nothing but a second try."""
        try:
            return act()
        except LinkLostError:
            self.close()
            return act()

    def _told(self, claim: Claim) -> IncomingFile:
        return IncomingFile(
            claim_id=claim.id,
            folder=claim.folder,
            name=claim.name.decode("utf-8"),
            path=self._desk.local(claim),
            sha256=claim.sha256 or "",
            size=claim.size,
            revision=claim.revision or 1,
            attempts=claim.attempts,
            lost=attempts.lost_runs_of(claim),
            is_due=claim.retry_at == 0 or claim.retry_at <= self._desk.now(),
            is_hopeless=attempts.is_hopeless(claim),
            problem=claim.problem,
        )


def _checked(name: str) -> str:
    if fault := names.fault(name.encode("utf-8", "surrogateescape")):
        raise MailboxError(names.escaped(name.encode("utf-8", "surrogateescape")), fault, "Answer under another name")
    return name
