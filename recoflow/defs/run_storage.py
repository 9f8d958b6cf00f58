"""`storage` in dagster.yaml: where runs, events and schedules are stored, and whether connections stay open."""

from typing import Any

import dagster as dg
from dagster._serdes import ConfigurableClassData

from recoflow.defs.run_files import SqliteFiles, located


class RunStorage(SqliteFiles):
    """Dagster's own storage; with `keeps_connections: true` that of `run_store`."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """The `config` in dagster.yaml."""
        return {"base_dir": dg.StringSource, "keeps_connections": dg.Field(bool, default_value=False)}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Any:
        """What Dagster calls with the `config` of dagster.yaml."""
        base_dir = located(config_value)["base_dir"]
        if not config_value.get("keeps_connections", False):
            return cls(base_dir, inst_data)
        from recoflow.defs.run_store import SqliteStorage

        return SqliteStorage(base_dir, inst_data)
