"""Runs whose worker is gone and pool slots that no living run holds: `python -m recoflow.defs.stuck_runs [--repair]`.

Prints a JSON list of findings. Run monitoring ends and frees the same within seconds while the daemon runs; this is for
a daemon that does not run, and for who wants to know.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import dagster as dg

from recoflow.defs import workers

UNDER_WAY = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
CURE = "`recoflow up` mends it within a minute; without it, run `recoflow doctor --repair`"


def find(instance: dg.DagsterInstance, *, is_repairing: bool) -> list[dict[str, Any]]:
    """What is stuck; repaired in this order, because a run that is ended holds no slot rightly."""
    return [*_runs(instance, is_repairing=is_repairing), *_slots(instance, is_repairing=is_repairing)]


def _runs(instance: dg.DagsterInstance, *, is_repairing: bool) -> Iterator[dict[str, Any]]:
    for run, reason in workers.lost_runs(instance, *UNDER_WAY):
        if is_repairing:
            instance.report_run_failed(run, f"Ended by `recoflow doctor --repair`: {reason}")
        yield _finding(f"run {run.run_id} ({run.job_name})", f"is {run.status.value}, but {reason}", is_repairing)


def _slots(instance: dg.DagsterInstance, *, is_repairing: bool) -> Iterator[dict[str, Any]]:
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return
    for pool in sorted(storage.get_concurrency_keys()):
        for run_id in sorted({slot.run_id for slot in storage.get_concurrency_info(pool).claimed_slots}):
            run = instance.get_run_by_id(run_id)
            if run is not None and not run.is_finished:
                continue
            if is_repairing:
                storage.free_concurrency_slots_for_run(run_id)
            state = "is not known" if run is None else f"is over ({run.status.value})"
            yield _finding(f"pool {pool}", f"has a slot that run {run_id} holds, which {state}", is_repairing)


def _finding(where: str, what: str, is_repaired: bool) -> dict[str, Any]:
    return {"where": where, "what": what, "cure": CURE, "is_repaired": is_repaired}


if __name__ == "__main__":
    with dg.DagsterInstance.get() as opened:
        found = find(opened, is_repairing="--repair" in sys.argv[1:])
    sys.stdout.write(json.dumps(found))
