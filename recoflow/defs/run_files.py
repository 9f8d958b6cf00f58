"""Where Dagster's own files lie: under the data folder, wherever that is.

An erasure looks through the data folder, and a backup copies it. So `base_dir` in dagster.yaml is relative to that
folder, not to the working directory, which is the checkout.
"""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData

from recoflow.errors import ConfigurationError
from recoflow.storage.paths import DATA_FOLDER, Paths


def located(config: Mapping[str, Any]) -> dict[str, Any]:
    """The `config` of a class in dagster.yaml with its whole `base_dir`.

    Raises:
        ConfigurationError: dagster.yaml is of a version where `base_dir` was relative to the working directory.
    """
    folder = Path(config["base_dir"])
    if folder.parts[:1] == DATA_FOLDER.parts:
        cure = f"Write {folder.relative_to(DATA_FOLDER)}: it is relative to the data folder"
        raise ConfigurationError("dagster.yaml", f"names {folder} as base_dir", cure)
    return {**config, "base_dir": str(Paths.of_process(os.environ).root / folder)}


def remove_events(instance: dg.DagsterInstance, run_id: str) -> None:
    """Remove the database of a deleted run's events, which Dagster leaves behind."""
    storage = instance.event_log_storage
    if isinstance(storage, SqliteEventLogStorage):
        for suffix in ("", "-wal", "-shm"):
            Path(storage.path_for_shard(run_id) + suffix).unlink(missing_ok=True)


class SqliteFiles(DagsterSqliteStorage):
    """Dagster's own storage of runs, events and schedules in a folder."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        Path(base_dir).mkdir(parents=True, exist_ok=True)
        # Daemon, UI and code server start at once, and Dagster does not expect another to create its tables meanwhile.
        with Path(base_dir, "creation.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            super().__init__(base_dir, inst_data)


class Artifacts(LocalArtifactStorage):
    """`local_artifact_storage` in dagster.yaml."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "Artifacts":
        """What Dagster calls with the `config` of dagster.yaml."""
        return cls(inst_data=inst_data, **located(config_value))


class ComputeLogs(LocalComputeLogManager):
    """`compute_logs` in dagster.yaml."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "ComputeLogs":
        """What Dagster calls with the `config` of dagster.yaml."""
        return cls(inst_data=inst_data, **located(config_value))
