"""From a rendered answer into responses/: staged, verified, renamed.

What belongs here: the steps from `ready` to `published`. What does not: who is answered with what (campaigns).

A customer never sees half a file: every file of an answer is complete in staging before the first is renamed, and the
response itself is renamed last.
"""

from __future__ import annotations

from contextlib import suppress

from recoflow.storage.sftp import transfer
from recoflow.storage.sftp.claims import Claim, Outgoing, State
from recoflow.storage.sftp.context import SftpContext
from recoflow.storage.sftp.server_replies import MissingError


def advance(desk: SftpContext, claim: Claim) -> Claim:
    """Bring an answer as far as it goes, from wherever it stands; a newer file of the same name takes its place.

    Raises:
        MailboxError: when a step failed; the state that was reached stays.
    """
    if not desk.ledger.is_newest(claim):
        return desk.ledger.update(claim.id, state=State.SUPERSEDED)
    files = desk.ledger.outgoing(claim.id)
    if claim.state is State.READY:
        for file in files:
            _upload(desk, claim, file)
        claim = desk.ledger.update(claim.id, state=State.UPLOADED)
        desk.on_state("uploaded")
    if claim.state is State.UPLOADED:
        claim = desk.ledger.own(claim, files, desk.now(), State.PUBLISHING)
        desk.on_state("publishing")
    for file in files:
        _publish(desk, claim, file)
    _remove_leftovers(desk, claim)
    state = State.REJECTED if claim.rejection else State.PUBLISHED
    claim = desk.ledger.own(claim, files, desk.now(), state, desk.clock.wall())
    desk.on_state("published")
    return claim


def advance_due(desk: SftpContext) -> None:
    """Finish every answer that was begun and is due; one that fails is held back alone."""
    now = desk.now()
    for claim in desk.ledger.in_state(State.READY, State.UPLOADED, State.PUBLISHING):
        if claim.retry_at <= now:
            with desk.holding(claim):
                advance(desk, claim)


def _upload(desk: SftpContext, claim: Claim, file: Outgoing) -> None:
    staged = desk.staged(claim, file.position)
    transfer.upload(desk.session(), file.local, staged, file.content, reads_back=desk.account.reads_back)
    if desk.account.file_mode is not None:
        desk.session().chmod(staged, desk.account.file_mode)
    desk.on_state("staged")


def _publish(desk: SftpContext, claim: Claim, file: Outgoing) -> None:
    """One rename. When an earlier one's answer was lost: staged file there → again; our bytes there → done."""
    session = desk.session()
    staged, target = desk.staged(claim, file.position), b"responses/" + file.name.encode()
    try:
        session.rename(staged, target)
    except MissingError:
        if _holds(desk, target, file):
            return
        _upload(desk, claim, file)
        session.rename(staged, target)
    desk.on_state("moved")


def _holds(desk: SftpContext, target: bytes, file: Outgoing) -> bool:
    try:
        return transfer.remote_content(desk.session(), target) == file.content
    except MissingError:
        return False


def _remove_leftovers(desk: SftpContext, claim: Claim) -> None:
    """Side files of the older answer that this one does not have."""
    for name in desk.ledger.leftovers(claim):
        with suppress(MissingError):
            desk.session().remove(b"responses/" + name.encode())
        desk.ledger.forget_response(name)
