"""One customer's key takes its share of the embedded server and no more: memory, connections, sessions, time."""

from __future__ import annotations

import resource
import struct
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import paramiko
import pytest
from paramiko import sftp

from recoflow.sandbox import sftp_protocol, sftp_server
from recoflow_tests.faults import sftp_lab
from recoflow_tests.faults.invariant import assert_nothing_lost
from recoflow_tests.faults.sftp_lab import REQUEST

GIGABYTE = 1024**3


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")


@pytest.mark.fault("M11")
@needs_proc
def test_a_read_of_a_gigabyte_takes_a_quarter_of_a_megabyte(tmp_path):
    serving = {"largest": {"lorem": 4 * GIGABYTE}}
    with sftp_lab.embedded(tmp_path, serving=serving) as lab, lab.customer() as client:
        with client.open("requests/a", "wb") as file:
            file.seek(3 * GIGABYTE)
            file.write(b"!")
        before = resident()
        file = client.open("requests/a", "rb")
        for _ in range(4):
            kind, reply = client._request(sftp.CMD_READ, file.handle, sftp.int64(0), GIGABYTE)
            assert kind == sftp.CMD_DATA
            assert len(reply.get_binary()) == 256 * 1024
        assert resident() - before < 50_000_000


@pytest.mark.fault("M11", "F47")
def test_an_upload_ends_at_the_limit_of_its_environment(tmp_path):
    serving = {"largest": {"lorem": 1000}}
    with sftp_lab.embedded(tmp_path, serving=serving) as lab, lab.worker() as worker:
        for offset in (1000, 3 * GIGABYTE, 2**63 - 1, 2**63, 2**64 - 1):
            with lab.customer() as client:
                file = client.open("requests/a.csv", "wb")
                with pytest.raises(OSError, match="Failure"):
                    client._request(sftp.CMD_WRITE, file.handle, sftp.int64(offset), b"!")
                with pytest.raises(OSError, match="Failure"):
                    client._request(sftp.CMD_CLOSE, file.handle)
        (lab.files / "requests" / "b.csv").write_bytes(bytes(1001))
        with lab.customer() as client, pytest.raises(OSError, match="Failure"):
            client.open("requests/b.csv", "ab")
        (lab.files / "requests" / "b.csv").unlink()
        lab.send("a.csv", REQUEST)
        worker.ticks(worker.is_answered("a.csv"))
        assert_nothing_lost(lab.files, worker.ledger, {"a.csv": [REQUEST]}, runs=lab.runs)


@pytest.mark.fault("M11")
def test_an_answer_may_be_larger_than_what_the_customer_may_send(tmp_path):
    serving = {"largest": {"lorem": len(REQUEST)}}
    with sftp_lab.embedded(tmp_path, serving=serving) as lab, lab.worker() as worker:
        lab.send("a.csv", REQUEST)
        answer = tmp_path / "answer"
        answer.write_bytes(bytes(1_000_000))
        (intake,) = worker.mailbox.poll()
        worker.mailbox.publish(intake.claim_id, [(answer, "a.csv")])
        assert (lab.files / "responses" / "a.csv").stat().st_size == 1_000_000


@pytest.mark.fault("M11")
def test_a_sparse_file_is_opened_for_appending_without_its_holes(tmp_path):
    serving = {"largest": {"lorem": 4 * GIGABYTE}}
    with sftp_lab.embedded(tmp_path, serving=serving) as lab, lab.customer() as client:
        with client.open("requests/a", "wb") as file:
            file.write(b"begin")
            file.seek(3 * GIGABYTE)
            file.write(b"middle")
        with client.open("requests/a", "ab") as file:
            file.write(b"end")
        path = lab.files / "requests" / "a"
        assert path.stat().st_size == 3 * GIGABYTE + 9
        assert path.stat().st_blocks * 512 < 10_000_000
        with path.open("rb") as file:
            assert file.read(5) == b"begin"
            file.seek(3 * GIGABYTE - 2)
            assert file.read() == b"\0\0middleend"


@pytest.fixture
def lab(tmp_path):
    with sftp_lab.embedded(tmp_path) as running:
        yield running


def connect(lab, stack):
    """A connection that is logged in and silent."""
    transport = stack.enter_context(closing(paramiko.Transport((lab.account.host, lab.account.port))))
    transport.connect(username="lorem", pkey=paramiko.Ed25519Key.from_private_key_file(str(lab.key)))
    return transport


@pytest.mark.fault("M11")
def test_the_sessions_of_one_customer_leave_room_for_the_service_and_for_others(lab):
    with ExitStack() as stack, lab.worker() as worker:
        kept = [connect(lab, stack) for _ in range(sftp_server.MAX_OF_ACCOUNT)]
        for transport in kept:
            transport.open_sftp_client().stat("requests")
        for _ in range(60):
            with suppress(paramiko.SSHException, EOFError, OSError):
                connect(lab, stack).open_session(timeout=2)
                raise AssertionError("a connection beyond the share got a session")
        worker.tick()
        assert all(transport.is_active() for transport in kept)
        kept[0].close()
        sftp_lab.await_true(lambda: lab.send("a.csv", REQUEST) is None, ignoring=(paramiko.SSHException, EOFError))
        worker.ticks(worker.is_answered("a.csv"))
        assert_nothing_lost(lab.files, worker.ledger, {"a.csv": [REQUEST]}, runs=lab.runs)


