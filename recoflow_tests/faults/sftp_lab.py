"""Servers, networks and workers for the SFTP faults: real ones, on loopback, that tests stop, fill and kill."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
import pytest

from recoflow.errors import MailboxError
from recoflow.sandbox import keys, sftp_server
from recoflow.sandbox.uploads import EXCHANGE, INTERNAL
from recoflow.storage.sftp import connection
from recoflow.storage.sftp.account import Account
from recoflow.storage.sftp.claims import FINAL, State
from recoflow.storage.sftp.ledger import Ledger
from recoflow.storage.sftp.mailbox import Mailbox

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
CHECKOUT = Path(__file__).parents[2]
HEADER = b"environment,user_id,list_name,list_size,page_type\n"
REQUEST = HEADER + b"lorem,u1,home,3,email\n"
FOLDERS = ("requests", "periodic", "one_time")

needs_sshd = pytest.mark.skipif(SSHD is None, reason="OpenSSH's sshd is not installed")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")


@dataclass
class QuickClock:
    """The machine's clocks, running faster: waits of seconds pass at once."""

    speed: float = 50
    start: float = field(default_factory=time.monotonic)

    def boot(self) -> float:
        return self.start + (time.monotonic() - self.start) * self.speed

    def wall(self) -> float:
        return 1_800_000_000 + self.boot()

    def boot_id(self) -> str:
        return "one boot"


