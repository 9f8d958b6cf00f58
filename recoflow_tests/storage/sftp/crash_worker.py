"""A mailbox worker that is killed: run as a script by test_crash, it forks a worker per round and account.

Arguments: the server's root, its port, the folder of the ledgers, and a JSON object account → steps to die at.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from recoflow.sandbox import keys
from recoflow.storage.sftp.account import Account
from recoflow.storage.sftp.ledger import Ledger
from recoflow.storage.sftp.mailbox import Mailbox

TICKS = 3
LATE = b"late\n"  # what a stalled client still writes into the original of a.csv when that was fetched
DEPOSITED = b"c\n"


def grow(claims: Path) -> None:
    for path in claims.glob("*.a.csv"):
        if not path.read_bytes().endswith(LATE):
            with path.open("ab") as file:
                file.write(LATE)


def work(account: Account, folder: Path, die_at: str | None, claims: Path) -> None:
    """Three ticks: everything that is pending is answered with its own digest."""

    def on_state(step: str) -> None:
        if step == "ingested":
            grow(claims)
        if step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    with (
        Ledger(folder / "ledger.sqlite") as ledger,
        Mailbox(account, ledger, folder / "inbox", on_state=on_state) as mailbox,
    ):
        for _ in range(TICKS):
            mailbox.deposit("c.csv", DEPOSITED)
            mailbox.resume()
            mailbox.poll()
            for intake in mailbox.pending():
                answer = folder / f"{intake.claim_id}.answer"
                answer.write_text(intake.sha256)
                with (folder / "runs").open("a") as runs:
                    runs.write(f"{intake.name} {intake.sha256}\n")
                mailbox.publish(intake.claim_id, [(answer, f"{intake.name}.side"), (answer, intake.name)])
            mailbox.sweep()


def in_a_child(account: Account, folder: Path, die_at: str | None, claims: Path) -> int:
    """The signal that ended the child, 0 when it came to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(account, folder, die_at, claims)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)


def main(root: Path, port: int, folder: Path, plan: dict[str, list[str]]) -> None:
    for name, steps in plan.items():
        account = Account(
            environment=name,
            host="127.0.0.1",
            port=port,
            username=name,
            private_key=keys.service_key(root),
            known_hosts=root / "known_hosts",
            quiet_seconds=0,
            linger_seconds=0,
        )
        claims = root / "accounts" / name / "claims"
        ended = [in_a_child(account, folder / name, step, claims) for step in [*steps, None]]
        (folder / name / "ended").write_text(json.dumps(ended))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4]))
