"""The mailbox on a real OpenSSH server (skipped where none is installed): what holds for the embedded one holds."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import paramiko
import pytest

from recoflow.errors import MailboxError
from recoflow.sandbox import keys
from recoflow.sandbox.uploads import EXCHANGE, INTERNAL
from recoflow.storage.sftp import connection
from recoflow.storage.sftp.account import Account
from recoflow.storage.sftp.claims import State
from recoflow.storage.sftp.ledger import Ledger
from recoflow.storage.sftp.mailbox import Mailbox
from recoflow_tests.faults import sftp_lab

REQUEST = b"environment,user_id,list_name,list_size,page_type\nlorem,u1,home,3,email\n"

pytestmark = sftp_lab.needs_sshd


@dataclass
class OpenSsh:
    files: Path
    account: Account
    customer: paramiko.SFTPClient


@pytest.fixture(scope="module")
def openssh(tmp_path_factory):
    changes = {"quiet_seconds": 60, "linger_seconds": 86_400}
    with sftp_lab.openssh(tmp_path_factory.mktemp("openssh"), **changes) as lab, lab.customer() as customer:
        yield OpenSsh(lab.files, lab.account, customer)


@pytest.fixture(params=[True, False], ids=["own server", "server of others"])
def box(request, openssh, tmp_path, clock):
    for folder in (*EXCHANGE, *INTERNAL):
        for left in (openssh.files / folder).iterdir():
            left.unlink()
    account = Account(**{**vars(openssh.account), "owns_server": request.param})
    with Ledger(tmp_path / "ledger.sqlite") as ledger, Mailbox(account, ledger, tmp_path / "inbox", clock) as mailbox:
        yield mailbox


def visible(openssh, folder):
    return sorted(path.name for path in (openssh.files / folder).iterdir() if not path.name.startswith("."))


@pytest.mark.fault("F22")
def test_a_request_is_claimed_when_it_rests_and_answered(openssh, box, clock, tmp_path):
    answer = tmp_path / "answer.csv"
    answer.write_bytes(os.urandom(500_000))
    with openssh.customer.open("requests/a.csv", "wb") as upload:
        upload.write(REQUEST[:30])
        upload.flush()
        assert box.poll() == []
        clock.pass_seconds(59)
        upload.write(REQUEST[30:])
    assert box.poll() == []
    clock.pass_seconds(60)
    (intake,) = box.poll()
    assert intake.path.read_bytes() == REQUEST
    assert visible(openssh, "requests") == []
    assert box.publish(intake.claim_id, [(answer, "a.errors.csv"), (answer, "a.csv")]) is State.PUBLISHED
    assert openssh.customer.open("responses/a.csv").read() == answer.read_bytes()
    clock.pass_seconds(86_400)
    assert box.sweep().originals == 1
    assert [list((openssh.files / folder).iterdir()) for folder in ("requests", "claims", "staging")] == [[], [], []]
    clock.pass_seconds(6 * 86_400)
    assert box.sweep().expired == ("a.csv", "a.errors.csv")


@pytest.mark.fault("F23", "F24")
def test_a_cut_off_upload_that_goes_on_is_taken_whole(openssh, box, clock):
    with openssh.customer.open("requests/a.csv", "wb") as upload:
        upload.write(REQUEST + b"lorem,u2,")
        upload.flush()
        box.poll()
        clock.pass_seconds(60)
        assert box.poll() == []
        assert "cut off" in box.held()[0][1]
        upload.write(b"home,3,email\n")
    clock.pass_seconds(600)
    assert box.poll() == []
    clock.pass_seconds(60)
    (intake,) = box.poll()
    assert intake.path.read_bytes() == REQUEST + b"lorem,u2,home,3,email\n"


@pytest.mark.fault("F28")
def test_any_name_is_listed_and_none_breaks_the_scan(openssh, box, clock):
    nasty = [b"caf\xe9.csv", b"a\nb.csv", b"-rf", b"\xff\xfe\xfd", b"x" * 251 + b".csv", "a\u202evsc.csv".encode()]
    for name in [*nasty, "größe 日本.csv".encode()]:
        (openssh.files / "requests" / os.fsdecode(name)).write_bytes(REQUEST)
    box.poll()
    clock.pass_seconds(60)
    assert sorted(intake.name for intake in box.poll()) == ["-rf", "größe 日本.csv"]
    box.resume()
    assert visible(openssh, "requests") == []
    assert len(visible(openssh, "responses")) == 5


@pytest.mark.fault("F48")
def test_two_thousand_names_are_scanned_at_once_and_claimed_in_parts(openssh, box, clock):
    for number in range(2000):
        (openssh.files / "requests" / f"{number:04}.csv").write_bytes(b"")
    assert box.poll() == []
    clock.pass_seconds(600)
    assert len(box.poll(limit=3)) == 3


@pytest.mark.fault("F39")
def test_another_host_key_is_refused_before_the_log_in(openssh, tmp_path, clock):
    other = tmp_path / "known_hosts"
    connection.pin_host_key(other, "127.0.0.1", openssh.account.port, keys.host_key(tmp_path / "elsewhere"))
    account = Account(**{**vars(openssh.account), "known_hosts": other})
    with (
        Ledger(tmp_path / "ledger.sqlite") as ledger,
        Mailbox(account, ledger, tmp_path / "inbox", clock) as mailbox,
        pytest.raises(MailboxError, match="another host key"),
    ):
        mailbox.poll()


@pytest.mark.fault("M15")
def test_responses_get_the_mode_that_the_settings_name(openssh, tmp_path, clock):
    answer = tmp_path / "answer.csv"
    answer.write_bytes(b"user_id\n")
    for number, (mode, expected) in enumerate([(0o640, 0o640), (0o600, 0o600)]):
        account = Account(**{**vars(openssh.account), "file_mode": mode})
        folder = tmp_path / str(number)
        folder.mkdir()
        with Ledger(folder / "ledger.sqlite") as ledger, Mailbox(account, ledger, folder / "inbox", clock) as mailbox:
            intake = mailbox.deposit(f"mode{number}.csv", REQUEST)
            assert mailbox.publish(intake.claim_id, [(answer, f"mode{number}.csv")]) is State.PUBLISHED
        assert stat.S_IMODE((openssh.files / f"responses/mode{number}.csv").stat().st_mode) == expected
