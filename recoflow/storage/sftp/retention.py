"""Clearing up: lingering originals, old responses, forgotten staging files; and telling of what is not ours.

What belongs here: every deletion that is not part of another step. What does not: anything that the ledger does not
know: such files are reported and never touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from recoflow.storage.sftp import names
from recoflow.storage.sftp.claims import ANSWERING, FINAL, Claim, State
from recoflow.storage.sftp.context import SftpContext
from recoflow.storage.sftp.server_replies import MissingError

DAY: Final = 86_400.0


@dataclass(frozen=True)
class Sweep:
    """What a sweep did and found; names are escaped for people.

    Args:
        expired: responses removed after their retention.
        originals: claimed originals removed after their linger time, a count.
        foreign: files in responses/, claims/ or staging/ that the ledger does not know.
        stale: uploads under a temporary name, and markers without a file, older than a day.
        strange: links, folders and devices in the exchange folders.
    """

    expired: tuple[str, ...]
    originals: int
    foreign: tuple[str, ...]
    stale: tuple[str, ...]
    strange: tuple[str, ...]


def sweep(desk: SftpContext) -> Sweep:
    """Clear up once."""
    now = desk.now()
    originals = sum(_remove_original(desk, claim) for claim in _lingered(desk, now))
    expired = _expire(desk, now)
    _clear_staging(desk)
    _clear_inbox(desk, now)
    stale, strange = _exchange(desk)
    return Sweep(tuple(expired), originals, tuple(_foreign(desk)), tuple(stale), tuple(strange))


def _lingered(desk: SftpContext, now: float) -> list[Claim]:
    limit = now - desk.account.linger_seconds
    return [
        claim
        for claim in desk.ledger.on_server()
        if claim.state is not State.CLAIMED and claim.ingested_at is not None and claim.ingested_at <= limit
    ]


def _remove_original(desk: SftpContext, claim: Claim) -> bool:
    """Delete an original that is still as it was fetched; one that grew is left to `inbound.watch`."""
    remote = desk.claimed(claim)
    try:
        found = desk.session().lstat(remote)
        if (found.size, found.mtime) != (claim.size, claim.mtime):
            return False
        desk.session().remove(remote)
    except MissingError:
        pass
    desk.on_state("removed")
    desk.ledger.update(claim.id, is_removed=True)
    return True


def _expire(desk: SftpContext, now: float) -> list[str]:
    limit = now - desk.account.retention_days * DAY
    expired = []
    for response in desk.ledger.responses():
        if response.published_at > limit or desk.ledger.claim(response.claim).state in ANSWERING:
            continue
        try:
            desk.session().remove(b"responses/" + response.name.encode())
            expired.append(response.name)
        except MissingError:
            pass  # the consumer removed it
        desk.ledger.forget_response(response.name)
    return expired


def _clear_staging(desk: SftpContext) -> None:
    for entry in list(desk.session().scan(desk.staging_folder)):
        if (owner := desk.owner(entry.name)) is not None and owner.state in FINAL:
            desk.session().remove(desk.staging_folder + b"/" + entry.name)


def _clear_inbox(desk: SftpContext, now: float) -> None:
    limit = now - desk.account.retention_days * DAY
    for path in desk.inbox.iterdir():
        owner = desk.ledger.find(path.name.partition(".")[0])
        if owner is not None and owner.state in FINAL and (owner.ingested_at or 0.0) <= limit:
            path.unlink()


def _foreign(desk: SftpContext) -> list[str]:
    known = {response.name.encode() for response in desk.ledger.responses()}
    known |= {f.name.encode() for c in desk.ledger.in_state(*ANSWERING) for f in desk.ledger.outgoing(c.id)}
    found = [b"responses/" + name for name in _unowned(desk, b"responses") if name not in known]
    if desk.account.owns_server:
        found += [folder + b"/" + name for folder in (b"claims", b"staging") for name in _unowned(desk, folder)]
    return sorted(names.escaped(path) for path in found)


def _unowned(desk: SftpContext, folder: bytes) -> list[bytes]:
    return [entry.name for entry in desk.session().scan(folder) if desk.owner(entry.name) is None]


def _exchange(desk: SftpContext) -> tuple[list[str], list[str]]:
    limit = desk.clock.wall() - DAY
    stale, strange = [], []
    for folder in names.FOLDERS:
        for entry in desk.session().scan(folder.encode()):
            path = f"{folder}/{names.escaped(entry.name)}"
            if not entry.attributes.is_regular:
                strange.append(path)
            elif not names.is_data(entry.name) and entry.attributes.mtime < limit and not desk.owner(entry.name):
                stale.append(path)
    return sorted(stale), sorted(strange)