@pytest.mark.fault("M11")
def test_one_connection_has_a_few_sessions_and_gets_them_back(lab):
    with ExitStack() as stack:
        transport = connect(lab, stack)
        clients = [transport.open_sftp_client() for _ in range(sftp_server.MAX_CHANNELS)]
        with pytest.raises(paramiko.ChannelException):
            transport.open_session()
        clients[0].close()
        sftp_lab.await_true(lambda: transport.open_sftp_client() is not None, ignoring=(paramiko.ChannelException,))


@pytest.mark.fault("M11")
def test_an_idle_connection_is_ended_and_one_that_asks_is_not(tmp_path):
    with sftp_lab.embedded(tmp_path, serving={"idle_seconds": 1}) as lab, ExitStack() as stack:
        silent, without_session, busy = (connect(lab, stack) for _ in range(3))
        client = silent.open_sftp_client()
        upload = client.open("requests/a.csv", "wb")
        upload.write(REQUEST)
        asking = busy.open_sftp_client()
        for _ in range(25):
            asking.stat("requests")
            time.sleep(0.1)
        assert [transport.is_active() for transport in (silent, without_session, busy)] == [False, False, True]
        assert asking.listdir("requests") == []
        assert list((lab.files / ".uploads").iterdir()) == []


@pytest.mark.fault("M11")
@needs_proc
def test_a_client_that_sends_without_reading_is_cut(lab):
    """paramiko keeps what a channel receives without a limit: the window is the client's word."""
    with ExitStack() as stack, lab.worker() as worker:
        transport = connect(lab, stack)
        channel = transport.open_session()
        channel.invoke_subsystem("sftp")
        before = resident()
        channel.sendall(struct.pack(">IBI", 5, sftp.CMD_INIT, 3))
        path = b"x" * 30_000  # the answer to a REALPATH is as long
        message = paramiko.Message()
        message.add_byte(paramiko.common.cMSG_CHANNEL_DATA)
        message.add_int(channel.remote_chanid)
        message.add_string(struct.pack(">IBII", len(path) + 9, sftp.CMD_REALPATH, 1, len(path)) + path)
        with suppress(OSError, EOFError, paramiko.SSHException):
            for _ in range(20_000):  # 600 MB
                if not transport.is_active():
                    break
                transport._send_user_message(message)
        sftp_lab.await_true(lambda: not transport.is_active())
        assert resident() - before < 300_000_000
        worker.tick()


@pytest.mark.fault("M11")
@needs_proc
def test_a_listener_without_descriptors_goes_on_when_there_are_some(lab):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 3, hard))
    try:
        with ExitStack() as stack, suppress(OSError, EOFError, paramiko.SSHException):
            for _ in range(8):
                stack.enter_context(closing(sftp_lab.dial(lab)))
            time.sleep(0.5)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with lab.worker() as worker:
        sftp_lab.await_true(lambda: lab.send("a.csv", REQUEST) is None, ignoring=(paramiko.SSHException, EOFError))
        worker.ticks(worker.is_answered("a.csv"))
        assert_nothing_lost(lab.files, worker.ledger, {"a.csv": [REQUEST]}, runs=lab.runs)


@pytest.mark.fault("M11")
def test_attributes_that_a_message_announces_and_does_not_have_cost_nothing(lab):
    with lab.customer() as client:
        client.get_channel().settimeout(5)
        body = paramiko.Message()
        body.add_int(7)
        body.add_string("requests")
        body.add_int(0x80000000)
        body.add_int(0xFFFFFFFF)
        client._send_packet(sftp.CMD_SETSTAT, body)
        kind, reply = client._read_packet()
        assert kind == sftp.CMD_STATUS
        assert struct.unpack(">II", reply[:8]) == (7, sftp.SFTP_BAD_MESSAGE)


@pytest.mark.fault("M11")
def test_a_packet_larger_than_any_client_needs_ends_the_session(lab):
    with lab.customer() as client, lab.worker() as worker:
        channel = client.get_channel()
        channel.settimeout(5)
        channel.sendall(struct.pack(">I", sftp_protocol.LARGEST_PACKET + 1))
        assert channel.recv(1) == b""
        worker.tick()


@pytest.mark.fault("F41")
def test_connections_that_never_log_in_are_cut_and_the_service_goes_on(tmp_path):
    with sftp_lab.embedded(tmp_path, serving={"login_seconds": 4}) as lab, ExitStack() as stack, lab.worker() as worker:
        silent = [stack.enter_context(sftp_lab.dial(lab)) for _ in range(80)]
        for connection in silent:
            connection.settimeout(30)
        assert all(_is_cut(connection) for connection in silent)
        lab.send("a.csv", REQUEST)
        worker.ticks(worker.is_answered("a.csv"))
        assert_nothing_lost(lab.files, worker.ledger, {"a.csv": [REQUEST]}, runs=lab.runs)


def _is_cut(connection):
    with suppress(ConnectionResetError):
        while connection.recv(4096):
            pass
    return True
