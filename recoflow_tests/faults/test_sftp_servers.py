"""What servers, networks and disks do to the mailbox: killed, stopped, full, read-only, silent, very large."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from recoflow.storage.sftp import connection
from recoflow.storage.sftp.server_replies import LinkLostError
from recoflow_tests.faults import sftp_lab
from recoflow_tests.faults.invariant import assert_nothing_lost, digest
from recoflow_tests.faults.sftp_lab import HEADER, REQUEST

GIGABYTE = 1024**3
# Cut anywhere, it ends in the long second cell of a row.
LONG_ROWS = HEADER + (b"lorem," + b"u" * 5000 + b",home,3,e\n") * 5000  # 25 MB


@pytest.fixture
def openssh(tmp_path):
    with sftp_lab.openssh(tmp_path) as running:
        yield running


@contextmanager
def acting(act):
    """Run `act` on a thread; its failure is the test's."""
    failures = []

    def run():
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(30)
    assert not thread.is_alive()
    assert failures == []


@pytest.mark.fault("F17")
@sftp_lab.needs_sshd
def test_sessions_that_are_killed_while_a_file_moves_cost_only_the_time(openssh):
    (openssh.files / "requests" / "a.csv").write_bytes(LONG_ROWS)
    killed = []

    def moves():
        parts = (openssh.work / "inbox").glob("*.part")
        with suppress(FileNotFoundError):  # it was renamed: it is whole
            return any(part.stat().st_size > 500_000 for part in parts)

    def kill_thrice():
        for _ in range(3):
            sftp_lab.await_true(lambda: moves() or openssh.runs != [])
            killed.extend(sftp_lab.children(openssh.server.pid))
            for child in sftp_lab.children(openssh.server.pid):
                sftp_lab.kill(child)

    with openssh.worker() as worker, acting(kill_thrice):
        worker.ticks(worker.is_answered("a.csv"))
        assert_nothing_lost(openssh.files, worker.ledger, {"a.csv": [LONG_ROWS]}, runs=openssh.runs)
    assert killed


@pytest.mark.fault("F18")
@sftp_lab.needs_sshd
def test_a_server_that_is_stopped_for_a_while_is_found_again(openssh, tmp_path):
    with openssh.worker() as worker:
        worker.tick()
        openssh.send("a.csv", REQUEST)
        sftp_lab.stop(openssh.server)
        for _ in range(5):
            with pytest.raises(LinkLostError):
                worker.tick()
            time.sleep(0.2)
        sftp_lab.start_openssh(openssh, tmp_path)
        worker.ticks(worker.is_answered("a.csv"))
        assert_nothing_lost(openssh.files, worker.ledger, {"a.csv": [REQUEST]}, runs=openssh.runs)


@pytest.mark.fault("F19")
@sftp_lab.needs_sshd
def test_a_network_that_falls_silent_costs_the_time_limit_of_a_reply(openssh):
    with sftp_lab.proxy(openssh.account.port) as (port, process):
        key = connection.fetch_host_key("127.0.0.1", openssh.account.port)
        connection.pin_host_key(openssh.account.known_hosts, "127.0.0.1", port, key)
        with openssh.worker(port=port, reply_seconds=0.5, connect_seconds=1) as worker:
            worker.tick()
            openssh.send("a.csv", REQUEST)
            os.kill(process, signal.SIGSTOP)
            began = time.monotonic()
            with pytest.raises(LinkLostError):
                worker.tick()
            assert time.monotonic() - began < 4
            os.kill(process, signal.SIGCONT)
            worker.ticks(worker.is_answered("a.csv"))
            assert_nothing_lost(openssh.files, worker.ledger, {"a.csv": [REQUEST]}, runs=openssh.runs)


