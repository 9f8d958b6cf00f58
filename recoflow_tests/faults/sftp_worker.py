"""The worker of sftp_lab as a script: FOLDER TICKS PORT USER QUIET_SECONDS KEY KNOWN_HOSTS.

A child that is killed is followed by another. Exits 0 when one came to the end of its ticks. A tick that a server or a
network spoils is followed by the next; any other error ends it with exit code 1.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from recoflow.errors import MailboxError
from recoflow.storage.sftp.account import Account
from recoflow.storage.sftp.ledger import Ledger
from recoflow.storage.sftp.mailbox import Mailbox
from recoflow_tests.faults.sftp_lab import Worker


def work_in_children(work: Path, ticks: int, account: Account) -> int:
    while True:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                main(work, ticks, account)
                code = 0
            except Exception:  # noqa: BLE001 - the exit code says so
                traceback.print_exc()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return os.WEXITSTATUS(status)


def main(work: Path, ticks: int, account: Account) -> None:
    with Ledger(work / "ledger.sqlite") as ledger, Mailbox(account, ledger, work / "inbox") as mailbox:
        worker = Worker(mailbox, ledger, work, [])
        for _ in range(ticks):
            with suppress(MailboxError):
                worker.tick()
            time.sleep(0.02)
        with (work / "runs").open("a") as runs:
            runs.writelines(f"{name} {sha256}\n" for name, sha256 in worker.runs)


if __name__ == "__main__":
    folder, count, number, user, quiet, key, known_hosts = sys.argv[1:]
    paths = (Path(key), Path(known_hosts))
    settings = {"quiet_seconds": float(quiet), "linger_seconds": 0, "reply_seconds": 2}
    account = Account("lorem", "127.0.0.1", int(number), user, *paths, **settings)
    raise SystemExit(work_in_children(Path(folder), int(count), account))
