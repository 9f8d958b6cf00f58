"""What holds after every SFTP fault: nothing that a customer sent is lost, doubled, or left half done."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from recoflow.storage.sftp.claims import FINAL, State
from recoflow.storage.sftp.ledger import Ledger

EMPTY = ("requests", "periodic", "one_time", "claims", "staging", ".uploads")
ANSWERED = (State.PUBLISHED, State.SUPERSEDED)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def assert_nothing_lost(
    files: Path,
    ledger: Ledger,
    sent: Mapping[str, Sequence[bytes]],
    *,
    runs: Iterable[tuple[str, str]] | None = None,
    sides: Sequence[str] = (),
) -> None:
    """Every upload that succeeded was processed, and its newest bytes have the one answer.

    Args:
        files: the account's folder on the server, after the fault was repaired and the linger time has passed.
        ledger: the account's ledger.
        sent: name → the contents whose upload succeeded, in their order. The answer to each is its SHA-256.
        runs: (name, SHA-256) of every run: each upload has exactly one. None where workers were killed in a run.
        sides: what is appended to a name for the side files of its answer, which hold the same.
    """
    uploads = {(name, digest(content)) for name, contents in sent.items() for content in contents}
    answers = {name + side: digest(contents[-1]) for name, contents in sent.items() for side in ("", *sides)}
    assert {path.name: path.read_text() for path in (files / "responses").iterdir()} == answers
    assert {response.name: response.content.sha256 for response in ledger.responses()} == {
        name: digest(answer.encode()) for name, answer in answers.items()
    }
    left = {folder: [path.name for path in (files / folder).glob("*")] for folder in EMPTY}
    assert not any(left.values()), left
    claims = ledger.in_state(*State)
    assert {claim.state for claim in claims} <= set(FINAL)
    assert {(claim.name.decode(), claim.sha256) for claim in claims if claim.state in ANSWERED} == uploads
    if runs is not None:
        assert Counter(runs) == Counter(uploads)
