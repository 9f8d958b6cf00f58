"""When an ingest or a training that failed is followed by another, on a real instance with real failing runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from recoflow.defs import reruns
from recoflow.defs.reruns import Failed
from recoflow.defs.sensors import TRAINING_PAUSES
from recoflow.errors import ModelError, StorageError

PAUSES = (60, 120)
NOW = datetime(2026, 11, 30, 6, tzinfo=UTC)
ERROR: list[Exception] = []


@dg.op
def work() -> None:
    if ERROR:
        raise ERROR[0]


@dg.job
def training() -> None:
    work()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    ERROR.clear()
    with dg.instance_for_test() as made:
        yield made


def run(instance: dg.DagsterInstance, error: Exception | None) -> str:
    ERROR[:] = [] if error is None else [error]
    return training.execute_in_process(instance=instance, raise_on_error=False).run_id


def interruption(instance: dg.DagsterInstance, error: Exception) -> str | None:
    return reruns.interruption(instance, run(instance, error))


@pytest.mark.fault("C1")
def test_a_run_whose_worker_died_was_interrupted(instance: dg.DagsterInstance) -> None:
    lost = instance.add_run(dg.DagsterRun(job_name="training", status=dg.DagsterRunStatus.STARTED))
    instance.report_run_failed(lost)
    assert reruns.interruption(instance, lost.run_id) == "its worker ended without a report"


def test_a_full_disk_interrupts_and_a_refused_model_does_not(instance: dg.DagsterInstance) -> None:
    full = interruption(instance, StorageError("lake", "cannot be written", "Free space"))
    assert full is not None
    assert "cannot be written" in full
    assert "No space left" in (interruption(instance, OSError(28, "No space left on device")) or "")
    assert interruption(instance, ModelError("model", "has no numbers", "Train again")) is None
    assert interruption(instance, ValueError("a fault of ours")) is None


def test_a_canceled_run_was_stopped_on_purpose(instance: dg.DagsterInstance) -> None:
    stopped = instance.add_run(dg.DagsterRun(job_name="training", status=dg.DagsterRunStatus.CANCELED))
    assert reruns.interruption(instance, stopped.run_id) is None


def test_failures_in_a_row_are_counted_from_the_newest_run(instance: dg.DagsterInstance) -> None:
    for error in (ValueError(), None, ValueError(), ValueError()):
        newest = run(instance, error)
    found = reruns.failures_at_head(reruns.latest_runs(instance, "training"))
    assert found is not None
    assert (found.run_id, found.failures) == (newest, 2)
    run(instance, None)
    assert reruns.failures_at_head(reruns.latest_runs(instance, "training")) is None


def test_pauses_grow_with_the_failures_and_the_last_one_lasts() -> None:
    assert [reruns.pause_after(failures, PAUSES) for failures in (1, 2, 3, 400)] == [60, 120, 120, 120]


def test_a_training_killed_some_times_in_a_row_follows_within_a_minute() -> None:
    assert max(reruns.pause_after(failures, TRAINING_PAUSES) for failures in range(1, 9)) == 60
    assert len(TRAINING_PAUSES) < reruns.LOOKED_AT
    assert reruns.pause_after(400, TRAINING_PAUSES) == 3600


@pytest.mark.parametrize(("since", "rests"), [(59, True), (61, False), (-30 * 86_400, False), (30 * 86_400, False)])
def test_a_clock_that_jumped_ends_a_pause_and_never_prolongs_it(since: float, rests: bool) -> None:
    assert Failed("x", 1, NOW.timestamp() - since).rests(PAUSES, NOW) is rests
