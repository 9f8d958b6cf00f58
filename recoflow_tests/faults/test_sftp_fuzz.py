"""Anything that a customer with a key can send, and any name that a file can have, does no harm.

`RECOFLOW_FUZZ_SECONDS` sets how long the long variants (`make faults`) go on.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import struct
import time
from contextlib import suppress
from pathlib import Path

import paramiko
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paramiko import sftp

from recoflow.sandbox import sftp_server
from recoflow.storage.sftp import names
from recoflow_tests.faults import sftp_lab
from recoflow_tests.faults.invariant import assert_nothing_lost
from recoflow_tests.faults.sftp_lab import REQUEST

LONG_SECONDS = float(os.environ.get("RECOFLOW_FUZZ_SECONDS", "60"))
SETTINGS = settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

PARTS = st.sampled_from(
    [
        b"",
        b".",
        b"..",
        b"requests",
        b"responses",
        b"claims",
        b"staging",
        b".uploads",
        b"a",
        b"a\0b",
        b"\xff",
        b"x" * 300,
    ]
)
PATHS = st.lists(PARTS | st.binary(max_size=12), max_size=5).map(b"/".join)
TEXTS = PATHS | st.sampled_from([b"hx1", b"hx2", b"hx3", b"posix-rename@openssh.com", b"check-file"])
STRINGS = TEXTS.map(lambda text: struct.pack(">I", len(text)) + text)
NUMBERS = st.sampled_from([0, 1, 2, 8, 26, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
LONGS = st.sampled_from([0, 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1]).map(lambda number: struct.pack(">Q", number))
FIELDS = st.lists(STRINGS | NUMBERS.map(lambda number: struct.pack(">I", number)) | LONGS, max_size=6).map(b"".join)
KINDS = st.sampled_from([*sftp.CMD_NAMES, 0, 77, 255])


def framed(body):
    return struct.pack(">I", len(body)) + body


REQUESTS = st.tuples(KINDS, NUMBERS, FIELDS).map(lambda t: framed(struct.pack(">BI", *t[:2]) + t[2]))
OPENS = st.tuples(PATHS, NUMBERS).map(
    lambda t: framed(struct.pack(">BII", sftp.CMD_OPEN, 1, len(t[0])) + t[0] + struct.pack(">II", t[1], 0))
)
STREAMS = st.lists(REQUESTS | OPENS | st.binary(max_size=40), max_size=25).map(b"".join)


RESET = f"Socket exception: {os.strerror(errno.ECONNRESET)} ({errno.ECONNRESET})"


class Complaints(logging.Handler):
    """What paramiko's server logs of exceptions that reached it, except that a client reset its connection."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.lines = []

    def emit(self, record):
        line = record.getMessage()
        is_exception = record.levelno >= logging.ERROR or "Exception in server processing" in line
        if is_exception and line != RESET:
            self.lines.append(line)


@pytest.fixture
def complaints():
    handler = Complaints()
    logger = logging.getLogger(sftp_server.LOG)
    before = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def outside(root, files):
    """Every file of the server that is not in the account's exchange folders and unfinished uploads."""
    inside = [files / folder for folder in ("requests", "responses", "periodic", "one_time", ".uploads")]
    kept = [
        path for path in root.rglob("*") if path.is_file() and not any(path.is_relative_to(each) for each in inside)
    ]
    return {path: path.stat().st_mtime_ns for path in kept if "work" not in path.parts}


def send_bytes(transport, stream):
    channel = transport.open_session(timeout=10)
    channel.settimeout(10)
    with suppress(OSError, EOFError, paramiko.SSHException):
        channel.invoke_subsystem("sftp")
        channel.sendall(struct.pack(">IBI", 5, sftp.CMD_INIT, 3) + stream)
        channel.shutdown_write()
        while channel.recv(65536):
            pass
    channel.close()


def fuzz_packets(transport, seconds):
    @SETTINGS
    @given(STREAMS)
    def sent(stream):
        send_bytes(transport, stream)

    deadline = time.monotonic() + seconds
    while True:
        sent()
        if time.monotonic() > deadline:
            return


@pytest.mark.fault("M11")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("seconds", [0, pytest.param(LONG_SECONDS, marks=pytest.mark.matrix)])
def test_no_bytes_of_a_customer_harm_the_server(tmp_path, complaints, seconds):
    with sftp_lab.embedded(tmp_path, serving={"largest": {"lorem": 10_000_000}}) as lab:
        before, memory = outside(tmp_path, lab.files), resident()
        key = paramiko.Ed25519Key.from_private_key_file(str(lab.key))
        with paramiko.Transport((lab.account.host, lab.account.port)) as transport:
            transport.connect(username="lorem", pkey=key)
            fuzz_packets(transport, seconds)
        assert complaints.lines == []
        assert outside(tmp_path, lab.files) == before
        assert resident() - memory < 200_000_000
        sftp_lab.await_true(lambda: not list((lab.files / ".uploads").iterdir()))
        for path in lab.files.glob("*/*"):
            path.unlink()
        with lab.worker() as worker:
            lab.send("a.csv", REQUEST)
            worker.ticks(worker.is_answered("a.csv"))
            assert_nothing_lost(lab.files, worker.ledger, {"a.csv": [REQUEST]}, runs=lab.runs)


NAMES = st.binary(min_size=1, max_size=255).filter(lambda name: not {0, 0x2F} & {*name} and name not in {b".", b".."})
TELLING = st.tuples(
    NAMES.map(lambda name: name[:200]), st.sampled_from([*names.MARKERS, *names.TEMPORARY, b".errors.csv"])
)


@pytest.mark.fault("F28")
@pytest.mark.parametrize("seconds", [0, pytest.param(LONG_SECONDS, marks=pytest.mark.matrix)])
def test_no_name_stops_a_scan_and_every_file_is_answered(tmp_path, seconds):
    with sftp_lab.embedded(tmp_path) as lab, lab.worker() as worker:
        requests = os.fsencode(lab.files / "requests")

        def listed():
            return [os.fsencode(path.name) for path in (lab.files / "requests").iterdir()]

        @settings(SETTINGS, max_examples=15)
        @given(st.lists(NAMES | TELLING.map(b"".join), min_size=1, max_size=6, unique=True))
        def placed(found):
            for name in found:
                Path(os.fsdecode(requests + b"/" + name)).write_bytes(REQUEST)
            worker.ticks(lambda: not any(names.is_data(name) for name in listed()) and worker.is_answered()())
            for name in listed():
                Path(os.fsdecode(requests + b"/" + name)).unlink()

        deadline = time.monotonic() + seconds
        while True:
            placed()
            if time.monotonic() > deadline:
                break
        answers = {os.fsencode(path.name) for path in (lab.files / "responses").iterdir()}
        assert answers
        assert all(names.fault(name) is None for name in answers)
