"""Requests of our own in the mailbox: once per name, through crashes, answered like those that were sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recoflow.storage.sftp.claims import State
from recoflow.storage.sftp.mailbox import Mailbox
from recoflow_tests.storage.conftest import Drop

NAME = "lorem_weekly_2026-11-22T06:00:00Z.csv"


class PowerCutError(Exception):
    pass


def test_a_deposit_is_pending_and_its_answer_is_published(mailbox: Mailbox, drop: Drop, tmp_path: Path) -> None:
    intake = mailbox.deposit(NAME, b"rows")
    assert (intake.name, intake.revision, intake.path.read_bytes()) == (NAME, 1, b"rows")
    assert mailbox.pending("requests") == [intake]
    mailbox.resume()
    mailbox.poll()
    answer = tmp_path / "answer"
    answer.write_bytes(b"answer")
    assert mailbox.publish(intake.claim_id, [(answer, NAME)]) is State.PUBLISHED
    assert (drop.folder / "responses" / NAME).read_bytes() == b"answer"
    assert mailbox.pending() == []
    swept = mailbox.sweep()
    assert (swept.foreign, swept.originals) == ((), 0)


def test_a_second_deposit_of_the_name_gives_the_first_also_after_it_was_answered(
    mailbox: Mailbox, tmp_path: Path
) -> None:
    first = mailbox.deposit(NAME, b"rows")
    assert mailbox.deposit(NAME, b"other rows") == first
    answer = tmp_path / "answer"
    answer.write_bytes(b"answer")
    mailbox.publish(first.claim_id, [(answer, NAME)])
    assert mailbox.deposit(NAME, b"other rows").sha256 == first.sha256
    assert mailbox.pending() == []


@pytest.mark.parametrize("point", ["depositing", "deposited"])
def test_a_deposit_that_was_cut_off_is_finished_by_the_next(
    mailbox_of: Callable[..., Mailbox], mailbox: Mailbox, point: str
) -> None:
    def cut(state: str) -> None:
        if state == point:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        mailbox_of(on_state=cut).deposit(NAME, b"rows")
    mailbox.resume()
    mailbox.poll()
    assert mailbox.pending() == []
    intake = mailbox.deposit(NAME, b"rows")
    assert mailbox.pending() == [intake]
    assert intake.path.read_bytes() == b"rows"


def test_a_customers_file_of_the_same_name_is_another_revision(mailbox_of: Callable[..., Mailbox], drop: Drop) -> None:
    mailbox = mailbox_of(quiet_seconds=0)
    own = mailbox.deposit(NAME, b"rows")
    drop.send(NAME, b"environment\nlorem\n")
    mailbox.poll()
    (theirs,) = mailbox.poll() or [each for each in mailbox.pending() if each.claim_id != own.claim_id]
    assert (own.revision, theirs.revision) == (1, 2)
