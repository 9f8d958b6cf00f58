"""A run whose worker was killed, with nothing left that knows of it: run monitoring fails it and frees its slot."""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._daemon.monitoring import execute_concurrency_slots_iteration, execute_run_monitoring_iteration

from recoflow_tests.faults.lost_worker import POOL
from recoflow_tests.scenario import REPOSITORY

LOG = logging.getLogger(__name__)


def look(instance: dg.DagsterInstance) -> None:
    """One look of the daemon's run monitoring."""
    context: Any = SimpleNamespace(instance=instance, create_request_context=lambda: None)
    assert [error for error in execute_run_monitoring_iteration(context, LOG) if error] == []
    assert [error for error in execute_concurrency_slots_iteration(context, LOG) if error] == []


def await_true(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.fault("C1", "C2", "F52")
def test_a_run_whose_worker_was_killed_fails_at_the_next_look_and_gives_its_slot_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # dagster.yaml's folders are relative to it
    shutil.copy(REPOSITORY / "dagster.yaml", tmp_path)
    command = (sys.executable, "-m", "recoflow_tests.faults.lost_worker", str(tmp_path))
    begun = tmp_path / "begun"
    with (
        subprocess.Popen(command, env={"PYTHONPATH": str(REPOSITORY)}) as worker,
        dg.DagsterInstance.from_config(str(tmp_path)) as instance,
    ):
        try:
            await_true(lambda: worker.poll() is not None or (begun.exists() and begun.read_text()), 120)
            run_id = begun.read_text()

            def status() -> str:
                run = instance.get_run_by_id(run_id)
                assert run is not None
                return run.status.value

            def holds_a_slot() -> bool:
                return run_id in instance.event_log_storage.get_concurrency_info(POOL).active_run_ids

            look(instance)
            assert (status(), holds_a_slot()) == ("STARTED", True)
        finally:
            worker.send_signal(signal.SIGKILL)
        worker.wait()
        look(instance)
        assert (status(), holds_a_slot()) == ("FAILURE", True)

        def is_free() -> bool:
            look(instance)
            return not holds_a_slot()

        await_true(is_free, 30)
