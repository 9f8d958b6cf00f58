"""Uploads that fail, break off or are not finished with, by the clients that customers use."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import struct
import subprocess
from contextlib import suppress

import paramiko
import pytest

from recoflow_tests.faults import sftp_lab
from recoflow_tests.faults.invariant import assert_nothing_lost, digest
from recoflow_tests.faults.sftp_lab import HEADER, REQUEST

LARGE = HEADER + b"lorem,u1,home,3,email\n" * 400_000  # 9 MB


def installed(tool):
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


@pytest.fixture
def lab(tmp_path):
    with sftp_lab.embedded(tmp_path) as running:
        yield running


@pytest.fixture
def full(tmp_path):
    """A server whose file system has room for a part of an upload."""
    with sftp_lab.tmpfs(tmp_path / "full", "3m") as root, sftp_lab.embedded(root) as running:
        yield running


def put_with_sftp(lab, local, name):
    command = ["sftp", "-b", "-", *lab.options(), lab.address]
    batch = f"put {local} requests/{name}\n"
    return subprocess.run(command, check=False, input=batch, text=True, capture_output=True, timeout=60).returncode


def put_with_scp(lab, local, name):
    command = ["scp", *lab.options(), str(local), f"{lab.address}:requests/{name}"]
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode


def put_with_lftp(lab, local, name):
    connect = f"ssh -a -x -i {lab.key} -o UserKnownHostsFile={lab.account.known_hosts} -o IdentitiesOnly=yes"
    script = f"""set sftp:connect-program "{connect}"; set net:max-retries 1; set cmd:fail-exit yes
        open -u lorem, sftp://127.0.0.1:{lab.account.port}; put {local} -o requests/{name}; bye"""
    return subprocess.run(["lftp", "-c", script], check=False, capture_output=True, timeout=60).returncode


def put_with_curl(lab, local, name):
    protocols = subprocess.run(["curl", "--version"], check=True, capture_output=True, text=True).stdout
    if " sftp" not in protocols:
        pytest.skip("this curl has no SFTP")
    command = ["curl", "-sS", "-k", "--key", str(lab.key), "--pubkey", f"{lab.key}.pub", "-u", "lorem:", "-T"]
    url = f"sftp://127.0.0.1:{lab.account.port}/requests/{name}"
    return subprocess.run([*command, str(local), url], check=False, capture_output=True, timeout=60).returncode


def put_with_paramiko(lab, local, name):
    try:
        with lab.customer() as sftp:
            sftp.put(str(local), f"requests/{name}")
    except OSError:
        return 1
    return 0


CLIENTS = [
    pytest.param(put_with_sftp, marks=installed("sftp"), id="OpenSSH sftp"),
    pytest.param(put_with_scp, marks=installed("scp"), id="OpenSSH scp"),
    pytest.param(put_with_lftp, marks=installed("lftp"), id="lftp"),
    pytest.param(put_with_curl, marks=installed("curl"), id="curl"),
    pytest.param(put_with_paramiko, id="paramiko"),
]


@pytest.mark.fault("M10", "F34")
@sftp_lab.needs_root
@pytest.mark.parametrize("put", CLIENTS)
def test_an_upload_that_fills_the_disk_fails_and_nothing_of_it_appears(full, tmp_path, put):
    local = tmp_path / "a.csv"
    local.write_bytes(LARGE)
    assert put(full, local, "a.csv") != 0
    sftp_lab.await_true(lambda: not list((full.files / ".uploads").iterdir()))
    with full.worker() as worker:
        worker.tick()
        worker.tick()
        local.write_bytes(REQUEST)
        assert put(full, local, "a.csv") == 0
        worker.ticks(worker.is_answered("a.csv"))
        assert_nothing_lost(full.files, worker.ledger, {"a.csv": [REQUEST]}, runs=full.runs)


@pytest.mark.fault("M10")
def test_a_truncate_that_failed_spoils_the_upload_too(tmp_path):
    with sftp_lab.embedded(tmp_path, serving={"largest": {"lorem": 1000}}) as lab, lab.customer() as sftp:
        file = sftp.open("requests/a.csv", "wb")
        file.write(REQUEST)
        with pytest.raises(OSError, match="Failure"):
            file.truncate(1001)
        with pytest.raises(OSError, match="Failure"):
            sftp._request(paramiko.sftp.CMD_CLOSE, file.handle)
    assert list((lab.files / "requests").iterdir()) == list((lab.files / ".uploads").iterdir()) == []


