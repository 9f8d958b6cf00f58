"""The mailbox on a real server: what a customer drops comes in once, and answers go out whole."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recoflow.errors import MailboxError
from recoflow.sandbox import namespace
from recoflow.storage.sftp.claims import Delivery, State

REQUEST = b"environment,user_id,list_name,list_size,page_type\nlorem,u1,home,3,email\n"


@pytest.fixture
def answer(tmp_path):
    path = tmp_path / "answer.csv"
    path.write_bytes(b"user_id,item_id\n" * 3)
    return path


def one(mailbox, folder="requests"):
    (intake,) = mailbox.poll(folder)
    return intake


def test_an_upload_comes_in_with_its_name_bytes_and_digest(drop, mailbox):
    drop.send("lorem_mail_2020-02-02T20:22:02Z.csv", REQUEST)
    intake = one(mailbox)
    assert intake.name == "lorem_mail_2020-02-02T20:22:02Z.csv"
    assert intake.path.read_bytes() == REQUEST
    assert (intake.sha256, intake.size) == (hashlib.sha256(REQUEST).hexdigest(), len(REQUEST))
    assert (intake.revision, intake.attempts, intake.folder) == (1, 0, "requests")
    assert drop.names("requests") == []
    assert mailbox.poll() == []
    assert mailbox.pending() == [intake]


def test_an_answer_is_published_with_its_side_files(drop, mailbox, answer, tmp_path):
    drop.send("a.csv", REQUEST)
    errors = tmp_path / "errors"
    errors.write_bytes(b"line\n")
    assert mailbox.publish(one(mailbox).claim_id, [(errors, "a.errors.csv"), (answer, "a.csv")]) is State.PUBLISHED
    assert drop.names("responses") == ["a.csv", "a.errors.csv"]
    assert (drop.folder / "responses" / "a.csv").read_bytes() == answer.read_bytes()
    assert drop.names("staging") == []
    assert mailbox.pending() == []


def test_an_answer_with_a_reference_is_told_from_its_publication_on_until_it_is_acknowledged(
    drop, mailbox, answer, clock
):
    drop.send("a.csv", REQUEST)
    drop.send("b.csv", REQUEST)
    first, second = mailbox.poll()
    mailbox.publish(first.claim_id, [(answer, "a.csv")], reference="the mail")
    mailbox.publish(second.claim_id, [(answer, "b.csv")])
    (told,) = mailbox.delivered()
    assert told == Delivery(first.claim_id, "the mail", datetime.fromtimestamp(clock.wall(), UTC))
    clock.wall_now += 60
    mailbox.publish(first.claim_id, [(answer, "a.csv")], reference="the mail")
    assert mailbox.delivered() == [told]
    mailbox.acknowledge(told)
    assert mailbox.delivered() == []


def test_an_answer_that_goes_out_for_a_twin_keeps_its_reference(drop, mailbox, answer, read_only):
    drop.send("a.csv", REQUEST)
    first = one(mailbox)
    with read_only("responses"), pytest.raises(MailboxError):
        mailbox.publish(first.claim_id, [(answer, "a.csv")], reference="the mail")
    assert mailbox.delivered() == []
    drop.send("a.csv", REQUEST)
    mailbox.poll()
    mailbox.resume()
    assert drop.names("responses") == ["a.csv"]
    (told,) = mailbox.delivered()
    assert (told.reference, told.claim_id == first.claim_id) == ("the mail", False)


def test_dumps_come_in_by_the_same_way_and_are_consumed(drop, mailbox):
    drop.send("events.jsonl", b"{}\n", folder="periodic")
    drop.send("items.jsonl", b"{}\n", folder="one_time")
    assert mailbox.poll() == []
    dump = one(mailbox, "periodic")
    assert one(mailbox, "one_time").name == "items.jsonl"
    mailbox.consume(dump.claim_id)
    assert [intake.name for intake in mailbox.pending()] == ["items.jsonl"]


@pytest.mark.fault("F25")
def test_a_half_upload_over_the_embedded_server_is_never_seen(drop, mailbox):
    with drop.customer.open("requests/a.csv", "wb") as upload:
        upload.write(REQUEST[:20])
        upload.flush()
        assert mailbox.poll() == []
        upload.write(REQUEST[20:])
    assert one(mailbox).path.read_bytes() == REQUEST


def test_a_file_that_the_server_knows_nothing_of_must_rest_first(drop, mailbox, clock):
    drop.place("a.csv", REQUEST)
    assert mailbox.poll() == []
    clock.pass_seconds(59)
    assert mailbox.poll() == []
    clock.pass_seconds(1)
    assert one(mailbox).name == "a.csv"


@pytest.mark.fault("F29")
def test_names_of_temporary_files_are_left_alone(drop, mailbox, clock):
    temporary = [".x.csv", "~x.csv", ".in.x.csv", "x.csv.filepart", "x.csv.part", "x.TMP", "x.csv.lock"]
    for name in temporary:
        drop.place(name, REQUEST)
    mailbox.poll()
    clock.pass_seconds(10_000)
    assert mailbox.poll() == []
    assert drop.names("requests") == sorted(temporary)


@pytest.mark.fault("F31")
def test_a_link_a_folder_and_a_fifo_are_left_alone_and_told(drop, mailbox, clock, tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_bytes(b"other tenant")
    (drop.folder / "requests" / "link.csv").symlink_to(secret)
    (drop.folder / "requests" / "folder.csv").mkdir()
    os.mkfifo(drop.folder / "requests" / "fifo.csv")
    mailbox.poll()
    clock.pass_seconds(10_000)
    assert mailbox.poll() == []
    assert mailbox.sweep().strange == ("requests/fifo.csv", "requests/folder.csv", "requests/link.csv")


@pytest.mark.fault("F30")
def test_an_empty_file_waits_ten_times_longer(drop, mailbox, clock):
    drop.place("a.csv", b"")
    mailbox.poll()
    clock.pass_seconds(599)
    assert mailbox.poll() == []
    clock.pass_seconds(1)
    assert one(mailbox).size == 0


def test_one_poll_claims_no_more_than_its_limit(drop, mailbox):
    for number in range(5):
        drop.send(f"{number}.csv", REQUEST)
    assert [intake.name for intake in mailbox.poll(limit=3)] == ["0.csv", "1.csv", "2.csv"]
    assert [intake.name for intake in mailbox.poll(limit=3)] == ["3.csv", "4.csv"]


def test_a_done_marker_ends_the_waiting_and_goes_with_the_file(drop, mailbox):
    drop.place("a.csv", REQUEST)
    drop.place("a.csv.done", b"")
    assert one(mailbox).name == "a.csv"
    assert drop.names("requests") == []


def test_a_file_that_is_not_what_its_digest_says_is_tried_thrice_and_refused(drop, mailbox, clock):
    drop.send("a.csv", REQUEST)
    drop.send("a.csv.sha256", b"0" * 64 + b"  a.csv\n")
    assert mailbox.poll() == []
    assert "marker says" in mailbox.held()[0][1]
    for _ in range(2):
        clock.pass_seconds(1000)
        mailbox.resume()
    assert b"sha256_mismatch" in (drop.folder / "responses" / "a.csv.errors.csv").read_bytes()
    assert mailbox.held() == []


def test_a_digest_marker_that_was_mended_lets_the_file_in(drop, mailbox, clock):
    drop.send("a.csv", REQUEST)
    drop.send("a.csv.sha256", b"half a dig")
    assert mailbox.poll() == []
    drop.send("a.csv.sha256", hashlib.sha256(REQUEST).hexdigest().upper().encode())
    clock.pass_seconds(10)
    assert one(mailbox).name == "a.csv"
    assert drop.names("requests") == []


@pytest.mark.fault("F26")
def test_the_same_name_with_new_bytes_is_a_new_revision_that_owns_the_answer(drop, mailbox, answer):
    drop.send("a.csv", REQUEST)
    old = one(mailbox)
    drop.send("a.csv", REQUEST + b"lorem,u2,home,3,email\n")
    new = one(mailbox)
    assert (old.revision, new.revision) == (1, 2)
    assert mailbox.publish(new.claim_id, [(answer, "a.csv")]) is State.PUBLISHED
    assert mailbox.publish(old.claim_id, [(old.path, "a.csv")]) is State.SUPERSEDED
    assert (drop.folder / "responses" / "a.csv").read_bytes() == answer.read_bytes()


def test_a_side_file_of_an_older_revision_does_not_outlive_it(drop, mailbox, answer):
    drop.send("a.csv", REQUEST)
    mailbox.publish(one(mailbox).claim_id, [(answer, "a.errors.csv"), (answer, "a.csv")])
    drop.send("a.csv", REQUEST + REQUEST)
    mailbox.publish(one(mailbox).claim_id, [(answer, "a.csv")])
    assert drop.names("responses") == ["a.csv"]


@pytest.mark.fault("F27")
def test_the_same_name_and_bytes_publish_the_answer_again_without_a_run(drop, mailbox, answer):
    drop.send("a.csv", REQUEST)
    mailbox.publish(one(mailbox).claim_id, [(answer, "a.csv")])
    drop.customer.remove("responses/a.csv")
    drop.send("a.csv", REQUEST)
    assert mailbox.poll() == []
    mailbox.resume()
    assert drop.names("responses") == ["a.csv"]
    assert mailbox.pending() == []


@pytest.mark.fault("F27")
def test_the_same_name_and_bytes_while_the_run_is_due_are_one_run(drop, mailbox):
    drop.send("a.csv", REQUEST)
    first = one(mailbox)
    drop.send("a.csv", REQUEST)
    assert mailbox.poll() == []
    assert mailbox.pending() == [first]


@pytest.mark.fault("F27")
def test_another_name_with_the_same_bytes_is_a_run_of_its_own(drop, mailbox):
    drop.send("a.csv", REQUEST)
    drop.send("b.csv", REQUEST)
    assert [intake.name for intake in mailbox.poll()] == ["a.csv", "b.csv"]


def test_old_bytes_that_come_back_take_the_name_back(drop, mailbox, answer, tmp_path):
    other = tmp_path / "other.csv"
    other.write_bytes(b"other")
    drop.send("a.csv", REQUEST)
    mailbox.publish(one(mailbox).claim_id, [(answer, "a.csv")])
    drop.send("a.csv", REQUEST * 2)
    mailbox.publish(one(mailbox).claim_id, [(other, "a.csv")])
    drop.send("a.csv", REQUEST)
    assert mailbox.poll() == []
    mailbox.resume()
    assert (drop.folder / "responses" / "a.csv").read_bytes() == answer.read_bytes()


@pytest.mark.fault("F47")
def test_a_file_over_the_limit_is_answered_unread(drop, mailbox_of):
    mailbox = mailbox_of(max_bytes=10)
    drop.send("a.csv.gz", REQUEST)
    assert mailbox.poll() == []
    mailbox.resume()
    assert b"too_large" in (drop.folder / "responses" / "a.csv.gz.errors.csv").read_bytes()
    assert mailbox.pending() == []


@pytest.mark.parametrize(
    "name",
    [b"caf\xe9.csv", b"a\nb.csv", b"a\x1b[31m.csv", "a\u202evsc.csv".encode(), b"x" * 251 + b".csv", b"\xff\xfe"],
)
@pytest.mark.fault("F28")
def test_a_hostile_name_is_answered_under_a_safe_one(drop, mailbox, clock, name):
    drop.place(name, REQUEST)
    drop.place("good.csv", REQUEST)
    mailbox.poll()
    clock.pass_seconds(60)
    assert [intake.name for intake in mailbox.poll()] == ["good.csv"]
    mailbox.resume()
    (error,) = drop.names("responses")
    assert error.isascii()
    assert error.isprintable()
    assert b"bad_name" in (drop.folder / "responses" / error).read_bytes()
    assert drop.names("requests") == []


@pytest.mark.parametrize("name", ["-rf", "a b.csv", "$(x).csv", "naïve-日本.csv", "'\";--.csv", "*.csv", "%2e%2e.csv"])
@pytest.mark.fault("F28")
def test_a_strange_but_harmless_name_is_echoed_byte_for_byte(drop, mailbox, answer, name):
    drop.send(name, REQUEST)
    intake = one(mailbox)
    assert intake.name == name
    mailbox.publish(intake.claim_id, [(answer, name)])
    assert drop.names("responses") == [name]


@pytest.mark.fault("F24")
def test_a_csv_that_looks_cut_off_is_held_once_and_then_taken_as_it_is(drop, mailbox, clock):
    drop.place("a.csv", REQUEST + b"lorem,u2")
    mailbox.poll()
    clock.pass_seconds(60)
    assert mailbox.poll() == []
    assert "cut off" in mailbox.held()[0][1]
    clock.pass_seconds(599)
    assert mailbox.poll() == []
    clock.pass_seconds(1)
    assert one(mailbox).path.read_bytes() == REQUEST + b"lorem,u2"


@pytest.mark.fault("F23")
def test_bytes_that_come_after_the_claim_are_waited_for(drop, mailbox, clock):
    with drop.place("a.csv", REQUEST + b"lorem,u2").open("ab") as upload:
        mailbox.poll()
        clock.pass_seconds(60)
        mailbox.poll()
        upload.write(b",home,3,email\n")
    clock.pass_seconds(600)
    assert mailbox.poll() == []
    clock.pass_seconds(60)
    assert one(mailbox).path.read_bytes() == REQUEST + b"lorem,u2,home,3,email\n"


@pytest.mark.fault("F23")
def test_an_original_that_grows_after_it_came_in_becomes_a_new_revision(drop, mailbox, clock, answer):
    with drop.place("a.csv", REQUEST).open("ab") as upload:
        mailbox.poll()
        clock.pass_seconds(60)
        partial = one(mailbox)
        mailbox.publish(partial.claim_id, [(answer, "a.csv")])
        upload.write(b"lorem,u2,home,3,email\n")
    assert mailbox.poll() == []
    clock.pass_seconds(60)
    whole = one(mailbox)
    assert (whole.name, whole.revision) == ("a.csv", 2)
    assert whole.path.read_bytes() == REQUEST + b"lorem,u2,home,3,email\n"
    assert len(drop.names("claims")) == 1


def test_an_unchanged_original_is_removed_after_its_time(drop, mailbox, clock):
    drop.send("a.csv", REQUEST)
    mailbox.poll()
    clock.pass_seconds(86_399)
    assert mailbox.sweep().originals == 0
    assert len(drop.names("claims")) == 1
    clock.pass_seconds(1)
    assert mailbox.sweep().originals == 1
    assert drop.names("claims") == []


@pytest.mark.fault("F38")
def test_a_response_is_removed_after_its_retention_and_no_other_file(drop, mailbox, clock, answer):
    drop.send("a.csv", REQUEST)
    mailbox.publish(one(mailbox).claim_id, [(answer, "a.csv")])
    drop.place("theirs.csv", b"x", folder="responses")
    clock.pass_seconds(6.9 * 86_400)
    assert mailbox.sweep().expired == ()
    clock.pass_seconds(0.1 * 86_400)
    swept = mailbox.sweep()
    assert (swept.expired, swept.foreign) == (("a.csv",), ("responses/theirs.csv",))
    assert drop.names("responses") == ["theirs.csv"]


@pytest.mark.fault("F38")
def test_publishing_again_starts_the_retention_again(drop, mailbox, clock, answer):
    drop.send("a.csv", REQUEST)
    intake = one(mailbox)
    mailbox.publish(intake.claim_id, [(answer, "a.csv")])
    clock.pass_seconds(6 * 86_400)
    mailbox.publish(intake.claim_id, [(answer, "a.csv")])
    clock.pass_seconds(6 * 86_400)
    assert mailbox.sweep().expired == ()
    assert drop.names("responses") == ["a.csv"]


@pytest.mark.parametrize("days", [30, -30])
@pytest.mark.fault("F37")
def test_a_changed_wall_clock_removes_nothing_early(drop, mailbox, clock, answer, days):
    drop.send("a.csv", REQUEST)
    mailbox.publish(one(mailbox).claim_id, [(answer, "a.csv")])
    clock.wall_now += days * 86_400
    assert mailbox.sweep().expired == ()
    assert drop.names("responses") == ["a.csv"]


@pytest.mark.fault("F33")
def test_a_file_that_is_refused_holds_back_no_other(drop, mailbox, clock, monkeypatch):
    real_open = namespace.View.open

    def refuse_bad(view, path, flags):
        if path.endswith("bad.csv"):
            raise PermissionError(path)
        return real_open(view, path, flags)

    drop.send("bad.csv", REQUEST)
    drop.send("good.csv", REQUEST)
    with monkeypatch.context() as patch:
        patch.setattr(namespace.View, "open", refuse_bad)
        assert [intake.name for intake in mailbox.poll()] == ["good.csv"]
        assert [name for name, _ in mailbox.held()] == ["bad.csv"]
    clock.pass_seconds(1)
    assert mailbox.poll() == []
    clock.pass_seconds(10)
    assert one(mailbox).name == "bad.csv"


def test_answers_need_a_name_each_and_a_file_that_is_here(drop, mailbox, answer):
    drop.send("a.csv", REQUEST)
    claim = one(mailbox).claim_id
    for files in ([], [(answer, "a.csv"), (answer, "a.csv")], [(answer, "../a.csv")], [(answer, "a\nb.csv")]):
        with pytest.raises(MailboxError):
            mailbox.publish(claim, files)
    assert drop.names("responses") == []


def test_attempts_are_counted_for_run_keys(drop, mailbox):
    drop.send("a.csv", REQUEST)
    claim = one(mailbox).claim_id
    assert [mailbox.attempted(claim), mailbox.attempted(claim)] == [1, 2]
    assert mailbox.pending()[0].attempts == 2
    assert isinstance(mailbox.pending()[0].path, Path)


def test_a_rejected_dump_is_answered_with_its_error(drop, mailbox):
    drop.send("events.jsonl", b"\0", folder="periodic")
    assert mailbox.reject(one(mailbox, "periodic").claim_id, "unreadable", "It is not JSON.") is State.REJECTED
    assert (drop.folder / "responses" / "periodic.events.jsonl.errors.csv").read_text().splitlines() == [
        "line,column,code,message",
        ",,unreadable,It is not JSON.",
    ]
