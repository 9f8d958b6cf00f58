"""The exchange over SFTP: the ledger against the claims on the server, and files that do not go on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from recoflow.errors import MailboxError, StorageError
from recoflow.operations.finding import Fault
from recoflow.settings.environment import Environment
from recoflow.storage.paths import Paths
from recoflow.storage.sftp.account import Account
from recoflow.storage.sftp.ledger import Ledger
from recoflow.storage.sftp.mailbox import Mailbox

AREA = "sftp"
DAY = 86_400.0


def examine_exchange(layout: Paths, environment: Environment, *, is_repairing: bool) -> Iterator[Fault]:
    """What is wrong with one environment's account."""
    folder, account = layout.mailbox(environment.name), Account.of(environment, layout)
    is_there = (folder / "ledger.sqlite").exists()
    with tempfile.TemporaryDirectory() as elsewhere:  # a look makes no ledger where there is none
        place = folder if is_there or is_repairing else Path(elsewhere)
        try:
            with Ledger(place / "ledger.sqlite") as ledger, Mailbox(account, ledger, place / "inbox") as mailbox:
                yield from _held(mailbox, environment.name)
                yield from _unknown(mailbox, environment.name, is_repairing=is_repairing)
                yield from _untaken(mailbox, environment.name)
        except (MailboxError, StorageError) as error:
            yield Fault.of(AREA, error, environment.name)


def _unknown(mailbox: Mailbox, name: str, *, is_repairing: bool) -> Iterator[Fault]:
    if not (unknown := mailbox.unknown()):
        return
    problem = f"the ledger does not know {len(unknown)} of the files there, so that none of them is answered"
    cure = f"Run `recoflow sftp rebuild {name}`, which answers each with the same bytes as before"
    finding = Fault(AREA, f"claims/: {', '.join(unknown[:5])}", problem, cure, name)
    if is_repairing:
        mailbox.rebuild()
        finding = finding.repaired()
    yield finding


def _held(mailbox: Mailbox, name: str) -> Iterator[Fault]:
    for file, problem in mailbox.held():
        yield Fault(AREA, file, f"is held back: {problem}", "It is tried again by itself; mend what it says", name)
    for file in mailbox.unanswered(DAY):
        cure = f"See the alerts and the runs in the Dagster UI; then `recoflow campaign retry {file} -e {name}`"
        yield Fault(AREA, file, "came in more than a day ago and has no answer", cure, name)


def _untaken(mailbox: Mailbox, name: str) -> Iterator[Fault]:
    for file in mailbox.untaken(DAY):
        cure = "Give the file a final name, or remove it; if its name is final, see whether `recoflow up` runs"
        yield Fault(AREA, file, "lies there for more than a day and is not taken", cure, name)
