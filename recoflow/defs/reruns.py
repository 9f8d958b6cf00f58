"""Ingests and trainings that failed: whether and when the next one starts.

What belongs here: what Dagster knows of a job's latest runs. What does not: request files, whose attempts the ledger
counts (see `retries`).

Times come from the wall clock, which may jump. A pause that seems to begin in the future is over.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Final

import dagster as dg

from recoflow.defs import names
from recoflow.errors import RecoflowError

LOOKED_AT: Final = 12  # latest runs of a job: enough for the longest pause
FAILED: Final = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
# What ends a step though nothing is wrong with its data: its process is stopped, or the machine lacks something.
INTERRUPTIONS: Final = frozenset(
    {"DagsterExecutionInterruptedError", "KeyboardInterrupt", "MemoryError", "OSError", "StorageError", "DamagedError"}
)


Pauses = Sequence[int]  # seconds before the next run after 1, 2, … failures in a row; the last one lasts


def pause_after(failures: int, pauses: Pauses) -> int:
    """The seconds of pause after so many failures in a row."""
    return pauses[min(failures, len(pauses)) - 1]


@dataclass(frozen=True)
class Failed:
    """The latest run of a job, which failed, as did the `failures` - 1 before it."""

    run_id: str
    failures: int
    ended: float  # seconds since 1970

    def rests(self, pauses: Pauses, moment: datetime) -> bool:
        """Whether the pause after it is not over at `moment`."""
        return 0 <= moment.timestamp() - self.ended < pause_after(self.failures, pauses)


def failures_at_head(records: list[dg.RunRecord]) -> Failed | None:
    """The failures at the head of a job's runs, which are the newest first; None where the newest did not fail."""
    return _head(records, lambda run: run.status in FAILED)


def untaken(records: list[dg.RunRecord]) -> Failed | None:
    """The same for ingests that took all files but some, which the disk or its rights refused."""
    return _head(records, lambda run: run.status == dg.DagsterRunStatus.SUCCESS and names.UNTAKEN_TAG in run.tags)


def _head(records: list[dg.RunRecord], counts: Callable[[dg.DagsterRun], bool]) -> Failed | None:
    row = list(takewhile(lambda record: counts(record.dagster_run), records))
    return Failed(row[0].dagster_run.run_id, len(row), row[0].end_time or 0.0) if row else None


def latest_runs(instance: dg.DagsterInstance, job: str) -> list[dg.RunRecord]:
    """The latest runs of a job, the newest first."""
    return list(instance.get_run_records(dg.RunsFilter(job_name=job), limit=LOOKED_AT))


def interruption(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """What stopped a failed run though nothing is wrong with what it worked on; None when it failed by itself.

    A run whose worker died has no failed step, because nothing was left that could report one. A canceled run was
    stopped on purpose.
    """
    run = instance.get_run_by_id(run_id)
    if run is None or run.status is not dg.DagsterRunStatus.FAILURE:
        return None
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    if not entries:
        return "its worker ended without a report"
    for entry in entries:
        assert entry.dagster_event is not None
        error = entry.dagster_event.step_failure_data.error
        while error is not None:
            if error.cls_name in INTERRUPTIONS:
                return f"{error.cls_name}: {error.message.strip().splitlines()[-1][:200]}"
            error = error.cause
    return None


def alert(job: str, run_id: str, problem: str) -> RecoflowError:
    """What an operator should know of a run that is started again."""
    cure = f"Nothing: it is started again. If it fails again, see the log of run {run_id} in the Dagster UI"
    return RecoflowError(f"run {run_id} of {job}", f"failed: {problem}", cure)
