"""Assets of the interactions stage: the catalogue, who is behind a device, and weighted interactions."""

from datetime import timedelta

import dagster as dg
import polars as pl
from dagster_duckdb import DuckDBResource

from recoflow import schema
from recoflow.defs import metadata, names
from recoflow.defs.clock import now
from recoflow.defs.resources import Installation
from recoflow.interactions import build, catalogue, identity
from recoflow.settings.environment import Environment


def build_assets(environment: Environment) -> list[dg.AssetsDefinition]:
    """`items`, `identity` and `interactions` of one environment."""
    return [_items(environment), _identity(environment), _interactions(environment)]


def _items(environment: Environment) -> dg.AssetsDefinition:
    @dg.asset(
        key=names.asset_key(environment, "items"),
        deps=[names.asset_key(environment, "events")],
        description="The catalogue: item updates folded field by field, the latest timestamp wins.",
        metadata={"dagster/column_schema": metadata.column_schema(schema.ITEMS)},
        **names.common_spec_args(environment, "interactions", {"duckdb", "deltalake"}),
    )
    def items(installation: Installation, duckdb: DuckDBResource) -> dg.MaterializeResult:
        lake = installation.lake(environment)
        with duckdb.get_connection() as connection:
            lake.views(connection, "updates")
            frame = catalogue.fold(connection)
        version = lake.overwrite("items", frame)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": frame.height,
                "dagster/table_name": f"{environment.name}.items",
                "disabled": int((~frame["is_enabled"]).sum()),
                "unavailable": int((~frame["is_available"]).sum()),
                "table_version": version,
                "preview": metadata.preview(frame),
            }
        )

    return items


def _identity(environment: Environment) -> dg.AssetsDefinition:
    @dg.asset(
        key=names.asset_key(environment, "identity"),
        deps=[names.asset_key(environment, "events")],
        description=(
            "Which user a device belongs to. A device on which one user was ever seen belongs to that user, with what"
            " happened on it before the log-in; a device with two or more users stands for itself."
        ),
        metadata={"dagster/column_schema": metadata.column_schema(schema.IDENTITY)},
        **names.common_spec_args(environment, "interactions", {"duckdb", "deltalake"}),
    )
    def identity_(installation: Installation, duckdb: DuckDBResource) -> dg.MaterializeResult:
        lake = installation.lake(environment)
        with duckdb.get_connection() as connection:
            lake.views(connection, "events")
            frame = identity.resolve_devices(connection)
        version = lake.overwrite("identity", frame)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": frame.height,
                "dagster/table_name": f"{environment.name}.identity",
                "devices_of_users": frame["user_id"].count(),
                "shared_or_anonymous_devices": frame["user_id"].null_count(),
                "table_version": version,
                "preview": metadata.preview(frame),
            }
        )

    return identity_


def _interactions(environment: Environment) -> dg.AssetsDefinition:
    @dg.asset(
        key=names.asset_key(environment, "interactions"),
        deps=[names.asset_key(environment, "events"), names.asset_key(environment, "identity")],
        description="One row per subject and item: weight per event type × time decay, and the types that happened.",
        metadata={"dagster/column_schema": metadata.column_schema(schema.INTERACTIONS)},
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=36)),
        **names.common_spec_args(environment, "interactions", {"duckdb", "deltalake"}),
    )
    def interactions(installation: Installation, duckdb: DuckDBResource) -> dg.MaterializeResult:
        lake = installation.lake(environment)
        with duckdb.get_connection() as connection:
            lake.views(connection, "events")
            frame = build.interactions(connection, installation.effective(environment), now())
        version = lake.overwrite("interactions", frame)
        consumed = schema.event_type_bits(environment.events.consumed)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": frame.height,
                "dagster/table_name": f"{environment.name}.interactions",
                "subjects": frame["subject"].n_unique(),
                "items": frame["item_id"].n_unique(),
                "consumed": frame.filter((pl.col("event_types") & consumed) != 0).height,
                "events": int(frame["events"].sum()),
                "table_version": version,
                "preview": metadata.preview(frame),
            }
        )

    return interactions
