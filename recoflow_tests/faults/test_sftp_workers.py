"""What happens to workers: killed at random, several at once, without power. Each time nothing is lost or doubled."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import paramiko
import pytest

from recoflow_tests.faults import sftp_lab
from recoflow_tests.faults.invariant import assert_nothing_lost
from recoflow_tests.faults.sftp_lab import HEADER, REQUEST


@pytest.mark.fault("F20")
@pytest.mark.parametrize("files", [24, pytest.param(300, marks=pytest.mark.matrix)])
def test_four_workers_on_one_ledger_publish_each_file_once(tmp_path, files):
    sent = {f"{number:03}.csv": [REQUEST + b"\n" * number] for number in range(files)}
    with sftp_lab.embedded(tmp_path) as lab:
        with lab.customer() as sftp:
            for name, (content,) in sent.items():
                with sftp.open(f"requests/{name}", "wb") as file:
                    file.write(content)
        with ExitStack() as stack:
            workers = [stack.enter_context(sftp_lab.worker_process(lab, ticks=12)) for _ in range(4)]
            for worker in workers:
                _, errors = worker.communicate(timeout=200)
                assert (worker.returncode, errors) == (0, "")
        with lab.worker() as worker:
            worker.ticks(worker.is_answered(*sent), seconds=60)
            assert_nothing_lost(lab.files, worker.ledger, sent)


class Sender:
    """A customer that uploads under a hidden name and renames, each file until that has succeeded."""

    def __init__(self, lab):
        self.lab = lab
        self.sent = {}
        self.is_over = threading.Event()

    def run(self):
        while not self.is_over.is_set():
            number = len(self.sent)
            content = HEADER + f"lorem,u{number},home,3,email\n".encode() * (1 + number * 997 % 3000)
            while not self.has_sent(f"{number:04}.csv", content):
                time.sleep(0.05)
            self.sent[f"{number:04}.csv"] = [content]

    def has_sent(self, name, content):
        with suppress(OSError, EOFError, paramiko.SSHException), self.lab.customer() as sftp:
            sftp.get_channel().settimeout(5)
            with sftp.open(f"requests/.{name}", "wb") as file:
                file.write(content)
            # Its answer may be lost although it was done: then the file is sent again, and answered as the same.
            sftp.posix_rename(f"requests/.{name}", f"requests/{name}")
            return True
        return False


@pytest.mark.fault("F16")
@sftp_lab.needs_sshd
@pytest.mark.parametrize("seconds", [5, pytest.param(45, marks=pytest.mark.matrix)])
def test_workers_and_sessions_that_are_killed_at_random_lose_nothing(tmp_path, seconds):
    with sftp_lab.openssh(tmp_path) as lab:
        sender = Sender(lab)
        thread = threading.Thread(target=sender.run)
        with sftp_lab.worker_process(lab, ticks=1_000_000) as worker:
            thread.start()
            kills = 0
            deadline = time.monotonic() + seconds
            try:
                while time.monotonic() < deadline:
                    time.sleep(random.uniform(0.05, 0.4))
                    victims = sftp_lab.children(random.choice((worker.pid, worker.pid, lab.server.pid)))
                    for victim in random.sample(victims, min(1, len(victims))):
                        sftp_lab.kill(victim)
                        kills += 1
                assert worker.poll() is None, worker.communicate()[1]
            finally:
                sender.is_over.set()
                thread.join(60)
            os.killpg(worker.pid, signal.SIGKILL)
            _, errors = worker.communicate()
        assert errors == ""
        assert kills > seconds
        assert sender.sent
        with lab.worker() as last:
            last.ticks(last.is_answered(*sender.sent), seconds=120)
            assert_nothing_lost(lab.files, last.ledger, sender.sent)


ORDER = """
import sys
from pathlib import Path
from recoflow_tests.faults import sftp_lab
with sftp_lab.embedded(Path(sys.argv[1])) as lab, lab.worker() as worker:
    lab.send("a.csv", sftp_lab.REQUEST)
    worker.ticks(worker.is_answered("a.csv"))
"""


@pytest.mark.fault("F54")
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_what_is_renamed_is_on_disk_and_the_ledger_knows_it_before_and_after(tmp_path):
    """Server and worker in one traced process: their system calls in the order in which a power loss would cut them."""
    trace = tmp_path / "trace"
    command = [
        "strace",
        "-f",
        "-y",
        "-s",
        "200",
        "-o",
        str(trace),
        "-e",
        "trace=fsync,fdatasync,rename,renameat,renameat2",
    ]
    done = subprocess.run(
        [*command, sys.executable, "-c", ORDER, str(tmp_path / "root")],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    acts = [act for line in trace.read_text().splitlines() if (act := _act(line))]

    def at(pattern, start=0):
        return next(index for index in range(start, len(acts)) if re.fullmatch(pattern, acts[index]))

    def ledger_is_synced_between(first, last):
        return any(act == "sync ledger" for act in acts[first + 1 : last])

    uploaded = at(r"rename \.uploads -> requests")
    assert re.fullmatch(r"sync \.uploads/\w+", acts[uploaded - 1])
    assert acts[uploaded + 1] == "sync requests"

    claimed = at("rename requests -> claims", uploaded)
    assert ledger_is_synced_between(uploaded, claimed)
    assert acts[claimed + 1] == "sync claims"

    fetched = at("rename inbox -> inbox", claimed)
    assert ledger_is_synced_between(claimed, fetched)
    assert re.fullmatch(r"sync inbox/\w+\.part", acts[fetched - 1])
    assert acts[fetched + 1] == "sync inbox"

    staged = at(r"rename \.uploads -> staging", fetched)
    assert ledger_is_synced_between(fetched, staged)
    assert re.fullmatch(r"sync \.uploads/\w+", acts[staged - 1])

    published = at("rename staging -> responses", staged)
    assert ledger_is_synced_between(staged, published)
    assert acts[published + 1] == "sync responses"
    assert ledger_is_synced_between(published, len(acts))


def _act(line):
    """`sync FILE` or `rename FOLDER -> FOLDER` of a line of strace, None of another."""
    if found := re.search(r"f(?:data)?sync\(\d+<([^>]+)>\)", line):
        path = Path(found[1])
        if "ledger.sqlite" in path.name:
            return "sync ledger"
        return f"sync {path.parent.name}/{path.name}" if path.is_file() or "." in path.name[1:] else _folder(path)
    if found := re.search(r"renameat2?\(\d+<([^>]+)>, \"[^\"]+\", \d+<([^>]+)>", line):
        return f"rename {Path(found[1]).name} -> {Path(found[2]).name}"
    if found := re.search(r"rename\(\"([^\"]+)\", \"([^\"]+)\"", line):
        return f"rename {Path(found[1]).parent.name} -> {Path(found[2]).parent.name}"
    return None


def _folder(path):
    return f"sync {path.parent.name}/{path.name}" if path.parent.name == ".uploads" else f"sync {path.name}"
