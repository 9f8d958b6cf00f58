"""Dagster's databases, kept open."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.compute_log_manager import ComputeIOType

from recoflow.defs import run_storage, run_store
from recoflow.errors import ConfigurationError
from recoflow.operations import runs
from recoflow.storage.paths import DATA_VARIABLE, Paths
from recoflow_tests.scenario import REPOSITORY

MODULE = {"module": "recoflow.defs.run_storage", "class": "RunStorage"}
QUIET = {
    "telemetry": {"enabled": False},
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    },
}
Opened = Callable[[str], dg.DagsterInstance]


@dg.op(out={})
def reporting() -> Any:
    yield dg.AssetMaterialization("table", partition="monday")
    yield dg.AssetCheckEvaluation(asset_key=dg.AssetKey("table"), check_name="sound", passed=True, partition="monday")


@dg.job(executor_def=dg.in_process_executor)
def report() -> None:
    reporting()


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Opens the instance on our storage ("kept") or on Dagster's own ("own"), over the same files."""

    def instance(kind: str) -> dg.DagsterInstance:
        folder = {"base_dir": str(tmp_path / "storage")}
        storage = (
            {"custom": MODULE | {"config": folder | {"keeps_connections": True}}}
            if kind == "kept"
            else {"sqlite": folder}
        )
        return dg.DagsterInstance.local_temp(str(tmp_path), overrides={"storage": storage} | QUIET)

    return instance


def told(instance: dg.DagsterInstance, run: str) -> list[str]:
    return [entry.dagster_event_type.value for entry in instance.all_logs(run) if entry.dagster_event_type]


def test_what_was_written_with_kept_connections_is_read_by_dagsters_own_storage(opened: Opened) -> None:
    with opened("kept") as kept:
        run = report.execute_in_process(instance=kept).run_id
        assert isinstance(kept.run_storage, run_store._Runs)
        written = told(kept, run)
    with opened("own") as own:
        assert told(own, run) == written
        assert {"ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION", "PIPELINE_SUCCESS"} <= set(written)
        assert own.get_run_by_id(run).is_success
        assert own.get_materialized_partitions(dg.AssetKey("table")) == {"monday"}


OPENING = """
import sys, time
from recoflow.defs.run_store import SqliteStorage
time.sleep(max(0, float(sys.argv[2]) - time.time()))
SqliteStorage(sys.argv[1]).dispose()
"""


def test_processes_that_start_at_once_create_the_databases_together(tmp_path: Path) -> None:
    start = str(time.time() + 5)
    command = [sys.executable, "-c", OPENING, str(tmp_path / "storage"), start]
    opening = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(each.communicate()[1], each.returncode) for each in opening] == [("", 0)] * 4


def test_dagsters_own_files_are_carried_on(opened: Opened) -> None:
    with opened("own") as own:
        first = report.execute_in_process(instance=own).run_id
    with opened("kept") as kept:
        second = report.execute_in_process(instance=kept).run_id
        assert {record.dagster_run.run_id for record in kept.get_run_records()} == {first, second}
        assert told(kept, first) == told(kept, second)


def test_runs_beyond_those_that_are_kept_open_are_opened_again(opened: Opened, monkeypatch: Any) -> None:
    monkeypatch.setattr(run_store, "MOST_RUNS", 2)
    with opened("kept") as kept:
        runs = [report.execute_in_process(instance=kept).run_id for _ in range(3)]
        events = [told(kept, run) for run in runs]
        assert events[0] == events[1] == events[2]
        assert len(kept.event_log_storage._engines) == 2


def test_threads_share_the_storage(opened: Opened) -> None:
    with opened("kept") as kept, ThreadPoolExecutor(4) as threads:
        runs = [report.execute_in_process(instance=kept).run_id for _ in range(2)]
        expected = [told(kept, run) for run in runs]
        assert list(threads.map(lambda run: told(kept, run), runs * 8)) == expected * 8


def test_an_asset_with_a_check_is_recorded(opened: Opened) -> None:
    @dg.asset(
        check_specs=[dg.AssetCheckSpec("sound", asset="checked")], partitions_def=dg.StaticPartitionsDefinition(["a"])
    )
    def checked() -> dg.MaterializeResult:
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True, check_name="sound")])

    with opened("kept") as kept:
        made = dg.materialize([checked], instance=kept, partition_key="a")
        assert made.success
        assert "ASSET_CHECK_EVALUATION" in told(kept, made.run_id)


def test_a_closed_instance_leaves_no_file_open(opened: Opened, tmp_path: Path) -> None:
    with opened("kept") as kept:
        report.execute_in_process(instance=kept)
    assert [path.name for path in tmp_path.rglob("*.db-wal")] == []


def test_after_a_wipe_runs_are_recorded_again(opened: Opened) -> None:
    with opened("kept") as kept:
        report.execute_in_process(instance=kept)
        kept.wipe()
        assert kept.get_run_records() == []
        run = report.execute_in_process(instance=kept).run_id
    with opened("own") as own:
        assert "PIPELINE_SUCCESS" in told(own, run)


@pytest.mark.fault("M15")
def test_all_that_dagster_writes_lies_under_the_data_folder_wherever_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, data = tmp_path / "checkout", tmp_path / "elsewhere"
    checkout.mkdir()
    shutil.copy(REPOSITORY / "dagster.yaml", checkout)
    monkeypatch.chdir(checkout)
    monkeypatch.setenv(DATA_VARIABLE, str(data))
    with dg.DagsterInstance.from_config(str(checkout)) as instance:
        assert report.execute_in_process(instance=instance).success
        with instance.compute_log_manager.open_log_stream(["run", "step"], ComputeIOType.STDERR) as log:
            assert log is not None
            log.write("said")
        artifacts = Path(instance.storage_directory())
    dagster = Paths(data).dagster
    assert [path.name for path in checkout.iterdir()] == ["dagster.yaml"]
    assert (dagster / "storage/history/runs.db").exists()
    assert "said" in "".join(path.read_text() for path in (dagster / "logs").rglob("*.err"))
    assert artifacts.is_relative_to(dagster)
    assert runs.storage(Paths(data), checkout) == dagster / "storage"


def test_a_folder_that_is_relative_to_the_working_directory_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Write dagster/storage: it is relative to the data folder"):
        run_storage.RunStorage.from_config_value(None, {"base_dir": "data/dagster/storage"})