@dataclass
class Lab:
    """An account on a running server, and the worker that serves it."""

    files: Path
    account: Account
    work: Path
    key: Path  # the customer's
    server: subprocess.Popen[str] | None = None
    runs: list[tuple[str, str]] = field(default_factory=list)
    clock: QuickClock = field(default_factory=QuickClock)

    @contextmanager
    def customer(self) -> Iterator[paramiko.SFTPClient]:
        with paramiko.SSHClient() as client:
            client.load_host_keys(str(self.account.known_hosts))
            address = (self.account.host, self.account.port, self.account.username)
            client.connect(*address, key_filename=str(self.key), look_for_keys=False, allow_agent=False)
            with client.open_sftp() as sftp:
                yield sftp

    def send(self, name: str, content: bytes, folder: str = "requests") -> None:
        """Upload as a customer does, in a session of its own."""
        with self.customer() as sftp, sftp.open(f"{folder}/{name}", "wb") as file:
            file.write(content)

    @contextmanager
    def worker(self, **changes: Any) -> Iterator[Worker]:
        account = Account(**{**vars(self.account), **changes})
        with (
            Ledger(self.work / "ledger.sqlite") as ledger,
            Mailbox(account, ledger, self.work / "inbox", self.clock) as mailbox,
        ):
            yield Worker(mailbox, ledger, self.work, self.runs)

    def options(self) -> list[str]:
        """OpenSSH's clients: who, whose key, where."""
        known = f"UserKnownHostsFile={self.account.known_hosts}"
        options = ["-i", str(self.key), "-P", str(self.account.port), "-o", "IdentitiesOnly=yes", "-o", known]
        return [*options, "-o", "GlobalKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]

    @property
    def address(self) -> str:
        return f"{self.account.username}@127.0.0.1"


@dataclass
class Worker:
    """A mailbox that answers every request with its SHA-256."""

    mailbox: Mailbox
    ledger: Ledger
    work: Path
    runs: list[tuple[str, str]]

    def tick(self) -> None:
        self.mailbox.resume()
        for folder in FOLDERS:
            self.mailbox.poll(folder)
        for intake in self.mailbox.pending():
            answer = self.work / f"{intake.claim_id}.answer"
            answer.write_text(intake.sha256)
            self.runs.append((intake.name, intake.sha256))
            self.mailbox.publish(intake.claim_id, [(answer, intake.name)])
        self.mailbox.sweep()

    def ticks(self, until: Callable[[], bool], seconds: float = 20) -> None:
        """Tick until something holds."""
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, self.mailbox.held()
            with suppress(MailboxError):  # the sensor's tick fails and the next one goes on
                self.tick()
            time.sleep(0.02)

    def held(self) -> dict[str, str]:
        return dict(self.mailbox.held())

    def is_answered(self, *names: str) -> Callable[[], bool]:
        """Whether these are answered and nothing is left to do, originals included."""

        def holds() -> bool:
            is_over = not self.ledger.in_state(*set(State) - set(FINAL)) and not self.ledger.on_server()
            return is_over and set(names) <= {response.name for response in self.ledger.responses()}

        return holds


def _account(root: Path, port: int, username: str, **changes: Any) -> Account:
    settings: dict[str, Any] = {"quiet_seconds": 0, "linger_seconds": 0, **changes}
    return Account("lorem", "127.0.0.1", port, username, keys.service_key(root), root / "known_hosts", **settings)


@contextmanager
def embedded(
    root: Path, *, work: Path | None = None, serving: dict[str, Any] | None = None, **changes: Any
) -> Iterator[Lab]:
    """The embedded server in this process; `serving` goes to it and other keywords to the account."""
    access = keys.prepare(root, ("lorem",))
    work = work or root / "work"
    work.mkdir(exist_ok=True)
    with sftp_server.serve(root, access, port=0, **(serving or {})) as server:
        account = _account(root, server.port, "lorem", **changes)
        yield Lab(root / "accounts" / "lorem", account, work, keys.feeder_key(root, "lorem"))


@contextmanager
def openssh(root: Path, **changes: Any) -> Iterator[Lab]:
    """An sshd of our own, with one account for both sides; keywords change the mailbox's account."""
    keys.prepare(root, ("lorem",))
    host_key = keys.host_key(root)
    work, files = root / "work", root / "files"
    work.mkdir(exist_ok=True)
    for folder in (*EXCHANGE, *INTERNAL):
        (files / folder).mkdir(parents=True, exist_ok=True)
    port = free_port()
    (root / "sshd_config").write_text(
        f"""
        Port {port}
        ListenAddress 127.0.0.1
        HostKey {root}/host_key
        AuthorizedKeysFile {keys.service_key(root)}.pub {keys.feeder_key(root, "lorem")}.pub
        PasswordAuthentication no
        StrictModes no
        UsePAM no
        PidFile none
        PermitRootLogin prohibit-password
        MaxStartups 100
        Subsystem sftp internal-sftp -d {files}
        ForceCommand internal-sftp -d {files}
        """
    )
    connection.pin_host_key(root / "known_hosts", "127.0.0.1", port, host_key)
    account = _account(root, port, getpass.getuser(), **changes)
    lab = Lab(files, account, work, keys.feeder_key(root, "lorem"))
    start_openssh(lab, root)
    try:
        yield lab
    finally:
        stop(lab.server)


def start_openssh(lab: Lab, root: Path) -> None:
    """Start the sshd whose configuration lies in `root`, and wait until it answers."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd demands it; its package makes it when the service starts
    command = [str(SSHD), "-D", "-e", "-f", str(root / "sshd_config")]
    lab.server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    for _ in range(200):
        if lab.server.poll() is not None:
            pytest.skip(f"sshd does not run here: {lab.server.communicate()[1]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", lab.account.port)) == 0:
                return
        time.sleep(0.05)
    pytest.skip("sshd does not answer")


def stop(server: subprocess.Popen[str] | None) -> None:
    """End a process and those that it started."""
    if server is None:
        return
    for child in children(server.pid):
        kill(child)
    server.kill()
    server.communicate(timeout=10)


def children(parent: int) -> list[int]:
    """Process ids of a process's children and theirs."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            child = int(status.parent.name)
            found += [*children(child), child]
    return found


def kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def dial(lab: Lab) -> socket.socket:
    """A TCP connection to the server, without a word."""
    return socket.create_connection((lab.account.host, lab.account.port), timeout=10)


def await_true(
    condition: Callable[[], bool], *, ignoring: tuple[type[Exception], ...] = (), seconds: float = 20
) -> None:
    """Wait until a condition holds; the exceptions in `ignoring` mean that it does not yet."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(*ignoring):
            if condition():
                return
        assert time.monotonic() < deadline
        time.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Path]:
    """A small file system of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def proxy(target: int) -> Iterator[tuple[int, int]]:
    """A TCP proxy in a process of its own: its port, and its process id to stop it with signals."""
    port = free_port()
    with subprocess.Popen(script("tcp_proxy", port, target), cwd=CHECKOUT) as process:
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield port, process.pid
        finally:
            process.kill()


@contextmanager
def unprivileged(root: Path, user: int = 65534) -> Iterator[Lab]:
    """The embedded server in a process of another user, to whom the folders belong: its rights are the kernel's."""
    keys.prepare(root, ("lorem",))
    keys.host_key(root)
    work = root / "work"
    work.mkdir()
    command = script("unprivileged_server", root, user)
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            account = _account(root, port, "lorem")
            yield Lab(root / "accounts" / "lorem", account, work, keys.feeder_key(root, "lorem"))
        finally:
            process.kill()


@contextmanager
def worker_process(lab: Lab, *, ticks: int) -> Iterator[subprocess.Popen[str]]:
    """Workers in a process of their own, each forked when the one before it was killed; ends after `ticks` of one."""
    account = lab.account
    place = (account.port, account.username, account.quiet_seconds, account.private_key, account.known_hosts)
    command = script("sftp_worker", lab.work, ticks, *place)
    # Python 3.12 warns of threads when a process forks. Those here are of number libraries and hold nothing.
    command[1:1] = ["-W", "ignore:This process:DeprecationWarning"]
    with subprocess.Popen(command, cwd=CHECKOUT, text=True, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def script(name: str, *arguments: object) -> list[str]:
    """The command of a module of this folder, to be run in CHECKOUT: that is where Python looks for it."""
    return [sys.executable, "-m", f"{__package__}.{name}", *map(str, arguments)]
