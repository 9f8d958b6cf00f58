"""What the acts of the mailbox share: account, ledger, link, clock, the remote places, and how a failure is held.

What belongs here: nothing that moves a file. What does not: the protocol's steps (`inbound`, `outbound`, `retention`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from recoflow.errors import MailboxError, StorageError
from recoflow.storage.sftp.account import Account
from recoflow.storage.sftp.claims import Claim
from recoflow.storage.sftp.clock import Clock
from recoflow.storage.sftp.connection import Link
from recoflow.storage.sftp.ledger import ID_LENGTH, Ledger
from recoflow.storage.sftp.protocol import Session
from recoflow.storage.sftp.server_replies import LinkLostError

HIDDEN: Final = b".recoflow-"
FIRST_WAIT: Final = 2.0  # seconds until a failed step is tried again; doubled with each failure
LONGEST_WAIT: Final = 900.0


@dataclass
class SftpContext:
    """One account at work.

    Args:
        account: the SFTP account.
        ledger: its ledger.
        inbox: local folder of the fetched files.
        clock: wall and boot clock.
        on_state: called with a step's name after each commit and each external act; tests crash there.
    """

    account: Account
    ledger: Ledger
    inbox: Path
    clock: Clock
    on_state: Callable[[str], None]
    link: Link = field(init=False)

    def __post_init__(self) -> None:
        """Make the inbox; the link opens when it is first needed."""
        self.link = Link(self.account)
        self.inbox.mkdir(parents=True, exist_ok=True)

    def session(self) -> Session:
        """The open SFTP session."""
        return self.link.session()

    def now(self) -> float:
        """The service clock, in seconds."""
        return self.ledger.service_time(self.clock)

    def original(self, claim: Claim) -> bytes:
        """Where the customer put the file."""
        return claim.folder.encode() + b"/" + claim.name

    def claims_folder(self, folder: str) -> bytes:
        """Where the claims of an exchange folder lie."""
        return b"claims" if self.account.owns_server else folder.encode()

    def claimed(self, claim: Claim) -> bytes:
        """Where the claim lies; the name says which file it was, so that a lost ledger can be rebuilt."""
        if self.account.owns_server:
            return b"claims/%b.%b.%b" % (claim.id.encode(), claim.folder.encode(), claim.name[:200])
        return b"%b/%b%b.%b" % (claim.folder.encode(), HIDDEN, claim.id.encode(), claim.name[:200])

    def claim_parts(self, name: bytes, folder: str) -> tuple[str, bytes] | None:
        """Claim id and customer's name out of a claim's name, None when it is not a claim of this folder."""
        own = b"%b." % folder.encode() if self.account.owns_server else b""
        found = re.fullmatch(rb"(?:%b)?([0-9a-f]{16})\.%b(.+)" % (re.escape(HIDDEN), own), name, re.DOTALL)
        return (found[1].decode("ascii"), found[2]) if found else None

    @property
    def staging_folder(self) -> bytes:
        """Where answers wait until they are whole."""
        return b"staging" if self.account.owns_server else b"responses"

    def staged(self, claim: Claim, position: int) -> bytes:
        """Where a file of an answer waits."""
        prefix = b"" if self.account.owns_server else HIDDEN
        return b"%b/%b%b-%d" % (self.staging_folder, prefix, claim.id.encode(), position)

    def owner(self, name: bytes) -> Claim | None:
        """The claim whose lying or staged file has this name, None when it is not one of ours."""
        claim_id = name.removeprefix(HIDDEN)[:ID_LENGTH]
        return self.ledger.find(claim_id.decode("ascii", "replace"))

    def local(self, claim: Claim) -> Path:
        """Where the fetched file lies; nothing of its remote name is in it."""
        return self.inbox / claim.id

    def check_ledger(self) -> None:
        """Refuse to begin at nothing where there was a ledger: every lingering claim would look like a stranger's.

        Raises:
            StorageError: when the ledger is empty and the inbox is not.
        """
        if self.ledger.is_empty() and any(self.inbox.iterdir()):
            raise self.lost_ledger("is empty though files have come in")

    def lost_ledger(self, problem: str, advice: str = "") -> StorageError:
        """The error for a ledger that was removed or replaced; `advice` is added to its cure."""
        cure = (
            f"Put it back, or run `recoflow sftp rebuild {self.account.environment}`, which reads claims/ again and "
            f"answers each with the same bytes as before; nothing is deleted by that{advice}"
        )
        return StorageError(str(self.ledger.path), f"{problem}: it was removed or replaced", cure)

    @contextmanager
    def holding(self, claim: Claim) -> Iterator[None]:
        """Run one claim's step: a failure holds this claim back for a while and no other.

        Raises:
            LinkLostError: that concerns every claim.
        """
        try:
            yield
        except LinkLostError:
            raise
        except (MailboxError, OSError) as error:
            self.hold(claim, str(error))

    def hold(self, claim: Claim, problem: str, seconds: float | None = None) -> None:
        """Note a failure; the step is due again after `seconds`, or after an exponentially growing wait."""
        current = self.ledger.claim(claim.id)
        wait = _backoff(claim.id, current.tries) if seconds is None else seconds
        self.ledger.update(claim.id, tries=current.tries + 1, retry_at=self.now() + wait, problem=problem)


def _backoff(claim_id: str, tries: int) -> float:
    # The jitter comes from the claim, not from chance: claims that failed together do not return together.
    jitter = 0.5 + hashlib.sha256(f"{claim_id}{tries}".encode()).digest()[0] / 255
    return min(LONGEST_WAIT, FIRST_WAIT * 2.0**tries) * jitter