@pytest.mark.fault("F24")
@sftp_lab.needs_sshd
@pytest.mark.skipif(shutil.which("sftp") is None, reason="OpenSSH's clients are not installed")
def test_an_upload_whose_client_is_killed_on_a_plain_server_is_held_as_cut_off(openssh, tmp_path):
    local = tmp_path / "a.csv"
    local.write_bytes(LONG_ROWS)
    command = ["sftp", "-l", "8000", "-b", "-", *openssh.options(), openssh.address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        client.stdin.write(f"put {local} requests/a.csv\n".encode())
        client.stdin.flush()
        target = openssh.files / "requests" / "a.csv"
        sftp_lab.await_true(lambda: target.exists() and target.stat().st_size > 100_000)
        client.kill()
    with openssh.worker(quiet_seconds=20) as worker:
        worker.ticks(lambda: "cut off" in worker.held().get("a.csv", ""))
        assert openssh.runs == []
        openssh.send("a.csv", REQUEST)
        worker.ticks(lambda: bool(openssh.runs))
        assert openssh.runs == [("a.csv", digest(REQUEST))]
        assert (openssh.files / "responses" / "a.csv").read_text() == digest(REQUEST)


@pytest.fixture
def other_user(tmp_path):
    with sftp_lab.unprivileged(tmp_path) as running:
        yield running


@pytest.mark.fault("F32")
@sftp_lab.needs_root
def test_responses_that_the_server_may_not_write_hold_the_answer_until_it_may(other_user):
    responses = other_user.files / "responses"
    responses.chmod(0o550)
    with other_user.worker() as worker:
        other_user.send("a.csv", REQUEST)
        worker.ticks(lambda: "a.csv" in worker.held())
        assert list(responses.iterdir()) == []
        responses.chmod(0o750)
        worker.ticks(worker.is_answered("a.csv"))
        assert_nothing_lost(other_user.files, worker.ledger, {"a.csv": [REQUEST]}, runs=other_user.runs)


@pytest.mark.fault("F33")
@sftp_lab.needs_root
def test_a_file_that_the_server_may_not_read_holds_back_no_other(other_user):
    bad = other_user.files / "requests" / "bad.csv"
    bad.write_bytes(REQUEST)
    bad.chmod(0o600)
    with other_user.worker() as worker:
        other_user.send("good.csv", REQUEST)
        worker.ticks(lambda: "bad.csv" in worker.held() and other_user.runs != [])
        assert [path.name for path in (other_user.files / "responses").iterdir()] == ["good.csv"]
        (claimed,) = (other_user.files / "claims").iterdir()
        claimed.chmod(0o644)
        worker.ticks(worker.is_answered("bad.csv", "good.csv"))
        sent = {"bad.csv": [REQUEST], "good.csv": [REQUEST]}
        assert_nothing_lost(other_user.files, worker.ledger, sent, runs=other_user.runs)


@pytest.mark.fault("F34")
@sftp_lab.needs_root
def test_a_full_disk_of_the_server_holds_the_answer_until_there_is_room(tmp_path):
    work = tmp_path / "work"
    with (
        sftp_lab.tmpfs(tmp_path / "full", "8m") as root,
        sftp_lab.embedded(root, work=work) as lab,
        lab.worker() as worker,
    ):
        lab.send("a.csv", REQUEST)
        ballast = root / "ballast"
        descriptor = os.open(ballast, os.O_CREAT | os.O_WRONLY)
        with suppress(OSError):  # ENOSPC
            while os.write(descriptor, bytes(4096)):
                pass
        os.close(descriptor)
        worker.ticks(lambda: "a.csv" in worker.held())
        assert list((lab.files / "responses").iterdir()) == []
        ballast.unlink()
        worker.ticks(worker.is_answered("a.csv"))
        assert_nothing_lost(lab.files, worker.ledger, {"a.csv": [REQUEST]}, runs=lab.runs)


@pytest.mark.fault("F35")
@sftp_lab.needs_sshd
@sftp_lab.needs_root
def test_staging_on_another_file_system_holds_the_answer_and_its_loss_is_mended(openssh):
    with openssh.worker() as worker:
        with sftp_lab.tmpfs(openssh.files / "staging", "4m"):
            openssh.send("a.csv", REQUEST)
            worker.ticks(lambda: "a.csv" in worker.held())
            assert len(list((openssh.files / "staging").iterdir())) == 1
            assert list((openssh.files / "responses").iterdir()) == []
        assert list((openssh.files / "staging").iterdir()) == []  # it went with its file system
        worker.ticks(worker.is_answered("a.csv"))
        assert_nothing_lost(openssh.files, worker.ledger, {"a.csv": [REQUEST]}, runs=openssh.runs)


@pytest.mark.fault("F36")
@sftp_lab.needs_sshd
def test_a_file_that_does_not_fit_on_the_disk_here_is_held_and_holds_back_no_other(openssh):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with openssh.worker() as worker:
        (openssh.files / "requests" / "large.csv").write_bytes(LONG_ROWS)
        openssh.send("small.csv", REQUEST)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
        try:
            worker.ticks(lambda: "large.csv" in worker.held() and openssh.runs != [])
            assert [name for name, _ in openssh.runs] == ["small.csv"]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        worker.ticks(worker.is_answered("large.csv", "small.csv"))
        sent = {"large.csv": [LONG_ROWS], "small.csv": [REQUEST]}
        assert_nothing_lost(openssh.files, worker.ledger, sent, runs=openssh.runs)


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.fault("F47")
@sftp_lab.needs_sshd
def test_a_file_of_5_gb_is_refused_unread_when_it_is_above_the_limit(openssh):
    with (openssh.files / "requests" / "a.bin").open("wb") as file:
        file.truncate(5 * GIGABYTE)
    with openssh.worker() as worker:
        worker.ticks(lambda: any((openssh.files / "responses").iterdir()))
        (answer,) = (openssh.files / "responses").iterdir()
        assert "too_large" in answer.read_text()
        assert list((openssh.files / "requests").iterdir()) == openssh.runs == []


@pytest.mark.fault("F47")
@sftp_lab.needs_sshd
@pytest.mark.parametrize("size", [GIGABYTE // 4, pytest.param(5 * GIGABYTE, marks=pytest.mark.matrix)])
def test_a_large_file_below_the_limit_takes_no_memory(openssh, size):
    with (openssh.files / "requests" / "a.bin").open("wb") as file:
        file.truncate(size)
    most = [resident()]
    before, is_over = most[0], threading.Event()

    def measure():
        while not is_over.wait(0.05):
            most.append(resident())

    with openssh.worker(max_bytes=6 * GIGABYTE) as worker, acting(measure):
        try:
            worker.ticks(worker.is_answered("a.bin"), seconds=500)
        finally:
            is_over.set()
    assert max(most) - before < 150_000_000


TICK_SECONDS = 60  # after which Dagster ends a tick
SERVERS = {"OpenSSH": sftp_lab.openssh, "embedded": sftp_lab.embedded}


@pytest.mark.fault("F48")
@pytest.mark.parametrize("server", [pytest.param("OpenSSH", marks=sftp_lab.needs_sshd), "embedded"])
@pytest.mark.parametrize("names", [5_000, pytest.param(100_000, marks=pytest.mark.matrix)])
def test_a_tick_scans_any_number_of_names_and_claims_a_few(tmp_path, server, names):
    with SERVERS[server](tmp_path) as lab, lab.worker() as worker:
        for number in range(names):
            path = lab.files / "requests" / f"{number:06}.csv"
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        began = time.monotonic()
        worker.mailbox.poll(limit=5)
        first = time.monotonic()
        assert len(worker.mailbox.poll(limit=5)) == 5
        assert max(first - began, time.monotonic() - first) < TICK_SECONDS
        assert len(list((lab.files / "claims").iterdir())) == 5


@pytest.mark.fault("F26")
def test_six_contents_under_one_name_are_six_runs_and_the_last_owns_the_answer(tmp_path):
    contents = [REQUEST + b"lorem,u2,home,3,email\n" * number for number in range(6)]
    with sftp_lab.embedded(tmp_path) as lab, lab.worker() as worker:
        for number, content in enumerate(contents, 1):
            lab.send("a.csv", content)
            worker.ticks(lambda number=number: len(lab.runs) == number)
        worker.ticks(worker.is_answered("a.csv"))
        assert_nothing_lost(lab.files, worker.ledger, {"a.csv": contents}, runs=lab.runs)


@pytest.mark.fault("F49")
def test_requests_that_customers_take_back_during_the_scans_are_no_error(tmp_path):
    with sftp_lab.embedded(tmp_path, serving={"settle_seconds": 0}) as lab, lab.worker() as worker:
        taken_back = []

        def take_back():
            with lab.customer() as sftp:
                for number in range(60):
                    with sftp.open(f"requests/{number}.csv", "wb") as file:
                        file.write(REQUEST)
                    try:
                        sftp.remove(f"requests/{number}.csv")
                    except FileNotFoundError:
                        continue
                    taken_back.append(number)

        with acting(take_back):
            for _ in range(40):
                worker.tick()
        sent = {f"{number}.csv": [REQUEST] for number in range(60) if number not in taken_back}
        worker.ticks(worker.is_answered(*sent))
        assert_nothing_lost(lab.files, worker.ledger, sent, runs=lab.runs)
