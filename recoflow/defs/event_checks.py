"""Checks of `events` and `interactions`, and the go-live readiness table of an environment.

The checks are a step of their own after `items`, `identity` and `interactions`, because most of them join these. They
warn and never block: what is odd about events must not keep what is right about them from being used.
"""

from collections.abc import Iterator

import dagster as dg
from dagster_duckdb import DuckDBResource

from recoflow import schema
from recoflow.defs import metadata, names
from recoflow.defs.clock import now
from recoflow.defs.resources import Installation
from recoflow.event_quality import event_checks, interaction_checks, readiness
from recoflow.settings.environment import Environment

JOINED = ("items", "identity", "interactions")


def build_checks(environment: Environment) -> list[dg.AssetChecksDefinition]:
    """The checks of `event_quality.event_checks` and `.interaction_checks`: a step for each of the two assets.

    One step for both could not run when only one of the assets is materialized.
    """
    return [_of_events(environment), _of_interactions(environment)]


def _of_events(environment: Environment) -> dg.AssetChecksDefinition:
    key = names.asset_key(environment, "events")
    about = {"window_days": environment.quality.window_days}

    @dg.multi_asset_check(
        name=f"{environment.name}__check_events",
        specs=_specs(key, event_checks.CHECKS, [names.asset_key(environment, name) for name in JOINED]),
    )
    def check_events(installation: Installation, duckdb: DuckDBResource) -> Iterator[dg.AssetCheckResult]:
        with duckdb.get_connection() as connection:
            installation.lake(environment).views(connection, "events", "items", "identity", "responses")
            findings = event_checks.check_events(connection, environment, now())
        yield from metadata.check_results(findings, event_checks.CHECKS, key, about)

    return check_events


def _of_interactions(environment: Environment) -> dg.AssetChecksDefinition:
    key = names.asset_key(environment, "interactions")

    @dg.multi_asset_check(
        name=f"{environment.name}__check_interactions",
        specs=_specs(key, interaction_checks.CHECKS, [names.asset_key(environment, "items")]),
    )
    def check_interactions(installation: Installation, duckdb: DuckDBResource) -> Iterator[dg.AssetCheckResult]:
        with duckdb.get_connection() as connection:
            installation.lake(environment).views(connection, "interactions", "items")
            findings = interaction_checks.check_interactions(connection, environment, now())
        yield from metadata.check_results(findings, interaction_checks.CHECKS, key, {})

    return check_interactions


def build_assets(environment: Environment) -> list[dg.AssetsDefinition]:
    """`readiness` of one environment."""

    @dg.asset(
        key=names.asset_key(environment, "readiness"),
        deps=[names.asset_key(environment, "events")],
        description="Go-live readiness: what is seen of each event type, at what rate, and how well it is attributed.",
        metadata={"dagster/column_schema": metadata.column_schema(readiness.TABLE)},
        **names.common_spec_args(environment, "performance", {"duckdb"}),
    )
    def readiness_(installation: Installation, duckdb: DuckDBResource) -> dg.MaterializeResult:
        with duckdb.get_connection() as connection:
            installation.lake(environment).views(connection, "events")
            found = readiness.table(connection, environment, now())
        return dg.MaterializeResult(
            metadata={
                "ready_before_placements": readiness.is_ready(found, with_placements=False),
                "ready_for_live_placements": readiness.is_ready(found, with_placements=True),
                "event_types_seen": found["last_at"].count(),
                "event_types_known": len(schema.EVENT_TYPES),
                "readiness": metadata.preview(found, found.height),
            }
        )

    return [readiness_]


def _specs(key: dg.AssetKey, checks: dict[str, str], after: list[dg.AssetKey]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(name=name, asset=key, description=description, additional_deps=after)
        for name, description in checks.items()
    ]
