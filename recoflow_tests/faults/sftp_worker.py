"""The worker of sftp_lab as a script: FOLDER TICKS PORT USER QUIET_SECONDS KEY KNOWN_HOSTS.

Exits 0 after its ticks. A tick that a server or a network spoils is followed by the next; anything else ends it.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path

from recoflow.errors import MailboxError
from recoflow.storage.account import Account
from recoflow.storage.ledger import Ledger
from recoflow.storage.mailbox import Mailbox
from recoflow_tests.faults.sftp_lab import Worker


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
    main(
        Path(folder),
        int(count),
        Account(
            "lorem",
            "127.0.0.1",
            int(number),
            user,
            Path(key),
            Path(known_hosts),
            quiet_seconds=float(quiet),
            linger_seconds=0,
            reply_seconds=2,
        ),
    )
