"""Attempts to answer a file that waits in the inbox: how many runs were started, how they ended, when the next is due.

What belongs here: these counts in the ledger. What does not: the runs (`recoflow.defs`).

A claim counts four things:

- `attempts`: runs that were started for it. Never reset, because it makes the run key and the pause.
- `begun`: runs that began to work on it.
- `tries`: runs that reported a failure.
- `failures`: reported failures whose cause is the file itself.

A run that began and neither answered nor reported is lost: its worker was killed. That is not the file's fault, unless
the file is what kills the worker. So files of lost runs share their next run with fewer others, and after MOST_LOST
lost runs, all but the first few of them with this file alone, a file is given up like one that failed MOST_FAILURES
times by its own fault. With pauses of up to 15 minutes these take over 3 hours: long enough for a machine that lacks
memory to be noticed, for which an alert is raised after the first lost run.
"""

from __future__ import annotations

from typing import Final

from recoflow.storage.sftp.claims import Claim, State
from recoflow.storage.sftp.ledger import Ledger

MOST_FAILURES: Final = 5
MOST_LOST: Final = 20
FIRST_PAUSE: Final = 10.0  # seconds between a failed run and the next; doubled with each run
LONGEST_PAUSE: Final = 900.0
GIVEN_UP: Final = "not_answered"  # code of the errors file
EXCUSE: Final = (
    "The request could not be answered because of an unexpected problem. The operator was informed. "
    "Send the file again to try again."
)


def pause(attempts: int) -> float:
    """Seconds between an attempt and the next."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts - 1, 20))


def lost_runs_of(claim: Claim) -> int:
    """Runs that began to work on a claim, and neither answered it nor reported a failure."""
    return max(0, claim.begun - claim.tries)


def is_hopeless(claim: Claim) -> bool:
    """Whether no further attempt is worth it."""
    return claim.failures >= MOST_FAILURES or lost_runs_of(claim) >= MOST_LOST


def is_given_up(claim: Claim) -> bool:
    """Whether it was answered with an errors file because no attempt had success."""
    return (claim.rejection or "").startswith(f"{GIVEN_UP}:")


def started(ledger: Ledger, claim_id: str, now: float) -> int:
    """Count a run that is started for a claim; the number makes its run key."""
    attempts = ledger.claim(claim_id).attempts + 1
    return ledger.update(claim_id, attempts=attempts, retry_at=now + pause(attempts)).attempts


def begun(ledger: Ledger, claim_ids: list[str]) -> None:
    """Count a run that begins to work on these claims."""
    with ledger.transaction() as connection:
        connection.executemany("UPDATE claims SET begun = begun + 1 WHERE id = ?", [(each,) for each in claim_ids])


def count_failure(ledger: Ledger, claim_id: str, problem: str, now: float, *, is_own: bool) -> bool:
    """Count a failure that a run reports, for a claim that waits for its answer.

    Args:
        ledger: of the claim.
        claim_id: of the claim; one that is being published, or was, is left as it is.
        problem: for people.
        now: service clock.
        is_own: the cause is the file itself.

    Returns whether the problem is new: no other waiting claim has it.
    """
    claim = ledger.claim(claim_id)
    if claim.state is not State.INGESTED:
        return False
    is_new = not ledger.is_known(problem)
    ledger.update(
        claim_id,
        tries=claim.tries + 1,
        failures=claim.failures + is_own,
        retry_at=now + pause(claim.attempts),
        problem=problem,
    )
    return is_new


def reset(ledger: Ledger, claim_id: str) -> Claim:
    """Forget how earlier attempts ended: the next one is due now, also for a claim that was given up."""
    return ledger.update(claim_id, state=State.INGESTED, begun=0, failures=0, rejection=None, delivered_at=None)
