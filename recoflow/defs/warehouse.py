"""The asset that people and BI tools read: all environments in one DuckDB file, replaced as a whole."""

import dagster as dg

from recoflow.defs import metadata, names
from recoflow.defs.resources import Installation
from recoflow.settings.environment import Environment
from recoflow.storage import permissions
from recoflow.storage import warehouse as marts

SOURCES = ("events", "quarantine", "items", "interactions")


def build_warehouse(environments: tuple[Environment, ...]) -> dg.Definitions:
    """`warehouse`, over the tables of every environment, and its hourly schedule."""

    @dg.asset(
        deps=[names.asset_key(environment, name) for environment in environments for name in SOURCES],
        group_name="warehouse",
        kinds={"duckdb"},
        description="data/warehouse.duckdb: one schema per environment. Swapped in by a rename, no reader blocks it.",
    )
    def warehouse(installation: Installation) -> dg.MaterializeResult:
        path = installation.layout.warehouse
        lakes = {environment.name: installation.lake(environment) for environment in environments}
        rows = marts.build_warehouse(lakes, path, permissions.warehouse_mode(environments))
        shown = [{"schema": schema, **counts} for schema, counts in rows.items()]
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(str(path)),
                "bytes": path.stat().st_size,
                "rows": metadata.table(shown),
            }
        )

    schedule = dg.ScheduleDefinition(
        name="warehouse_schedule",
        target=dg.AssetSelection.assets(warehouse),
        cron_schedule="15 * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return dg.Definitions(assets=[warehouse], schedules=[schedule])
