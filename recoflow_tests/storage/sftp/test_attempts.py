"""Attempts to answer a request file: what counts against it, when the next is due, when it is given up."""

from __future__ import annotations

from pathlib import Path

import pytest

from recoflow.errors import MailboxError
from recoflow.storage.sftp import attempts
from recoflow.storage.sftp.claims import State
from recoflow.storage.sftp.ledger import Ledger
from recoflow.storage.sftp.mailbox import IncomingFile, Mailbox
from recoflow_tests.storage.conftest import Drop, HandClock

pytestmark = pytest.mark.fault("H7")
REQUEST = b"environment,user_id,list_name,list_size,page_type\nlorem,u1,home,3,email\n"


@pytest.fixture
def claim(drop: Drop, mailbox: Mailbox) -> str:
    drop.send("a.csv", REQUEST)
    (found,) = mailbox.poll()
    return found.claim_id


def attempt(mailbox: Mailbox, claim: str, *, is_own: bool) -> bool:
    """A run that begins and reports a failure."""
    mailbox.attempted(claim)
    mailbox.begun([claim])
    return mailbox.failed(claim, "model: is damaged. Train again", is_own=is_own)


def pending(mailbox: Mailbox) -> IncomingFile:
    (found,) = mailbox.pending()
    return found


def sent_again(drop: Drop, mailbox: Mailbox) -> list[IncomingFile]:
    drop.send("a.csv", REQUEST)
    return mailbox.poll()


def test_faults_of_the_installation_never_count_and_pauses_end_at_a_quarter_of_an_hour(
    mailbox: Mailbox, claim: str, clock: HandClock
) -> None:
    for pause in (10, 20, 40, 80, 160, 320, 640, 900, 900, 900, 900):
        attempt(mailbox, claim, is_own=False)
        clock.pass_seconds(pause - 1)
        assert not pending(mailbox).is_due
        clock.pass_seconds(1)
        assert (pending(mailbox).is_due, pending(mailbox).is_hopeless) == (True, False)


def test_a_wall_clock_that_is_set_back_prolongs_no_pause(mailbox: Mailbox, claim: str, clock: HandClock) -> None:
    attempt(mailbox, claim, is_own=False)
    clock.wall_now -= 30 * 86_400
    clock.boot_now += 10
    assert pending(mailbox).is_due


def test_five_failures_of_its_own_make_a_file_hopeless(mailbox: Mailbox, claim: str) -> None:
    for failures in range(5):
        assert not pending(mailbox).is_hopeless, failures
        attempt(mailbox, claim, is_own=True)
    assert pending(mailbox).is_hopeless


def test_a_run_that_never_began_counts_for_nothing(mailbox: Mailbox, claim: str) -> None:
    for _ in range(50):
        mailbox.attempted(claim)
    assert (pending(mailbox).lost, pending(mailbox).is_hopeless) == (0, False)


def test_a_file_whose_runs_all_end_without_a_report_is_given_up_after_twenty(mailbox: Mailbox, claim: str) -> None:
    for lost in range(20):
        assert (pending(mailbox).lost, pending(mailbox).is_hopeless) == (lost, False)
        mailbox.attempted(claim)
        mailbox.begun([claim])
    assert pending(mailbox).is_hopeless


def test_a_problem_is_new_once_for_all_files_that_have_it(drop: Drop, mailbox: Mailbox, claim: str) -> None:
    drop.send("b.csv", REQUEST)
    (other,) = mailbox.poll()
    assert attempt(mailbox, claim, is_own=False)
    assert not attempt(mailbox, claim, is_own=False)
    assert not attempt(mailbox, other.claim_id, is_own=False)
    mailbox.consume(claim)
    mailbox.consume(other.claim_id)
    drop.send("c.csv", REQUEST)
    (third,) = mailbox.poll()
    assert attempt(mailbox, third.claim_id, is_own=False)


def test_what_is_answered_has_no_failures_any_more(mailbox: Mailbox, claim: str, tmp_path: Path) -> None:
    answer = tmp_path / "answer.csv"
    answer.write_bytes(b"x\n")
    mailbox.publish(claim, [(answer, "a.csv")])
    assert not attempt(mailbox, claim, is_own=True)
    assert mailbox.pending() == []


def test_the_same_file_sent_again_is_due_at_once_though_its_pause_is_not_over(
    drop: Drop, mailbox: Mailbox, claim: str
) -> None:
    for _ in range(4):
        attempt(mailbox, claim, is_own=True)
    assert not pending(mailbox).is_due
    assert sent_again(drop, mailbox) == []
    found = pending(mailbox)
    assert (found.claim_id, found.is_due, found.problem, found.attempts) == (claim, True, None, 4)
    attempt(mailbox, claim, is_own=True)
    assert not pending(mailbox).is_hopeless


def test_a_file_that_was_given_up_is_taken_again_when_it_is_sent_again(
    drop: Drop, mailbox: Mailbox, claim: str, tmp_path: Path
) -> None:
    assert mailbox.give_up(claim) is State.REJECTED
    assert drop.names("responses") == ["a.csv.errors.csv"]
    (again,) = sent_again(drop, mailbox)
    assert (again.claim_id != claim, again.revision) == (True, 2)
    answer = tmp_path / "answer.csv"
    answer.write_bytes(b"x\n")
    assert mailbox.publish(again.claim_id, [(answer, "a.csv")]) is State.PUBLISHED
    assert drop.names("responses") == ["a.csv"]


def test_an_answer_to_a_file_that_was_given_up_is_delivered_when_it_is_published(
    mailbox: Mailbox, claim: str, tmp_path: Path
) -> None:
    mailbox.give_up(claim)
    answer = tmp_path / "answer.csv"
    answer.write_bytes(b"x\n")
    assert mailbox.publish(claim, [(answer, "a.csv")], reference="the mail") is State.REJECTED
    assert [delivery.reference for delivery in mailbox.delivered()] == ["the mail"]


def test_a_file_that_was_given_up_is_retried_and_its_answer_replaces_the_errors(
    drop: Drop, mailbox: Mailbox, claim: str, ledger: Ledger, tmp_path: Path
) -> None:
    mailbox.give_up(claim)
    assert mailbox.retry(str(mailbox.newest("a.csv"))).is_due
    answer = tmp_path / "answer.csv"
    answer.write_bytes(b"x\n")
    assert mailbox.publish(claim, [(answer, "a.csv")]) is State.PUBLISHED
    assert drop.names("responses") == ["a.csv"]
    assert not attempts.is_given_up(ledger.claim(claim))


def test_only_what_waits_or_was_given_up_can_be_retried(
    drop: Drop, mailbox: Mailbox, claim: str, tmp_path: Path
) -> None:
    answer = tmp_path / "answer.csv"
    answer.write_bytes(b"x\n")
    mailbox.publish(claim, [(answer, "a.csv")])
    with pytest.raises(MailboxError, match=r"a\.csv: is published"):
        mailbox.retry(claim)
    mailbox.reject(sent := drop_other(drop, mailbox), "too_large", "The file is too large.")
    with pytest.raises(MailboxError, match=r"b\.csv: is rejected"):
        mailbox.retry(sent)
    assert mailbox.newest("c.csv") is None


def drop_other(drop: Drop, mailbox: Mailbox) -> str:
    drop.send("b.csv", REQUEST)
    (found,) = mailbox.poll()
    return found.claim_id