@pytest.mark.fault("M10", "F24")
def test_an_upload_whose_source_broke_off_is_held_and_corrected_by_the_next(lab):
    class BrokenSource:
        def __init__(self):
            self.blocks = [LARGE[:32_768], LARGE[32_768:39_990]]

        def read(self, _):
            if not self.blocks:
                raise OSError("the network drive is gone")
            return self.blocks.pop(0)

    with lab.worker(quiet_seconds=1000) as worker:
        with lab.customer() as sftp, pytest.raises(OSError, match="network drive"):
            sftp.putfo(BrokenSource(), "requests/a.csv")
        for _ in range(3):
            worker.tick()
        assert "cut off" in worker.held()["a.csv"]
        assert lab.runs == []
        lab.send("a.csv", REQUEST)
        worker.ticks(lambda: bool(lab.runs))
        assert [run[0] for run in lab.runs] == ["a.csv"]
        assert (lab.files / "responses" / "a.csv").exists()


@pytest.mark.fault("M10", "F30")
def test_an_empty_upload_is_not_claimed_because_it_was_closed(lab):
    with lab.worker(quiet_seconds=1000) as worker:
        lab.send("a.csv", b"")
        for _ in range(3):
            worker.tick()
        assert [path.name for path in (lab.files / "requests").iterdir()] == ["a.csv"]
        lab.send("a.csv", REQUEST)
        worker.ticks(worker.is_answered("a.csv"))
        assert_nothing_lost(lab.files, worker.ledger, {"a.csv": [REQUEST]}, runs=lab.runs)


@pytest.mark.fault("M10")
@pytest.mark.parametrize("ending", [".done", ".sha256"])
def test_a_marker_says_that_a_short_last_row_is_meant(lab, ending):
    content = REQUEST + b"lorem,u2"
    marker = f"{digest(content)}  a.csv\n".encode() if ending == ".sha256" else b""
    with lab.worker(quiet_seconds=1000) as worker:
        with lab.customer() as sftp:
            for name, data in (("a.csv", content), (f"a.csv{ending}", marker)):
                with sftp.open(f"requests/{name}", "wb") as file:
                    file.write(data)
        worker.ticks(worker.is_answered("a.csv"))
        assert_nothing_lost(lab.files, worker.ledger, {"a.csv": [content]}, runs=lab.runs)


