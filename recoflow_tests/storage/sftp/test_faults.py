"""What servers, networks and neighbours do to the mailbox, each done to it for real."""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest
from paramiko import sftp

from recoflow.errors import MailboxError, StorageError
from recoflow.sandbox import feeder, keys, namespace, sftp_protocol, sftp_server, uploads
from recoflow.storage.sftp.account import Account
from recoflow.storage.sftp.claims import State
from recoflow.storage.sftp.ledger import Ledger
from recoflow.storage.sftp.mailbox import Mailbox
from recoflow.storage.sftp.server_replies import LinkLostError

REQUEST = b"environment,user_id,list_name,list_size,page_type\nlorem,u1,home,3,email\n"


@pytest.fixture
def answer(tmp_path):
    path = tmp_path / "answer.csv"
    path.write_bytes(os.urandom(300_000))
    return path


def one(mailbox):
    (intake,) = mailbox.poll()
    return intake


class Wire:
    """A TCP proxy that can fall silent: bytes stay where they are and nobody is told."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.flows = threading.Event()
        self.flows.set()
        self.sockets: list[socket.socket] = []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            self.sockets += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self.flows.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def cut(self) -> None:
        """End all connections; new ones can be made."""
        for opened in self.sockets:
            with suppress(OSError):  # the other end of the pair may have followed already
                opened.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.flows.set()
        for opened in (self.listening, *self.sockets):
            opened.close()


@contextmanager
def wired(drop, mailbox_of, **changes):
    known = drop.root / "known_hosts"
    with closing(Wire(drop.account.port)) as wire:
        known.write_text(known.read_text().replace(f"]:{drop.account.port} ", f"]:{wire.port} "))
        yield wire, mailbox_of(port=wire.port, **changes)


@pytest.mark.fault("F19")
def test_a_server_that_falls_silent_costs_the_time_limit_and_nothing_else(drop, mailbox_of):
    drop.send("a.csv", REQUEST)
    with wired(drop, mailbox_of, reply_seconds=0.2, connect_seconds=0.5) as (wire, mailbox):
        assert mailbox.poll("periodic") == []
        wire.flows.clear()
        with pytest.raises(LinkLostError):
            mailbox.poll()
        wire.flows.set()
        assert one(mailbox).path.read_bytes() == REQUEST


@pytest.mark.fault("F17")
def test_a_connection_that_was_cut_between_polls_is_opened_again_unnoticed(drop, mailbox_of):
    with wired(drop, mailbox_of) as (wire, mailbox):
        assert mailbox.poll() == []
        wire.cut()
        drop.send("a.csv", REQUEST)
        assert one(mailbox).name == "a.csv"


@pytest.mark.fault("F18")
def test_a_server_that_was_restarted_is_found_again(tmp_path, server_root, access, ledger, clock):
    account = None
    for round_ in ("first", "second"):
        port = account.port if account else 0
        with sftp_server.serve(server_root, access, port=port) as server:
            if account is None:
                account = Account(
                    "lorem",
                    server.host,
                    server.port,
                    "lorem",
                    keys.service_key(server_root),
                    server_root / "known_hosts",
                )
                mailbox = Mailbox(account, ledger, tmp_path / "inbox", clock)
            with feeder.connect(server_root, "lorem", server.port) as customer:
                feeder.drop(customer, account.known_hosts, f"{round_}.jsonl")
            assert one(mailbox).name == f"{round_}.jsonl"
    mailbox.close()


def test_a_server_that_is_away_is_told_as_such(drop, mailbox_of):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    known = drop.root / "known_hosts"
    known.write_text(known.read_text().replace(f"]:{drop.account.port} ", f"]:{port} "))
    with pytest.raises(LinkLostError, match="cannot be reached"):
        mailbox_of(port=port).poll()


def test_a_port_that_never_greets_costs_the_time_limit(drop, mailbox_of):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        known = drop.root / "known_hosts"
        known.write_text(known.read_text().replace(f"]:{drop.account.port} ", f"]:{port} "))
        with pytest.raises(LinkLostError):
            mailbox_of(port=port, connect_seconds=0.2).poll()


@pytest.fixture
def lossy(drop, mailbox_of, monkeypatch):
    """A mailbox whose first rename is done, and the connection cut before its answer; and the list of such renames."""
    real = namespace.View.rename
    lost = []
    with wired(drop, mailbox_of) as (wire, mailbox):

        def rename_and_cut(view, old, new, *, overwrite):
            real(view, old, new, overwrite=overwrite)
            if overwrite and not lost:
                lost.append(new)
                wire.cut()

        monkeypatch.setattr(namespace.View, "rename", rename_and_cut)
        yield mailbox, lost


@pytest.mark.fault("F17")
def test_a_lost_answer_to_the_claim_loses_no_file(drop, lossy):
    mailbox, lost_renames = lossy
    drop.send("a.csv", REQUEST)
    assert one(mailbox).name == "a.csv"
    assert len(lost_renames) == 1


@pytest.mark.fault("F17")
def test_a_lost_answer_to_the_publication_publishes_once(drop, lossy, answer):
    mailbox, lost_renames = lossy
    lost_renames.append("the claim is answered")
    drop.send("a.csv", REQUEST)
    intake = one(mailbox)
    lost_renames.clear()
    assert mailbox.publish(intake.claim_id, [(answer, "a.csv")]) is State.PUBLISHED
    assert len(lost_renames) == 1
    assert (drop.folder / "responses" / "a.csv").read_bytes() == answer.read_bytes()
    assert drop.names("staging") == []


@pytest.mark.fault("F40")
def test_a_refused_write_in_the_middle_publishes_nothing_until_it_is_repaired(
    drop, mailbox, monkeypatch, answer, clock
):
    drop.send("a.csv", REQUEST)
    intake = one(mailbox)
    real = sftp_protocol.FileHandle.write

    def refuse_middle(handle, offset, data):
        return sftp.SFTP_FAILURE if offset == 131_072 else real(handle, offset, data)

    with monkeypatch.context() as patch:
        patch.setattr(sftp_protocol.FileHandle, "write", refuse_middle)
        with pytest.raises(MailboxError, match="refused"):
            mailbox.publish(intake.claim_id, [(answer, "a.csv")])
        assert drop.names("responses") == []
        mailbox.resume()
        assert mailbox.held()[0][0] == "a.csv"
    clock.pass_seconds(10)
    mailbox.resume()
    assert (drop.folder / "responses" / "a.csv").read_bytes() == answer.read_bytes()


@pytest.mark.fault("F40", "F34")
def test_a_close_that_fails_is_an_upload_that_failed(drop, mailbox, monkeypatch, answer):
    drop.send("a.csv", REQUEST)
    intake = one(mailbox)

    def disk_full(upload):
        upload.discard()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(uploads.Upload, "commit", disk_full)
        with pytest.raises(MailboxError, match="refused"):
            mailbox.publish(intake.claim_id, [(answer, "a.csv")])
    assert drop.names("responses") == []
    mailbox.resume()
    assert drop.names("responses") == ["a.csv"]


@pytest.mark.fault("F40")
def test_bytes_that_the_server_loses_are_found_by_reading_back(drop, mailbox, monkeypatch, answer):
    drop.send("a.csv", REQUEST)
    intake = one(mailbox)
    real = sftp_protocol.FileHandle.write

    def lose(handle, offset, data):
        return real(handle, offset, bytes(len(data)) if offset == 131_072 else data)

    monkeypatch.setattr(sftp_protocol.FileHandle, "write", lose)
    with pytest.raises(MailboxError, match="other bytes"):
        mailbox.publish(intake.claim_id, [(answer, "a.csv")])
    assert drop.names("responses") == []


@pytest.mark.fault("F40")
def test_short_reads_are_asked_for_again(drop, mailbox, monkeypatch, answer):
    real = sftp_protocol.FileHandle.read
    monkeypatch.setattr(
        sftp_protocol.FileHandle, "read", lambda handle, offset, length: real(handle, offset, min(length, 7001))
    )
    drop.send("a.bin", answer.read_bytes())
    assert one(mailbox).path.read_bytes() == answer.read_bytes()


@pytest.mark.fault("F40")
def test_a_file_that_ends_early_is_not_taken(drop, mailbox, monkeypatch, answer, clock):
    real = sftp_protocol.FileHandle.read
    drop.send("a.bin", answer.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(
            sftp_protocol.FileHandle,
            "read",
            lambda handle, offset, length: real(handle, offset, length if offset < 100_000 else 0),
        )
        assert mailbox.poll() == []
        assert "shorter" in mailbox.held()[0][1]
    clock.pass_seconds(10)
    assert one(mailbox).path.read_bytes() == answer.read_bytes()


@pytest.mark.fault("F32")
def test_responses_that_cannot_be_written_hold_the_answer_until_they_can(drop, mailbox, read_only, answer):
    drop.send("a.csv", REQUEST)
    intake = one(mailbox)
    with read_only("responses"), pytest.raises(MailboxError):
        mailbox.publish(intake.claim_id, [(answer, "a.csv")])
    mailbox.resume()
    assert drop.names("responses") == ["a.csv"]


def test_a_claim_that_is_denied_is_tried_again_later(drop, mailbox, read_only, clock):
    drop.send("a.csv", REQUEST)
    with read_only("requests"):
        assert mailbox.poll() == []
        assert mailbox.held()[0][0] == "a.csv"
    assert mailbox.poll() == []  # not due yet
    clock.pass_seconds(10)
    assert one(mailbox).name == "a.csv"


@pytest.mark.fault("F49")
def test_a_request_that_its_customer_takes_back_before_the_claim_is_no_error(drop, mailbox_of):
    def take_back(step):
        if step == "claiming":
            drop.customer.remove("requests/a.csv")

    drop.send("a.csv", REQUEST)
    mailbox = mailbox_of(on_state=take_back)
    assert mailbox.poll() == []
    assert mailbox.held() == []


@pytest.mark.fault("F36")
def test_a_full_disk_here_holds_the_file_and_lets_it_in_later(drop, mailbox, monkeypatch, clock):
    drop.send("a.csv", REQUEST)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
        assert mailbox.poll() == []
        assert "bytes free" in mailbox.held()[0][1]
    clock.pass_seconds(10)
    assert one(mailbox).name == "a.csv"


@pytest.mark.fault("F21")
def test_two_installations_on_one_drop_share_the_files_without_a_double(drop, tmp_path, clock):
    """They claim in place: with an empty ledger, claims in claims/ would look like those of a ledger that was lost."""
    shared = replace(drop.account, owns_server=False)
    for number in range(30):
        drop.send(f"{number:02}.csv", REQUEST)

    def take(name):
        with (
            Ledger(tmp_path / name / "ledger.sqlite") as ledger,
            Mailbox(shared, ledger, tmp_path / name / "inbox", clock) as mailbox,
        ):
            return [intake.name for _ in range(4) for intake in mailbox.poll(limit=8)]

    with ThreadPoolExecutor(2) as pool:
        ours, theirs = pool.map(take, ("ours", "theirs"))
    assert sorted(ours + theirs) == [f"{number:02}.csv" for number in range(30)]


@pytest.mark.fault("F20")
def test_workers_on_one_ledger_take_turns(drop, ledger, tmp_path, clock):
    for number in range(12):
        drop.send(f"{number:02}.csv", REQUEST)
    start = threading.Barrier(3)

    def take(_):
        with (
            Ledger(ledger.path) as own,
            Mailbox(drop.account, own, tmp_path / "mailbox" / "inbox", clock) as mailbox,
        ):
            start.wait()
            return [intake.name for _ in range(6) for intake in mailbox.poll(limit=3)]

    with ThreadPoolExecutor(3) as pool:
        taken = [name for names in pool.map(take, range(3)) for name in names]
    with Mailbox(drop.account, ledger, tmp_path / "mailbox" / "inbox", clock) as mailbox:
        taken += [intake.name for intake in mailbox.poll()]
    assert sorted(taken) == [f"{number:02}.csv" for number in range(12)]


@pytest.mark.fault("F22")
def test_a_slow_upload_on_a_plain_server_is_waited_for(drop, mailbox, clock):
    whole = REQUEST * 10
    path = drop.place("a.csv", b"")
    for end in range(0, len(whole), 100):
        path.write_bytes(whole[:end])
        os.utime(path, (end, end))
        assert mailbox.poll() == []
        clock.pass_seconds(50)
    path.write_bytes(whole)
    os.utime(path, (10_000, 10_000))
    assert mailbox.poll() == []
    clock.pass_seconds(60)
    assert one(mailbox).path.read_bytes() == whole


@pytest.mark.fault("F55")
def test_a_reboot_during_the_quiet_time_starts_it_again(drop, mailbox, clock):
    drop.place("a.csv", REQUEST)
    mailbox.poll()
    clock.boot_name, clock.boot_now = "second boot", 5000.0
    assert mailbox.poll() == []
    clock.pass_seconds(60)
    assert one(mailbox).name == "a.csv"


@pytest.mark.fault("F50")
def test_a_response_that_its_customer_overwrote_is_set_right_by_the_next_publication(drop, mailbox, answer):
    drop.send("a.csv", REQUEST)
    intake = one(mailbox)
    mailbox.publish(intake.claim_id, [(answer, "a.csv")])
    drop.place("a.csv", b"theirs", folder="responses")
    mailbox.publish(intake.claim_id, [(answer, "a.csv")])
    assert (drop.folder / "responses" / "a.csv").read_bytes() == answer.read_bytes()


def test_a_publication_that_was_cut_off_and_overtaken_leaves_no_side_file(drop, mailbox_of, answer):
    class StopError(Exception):
        pass

    def stop(step):
        if step == "moved":
            raise StopError

    drop.send("a.csv", REQUEST)
    stopping = mailbox_of(on_state=stop)
    with pytest.raises(StopError):
        stopping.publish(one(stopping).claim_id, [(answer, "a.errors.csv"), (answer, "a.csv")])
    assert drop.names("responses") == ["a.errors.csv"]
    drop.send("a.csv", REQUEST * 2)
    mailbox = mailbox_of()
    mailbox.publish(one(mailbox).claim_id, [(answer, "a.csv")])
    mailbox.resume()
    assert drop.names("responses") == ["a.csv"]
    assert mailbox.sweep().foreign == ()
    assert drop.names("staging") == []


@pytest.mark.fault("F53")
def test_a_lost_ledger_is_refused_and_rebuilt_from_the_claims(drop, mailbox, tmp_path, clock):
    drop.send("lorem_2020-02-02.csv", REQUEST)
    drop.send("dump.jsonl", b"{}\n", folder="periodic")
    before = [*mailbox.poll(), *mailbox.poll("periodic")]
    with (
        Ledger(tmp_path / "other" / "ledger.sqlite") as empty,
        Mailbox(drop.account, empty, tmp_path / "mailbox" / "inbox", clock) as anew,
    ):
        for act in (anew.poll, anew.resume):
            with pytest.raises(StorageError, match="rebuild"):
                act()
        assert anew.rebuild() == 2
        anew.resume()
        assert sorted(anew.pending(), key=lambda i: i.claim_id) == sorted(before, key=lambda i: i.claim_id)


@pytest.mark.fault("M17")
def test_a_mailbox_folder_that_is_gone_as_a_whole_is_refused_and_its_claims_are_answered_after_a_rebuild(
    drop, mailbox, tmp_path, clock, answer
):
    drop.send("lorem_2020-02-02.csv", REQUEST)
    (before,) = mailbox.poll()
    drop.send("other_2020-02-03.csv", REQUEST)
    with (
        Ledger(tmp_path / "anew" / "ledger.sqlite") as empty,
        Mailbox(drop.account, empty, tmp_path / "anew" / "inbox", clock) as anew,
    ):
        for act in (anew.poll, anew.resume):
            with pytest.raises(StorageError, match="1 claims lie on the server: it was removed"):
                act()
        assert anew.unknown() == ["requests/lorem_2020-02-02.csv"]
        assert anew.rebuild() == 1
        anew.resume()
        (intake,) = anew.pending()
        assert (intake.claim_id, intake.sha256) == (before.claim_id, before.sha256)
        assert anew.publish(intake.claim_id, [(answer, "lorem_2020-02-02.csv")]) is State.PUBLISHED
        assert drop.names("responses") == ["lorem_2020-02-02.csv"]
        assert [intake.name for intake in anew.poll()] == ["other_2020-02-03.csv"]


def test_a_new_installation_on_an_account_that_it_shares_is_not_refused(drop, mailbox_of, tmp_path, clock):
    drop.send("a.csv", REQUEST)
    one(mailbox_of(owns_server=False))
    with (
        Ledger(tmp_path / "anew" / "ledger.sqlite") as empty,
        Mailbox(replace(drop.account, owns_server=False), empty, tmp_path / "anew" / "inbox", clock) as anew,
    ):
        assert anew.poll() == []


@pytest.mark.fault("F53")
def test_a_damaged_ledger_is_refused(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        for number in range(200):
            ledger.begin("requests", b"%d" % number, 1, 1)
    damaged = bytearray(path.read_bytes())
    damaged[4096:12288] = os.urandom(8192)
    path.write_bytes(damaged)
    with pytest.raises(StorageError, match="damaged"):
        Ledger(path)


def test_a_claim_on_a_server_without_claims_is_hidden_beside_the_file(drop, mailbox_of, clock, answer):
    mailbox = mailbox_of(owns_server=False)
    drop.send("a.csv", REQUEST)
    intake = one(mailbox)
    (hidden,) = drop.names("requests")
    assert hidden.startswith(".recoflow-")
    assert mailbox.publish(intake.claim_id, [(answer, "a.csv")]) is State.PUBLISHED
    assert drop.names("responses") == ["a.csv"]
    clock.pass_seconds(86_400)
    swept = mailbox.sweep()
    assert (swept.originals, swept.foreign, swept.stale) == (1, (), ())
    assert drop.names("requests") == drop.names("claims") == drop.names("staging") == []
