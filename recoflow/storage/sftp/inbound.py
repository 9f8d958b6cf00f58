"""From the customer's folder into the inbox: scan, claim, fetch, identify.

What belongs here: the steps up to the state `ingested`. What does not: answers (`outbound`), clearing up (`retention`).
Every step may be cut off at any point and is finished, or undone, by `settle` and the next scan.
"""

from __future__ import annotations

import csv
import hashlib
import io
from typing import Final

from recoflow.storage import atomic_files
from recoflow.storage.sftp import attempts, names, transfer, upload_completeness
from recoflow.storage.sftp.claims import Claim, Outgoing, State
from recoflow.storage.sftp.context import SftpContext
from recoflow.storage.sftp.ledger import ID_LENGTH
from recoflow.storage.sftp.server_replies import Attributes, MissingError, SftpStatusError

LARGEST_MARKER: Final = 4096
DIGEST_TRIES: Final = 3
CUT: Final = "looks cut off: an open quote, or a last row that is shorter than the header or has no end"


def settle_renames(desk: SftpContext) -> None:
    """Find out what became of renames whose answer is not known."""
    for claim in desk.ledger.in_state(State.CLAIMING):
        _arrive(desk, claim)


def scan_folder(desk: SftpContext, folder: str, limit: int) -> None:
    """Scan a folder once and claim what is complete, `limit` files at most, the oldest first."""
    ledger, clock = desk.ledger, desk.clock
    entries = list(desk.session().scan(folder.encode()))
    verdict = upload_completeness.classify(
        entries, ledger.sightings(folder), desk.account.quiet_seconds, clock.boot_id(), clock.boot()
    )
    ledger.see(folder, verdict.changed, verdict.gone)
    waiting = _denied(desk, folder, {entry.name for entry in entries})
    due = [found for found in verdict.complete if found.entry.name not in waiting]
    for found in due[:limit]:
        _claim(desk, folder, found)


def watch(desk: SftpContext, folder: str) -> None:
    """Look at the claimed originals: one that grew since it was fetched becomes a new revision."""
    lingering = [
        claim for claim in desk.ledger.on_server() if claim.folder == folder and claim.state is not State.CLAIMED
    ]
    if not lingering:
        return
    place = desk.claims_folder(folder)
    found = {place + b"/" + entry.name: entry.attributes for entry in desk.session().scan(place)}
    for claim in lingering:
        attributes = found.get(desk.claimed(claim))
        if attributes is None:
            desk.ledger.update(claim.id, is_removed=True)
        elif (attributes.size, attributes.mtime) != (claim.size, claim.mtime):
            _reclaim(desk, claim, attributes)


def fetch_due(desk: SftpContext, folder: str | None = None) -> list[Claim]:
    """Fetch what is claimed and due, of one folder or of all; the claims that a run must answer now."""
    now = desk.now()
    due = [c for c in desk.ledger.in_state(State.CLAIMED) if c.retry_at <= now and folder in {None, c.folder}]
    ingested = []
    for claim in due:
        with desk.holding(claim):
            _fetch(desk, claim)
            if (found := desk.ledger.claim(claim.id)).state is State.INGESTED:
                ingested.append(found)
    return ingested


def identify(desk: SftpContext, claim: Claim) -> None:
    """See whether the same name came with the same bytes before: then there is no second run.

    One that was given up is no answer: the same bytes are tried again.
    """
    ledger = desk.ledger
    namesakes = ledger.namesakes(claim)
    twin = next((other for other in namesakes if other.sha256 == claim.sha256), None)
    if twin is None or attempts.is_given_up(twin):
        return
    is_last = twin.id == namesakes[0].id
    if is_last and (twin.state is State.INGESTED or twin.id == claim.parent):
        ledger.update(claim.id, state=State.SUPERSEDED)
        if twin.state is State.INGESTED:  # it was sent again because it is not answered: try now
            attempts.reset(ledger, twin.id)
    elif twin.state is State.CONSUMED:
        ledger.update(claim.id, state=State.CONSUMED)
    elif _is_kept(files := ledger.outgoing(twin.id)):
        ledger.update(claim.id, rejection=twin.rejection)
        ledger.ready(claim.id, files, desk.clock.wall(), twin.reference)