@pytest.mark.fault("F25")
@installed("sftp")
def test_an_upload_whose_client_is_killed_never_appears(lab, tmp_path):
    pipe, local = tmp_path / "pipe", tmp_path / "a.csv"
    os.mkfifo(pipe)
    local.write_bytes(LARGE * 5)
    command = ["sftp", "-l", "8000", "-b", "-", *lab.options(), lab.address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        client.stdin.write(f"put {local} requests/a.csv\n".encode())
        client.stdin.flush()
        sftp_lab.await_true(lambda: any(path.stat().st_size for path in (lab.files / ".uploads").iterdir()))
        with lab.worker() as worker:
            worker.tick()
            client.send_signal(signal.SIGKILL)
            sftp_lab.await_true(lambda: not list((lab.files / ".uploads").iterdir()))
            worker.tick()
            assert_nothing_lost(lab.files, worker.ledger, {}, runs=lab.runs)


@pytest.mark.fault("F25")
def test_an_upload_whose_connection_is_reset_amid_answers_is_thrown_away(lab):
    for _ in range(20):
        with suppress(OSError, EOFError, paramiko.SSHException), lab.customer() as sftp:
            file = sftp.open("requests/a.csv", "wb")
            file.set_pipelined()
            file.write(LARGE[:300_000])
            connection = sftp.get_channel().get_transport().sock
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
    sftp_lab.await_true(lambda: not list((lab.files / ".uploads").iterdir()))
    assert list((lab.files / "requests").iterdir()) == []


@pytest.mark.fault("M10")
@installed("sftp")
def test_an_upload_whose_client_is_interrupted_is_held_or_never_appears(lab, tmp_path):
    local = tmp_path / "a.csv"
    local.write_bytes(LARGE * 5)
    command = ["sftp", "-l", "8000", *lab.options(), lab.address]
    with (
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as client,
        lab.worker(quiet_seconds=1000) as worker,
    ):
        client.stdin.write(f"put {local} requests/a.csv\n".encode())
        client.stdin.flush()
        sftp_lab.await_true(lambda: any(path.stat().st_size for path in (lab.files / ".uploads").iterdir()))
        client.send_signal(signal.SIGINT)
        sftp_lab.await_true(lambda: not list((lab.files / ".uploads").iterdir()))
        client.stdin.close()
        client.wait(20)
        for _ in range(3):
            worker.tick()
        assert lab.runs == []
        assert list((lab.files / "responses").iterdir()) == []


AFTER_CLOSE = {
    "stat": lambda sftp: sftp.stat("requests/a.csv"),
    "utime": lambda sftp: sftp.utime("requests/a.csv", (1_000_000, 1_000_000)),
    "chmod": lambda sftp: sftp.chmod("requests/a.csv", 0o644),
    "utime and stat": lambda sftp: (sftp.utime("requests/a.csv", (5, 5)), sftp.stat("requests/a.csv")),
}


@pytest.mark.fault("K7")
@pytest.mark.parametrize("act", AFTER_CLOSE.values(), ids=AFTER_CLOSE)
@pytest.mark.parametrize("settle_seconds", [0, 3], ids=["claimed at once", "left for 3 s"])
def test_what_a_session_does_to_its_upload_after_the_close_succeeds(tmp_path, act, settle_seconds):
    serving = {"settle_seconds": settle_seconds}
    with sftp_lab.embedded(tmp_path, serving=serving) as lab, lab.worker() as worker:
        with lab.customer() as sftp:
            with sftp.open("requests/a.csv", "wb") as file:
                file.write(REQUEST)
            worker.tick()
            assert (lab.runs == []) is (settle_seconds > 0)
            act(sftp)
            worker.tick()
        worker.ticks(worker.is_answered("a.csv"))
        assert_nothing_lost(lab.files, worker.ledger, {"a.csv": [REQUEST]}, runs=lab.runs)


@pytest.mark.fault("K7")
@pytest.mark.parametrize("rename", ["rename", "posix_rename"])
def test_a_session_renames_its_upload_from_a_name_that_nobody_knows(lab, rename):
    with lab.worker() as worker:
        with lab.customer() as sftp:
            with sftp.open("requests/upload-7f3a", "wb") as file:
                file.write(REQUEST)
            worker.tick()
            getattr(sftp, rename)("requests/upload-7f3a", "requests/a.csv")
            worker.tick()
            assert lab.runs == []
        worker.ticks(worker.is_answered("a.csv"))
        assert_nothing_lost(lab.files, worker.ledger, {"a.csv": [REQUEST]}, runs=lab.runs)


@pytest.mark.fault("K7")
def test_an_upload_is_claimed_although_its_session_stays(tmp_path):
    serving = {"settle_seconds": 0.5}
    with sftp_lab.embedded(tmp_path, serving=serving) as lab, lab.worker() as worker, lab.customer() as sftp:
        sftp.putfo(io.BytesIO(REQUEST), "requests/a.csv")
        worker.tick()
        assert lab.runs == []
        worker.ticks(worker.is_answered("a.csv"), seconds=5)
        assert_nothing_lost(lab.files, worker.ledger, {"a.csv": [REQUEST]}, runs=lab.runs)


@pytest.mark.fault("K7")
def test_a_marker_is_not_removed_under_the_hands_of_its_session(lab):
    with lab.worker() as worker:
        with lab.customer() as sftp:
            for name, data in (("a.csv", REQUEST), ("a.csv.done", b"")):
                with sftp.open(f"requests/{name}", "wb") as file:
                    file.write(data)
                worker.tick()
                assert sftp.stat(f"requests/{name}").st_size == len(data)
            sftp.listdir("requests").index("a.csv.done")
        worker.ticks(worker.is_answered("a.csv"))
        assert_nothing_lost(lab.files, worker.ledger, {"a.csv": [REQUEST]}, runs=lab.runs)


@pytest.mark.fault("K7")
@installed("sftp")
def test_put_with_times_succeeds_while_the_service_polls(lab, tmp_path):
    local = tmp_path / "a.csv"
    local.write_bytes(REQUEST)
    batch = "".join(f"put -p {local} requests/{number}.csv\nls -l requests/{number}.csv\n" for number in range(20))
    with subprocess.Popen(
        ["sftp", "-b", "-", *lab.options(), lab.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as client:
        client.stdin.write(batch)
        client.stdin.close()
        with lab.worker() as worker:
            while client.poll() is None:
                worker.tick()
            assert client.returncode == 0, client.stderr.read()
            sent = {f"{number}.csv": [REQUEST] for number in range(20)}
            worker.ticks(worker.is_answered(*sent))
            assert_nothing_lost(lab.files, worker.ledger, sent, runs=lab.runs)