def deposit(desk: SftpContext, folder: str, name: str, content: bytes) -> Claim:
    """Put a file of our own into the inbox, as if it had been fetched; once per name, whatever the content."""
    claim_id = hashlib.sha256(f"deposit\0{folder}\0{name}".encode()).hexdigest()[:ID_LENGTH]
    claim = desk.ledger.deposit(claim_id, folder, name.encode())
    if claim.state is not State.DEPOSITING:
        return claim
    desk.on_state("depositing")
    atomic_files.write_atomic(desk.local(claim), content)
    desk.on_state("deposited")
    return desk.ledger.ingested(claim, transfer.local_content(desk.local(claim)), desk.now())


def adopt(desk: SftpContext) -> int:
    """Take up claims on the server that the ledger does not know; how many there were."""
    found = unknown_claims(desk)
    for folder, claim_id, name, attributes in found:
        _arrive(desk, desk.ledger.begin(folder, name, attributes.size, attributes.mtime, claim_id=claim_id))
    return len(found)


def unknown_claims(desk: SftpContext) -> list[tuple[str, str, bytes, Attributes]]:
    """Claims on the server that the ledger does not know: folder, id, name, and what the file is like."""
    return [
        (folder, *parts, entry.attributes)
        for folder in names.FOLDERS
        for entry in list(desk.session().scan(desk.claims_folder(folder)))
        if desk.owner(entry.name) is None and (parts := desk.claim_parts(entry.name, folder)) is not None
    ]


def untaken_files(desk: SftpContext, seconds: float) -> list[str]:
    """What lies in the exchange folders, unchanged for so long, and is no claim: folder and escaped name of each."""
    limit = desk.clock.wall() - seconds
    return sorted(
        f"{folder}/{names.escaped(entry.name)}"
        for folder in names.FOLDERS
        for entry in list(desk.session().scan(folder.encode()))
        if entry.attributes.mtime < limit and desk.owner(entry.name) is None
    )


def check_claims(desk: SftpContext) -> None:
    """Refuse to begin at nothing where claims of ours lie on the server: they would never be answered.

    Where the folders are shared with others, hidden claims may be theirs.

    Raises:
        StorageError: the ledger is empty and claims/ is not.
    """
    if desk.account.owns_server and desk.ledger.is_empty() and (found := unknown_claims(desk)):
        advice = ". If another installation uses this account, set sftp.owns_server to false for both"
        raise desk.lost_ledger(f"is empty though {len(found)} claims lie on the server", advice)


def reject(desk: SftpContext, claim: Claim, code: str, message: str) -> None:
    """Answer a claim with an error file alone, ready to be published; the file's own rows are never looked at."""
    report = io.StringIO()
    writer = csv.writer(report, lineterminator="\n")
    writer.writerows((("line", "column", "code", "message"), ("", "", code, message)))
    path = desk.inbox / f"{claim.id}.errors.csv"
    path.write_text(report.getvalue(), encoding="utf-8")
    name = names.side(claim.name, names.ERRORS, claim.folder)
    ingested_at = claim.ingested_at if claim.ingested_at is not None else desk.now()
    desk.ledger.update(claim.id, rejection=f"{code}: {message}", ingested_at=ingested_at)
    files = [Outgoing(0, path, name, transfer.local_content(path))]
    desk.ledger.ready(claim.id, files, desk.clock.wall())


def _denied(desk: SftpContext, folder: str, present: set[bytes]) -> set[bytes]:
    """Names whose claim was refused and is not due yet; those that are gone are closed."""
    now = desk.now()
    waiting = set()
    for claim in desk.ledger.in_state(State.CLAIM_DENIED):
        if claim.folder == folder and claim.name not in present:
            desk.ledger.update(claim.id, state=State.VANISHED)
        elif claim.folder == folder and claim.retry_at > now:
            waiting.add(claim.name)
    return waiting


def _claim(desk: SftpContext, folder: str, found: upload_completeness.Complete) -> None:
    entry = found.entry
    claim = desk.ledger.begin(
        folder,
        entry.name,
        entry.attributes.size,
        entry.attributes.mtime,
        markers=found.markers,
        is_whole=found.is_whole,
    )
    desk.on_state("claiming")
    _rename(desk, claim, desk.original(claim))


def _reclaim(desk: SftpContext, grown: Claim, found: Attributes) -> None:
    claim = desk.ledger.begin(grown.folder, grown.name, found.size, found.mtime, parent=grown.id)
    desk.on_state("reclaiming")
    _rename(desk, claim, desk.claimed(grown))


def _rename(desk: SftpContext, claim: Claim, source: bytes) -> None:
    try:
        desk.session().rename(source, desk.claimed(claim))
    except MissingError:
        _arrive(desk, claim)
    except SftpStatusError as error:
        desk.ledger.update(claim.id, state=State.CLAIM_DENIED, tries=claim.tries)
        desk.hold(claim, str(error))
    else:
        desk.on_state("renamed")
        _arrive(desk, claim)


def _arrive(desk: SftpContext, claim: Claim) -> None:
    """The claim is where we wanted it, or someone else took the file (then the next scan decides afresh)."""
    try:
        desk.session().lstat(desk.claimed(claim))
    except MissingError:
        desk.ledger.update(claim.id, state=State.VANISHED)
        return
    desk.ledger.update(claim.id, state=State.CLAIMED)
    if claim.parent is not None:
        desk.ledger.update(claim.parent, is_removed=True)
        desk.ledger.update(claim.id, retry_at=desk.now() + desk.account.quiet_seconds)
    desk.on_state("claimed")


def _fetch(desk: SftpContext, claim: Claim) -> None:
    session, remote = desk.session(), desk.claimed(claim)
    try:
        found = session.lstat(remote)
    except MissingError:
        desk.ledger.update(claim.id, state=State.VANISHED)
        return
    if (found.size, found.mtime) != (claim.size, claim.mtime):  # someone still writes to it
        desk.ledger.update(
            claim.id, size=found.size, mtime=found.mtime, retry_at=desk.now() + desk.account.quiet_seconds
        )
        return
    refusal = _refusal(desk, claim, found)
    if refusal is not None:
        reject(desk, claim, *refusal)
        return
    content = transfer.fetch(session, remote, found.size, desk.local(claim))
    desk.on_state("fetched")
    if _is_whole(desk, claim, content):
        _remove_markers(desk, claim)
        identify(desk, desk.ledger.ingested(claim, content, desk.now()))
        desk.on_state("ingested")


def _refusal(desk: SftpContext, claim: Claim, found: Attributes) -> tuple[str, str] | None:
    if fault := names.fault(claim.name):
        return "bad_name", f"The file name {names.escaped(claim.name)} {fault}. Rename it and send it again."
    if not found.is_regular:
        return "not_a_file", "Only regular files are read. Send the file itself."
    if found.size > (limit := desk.account.max_bytes):
        return "too_large", f"The file has {found.size} bytes, {limit} are allowed. Split it and send the parts."
    return None


def _is_whole(desk: SftpContext, claim: Claim, content: transfer.Content) -> bool:
    if names.DIGEST in claim.markers and (told := _told_digest(desk, claim)) is not None:
        if told == content.sha256:
            return True
        if claim.tries + 1 < DIGEST_TRIES:
            desk.hold(claim, f"has SHA-256 {content.sha256}, its marker says {told}")
        else:
            reject(desk, claim, "sha256_mismatch", f"The file has SHA-256 {content.sha256}, its marker says {told}.")
        return False
    is_waited_for = claim.problem == CUT
    if not claim.is_whole and not is_waited_for and upload_completeness.looks_cut(desk.local(claim), claim.name):
        desk.hold(claim, CUT, upload_completeness.EMPTY_FACTOR * desk.account.quiet_seconds)
        return False
    return True


def _told_digest(desk: SftpContext, claim: Claim) -> str | None:
    try:
        marker = transfer.small(desk.session(), desk.original(claim) + names.DIGEST, LARGEST_MARKER)
    except MissingError:
        return None  # removed with an earlier try of this step, or by the customer
    return upload_completeness.digest_in(marker) or "nothing that is a SHA-256"


def _remove_markers(desk: SftpContext, claim: Claim) -> None:
    for ending in claim.markers:
        try:
            desk.session().remove(desk.original(claim) + ending)
        except MissingError:
            continue


def _is_kept(files: list[Outgoing]) -> bool:
    return bool(files) and all(
        file.local.exists() and transfer.local_content(file.local) == file.content for file in files
    )
