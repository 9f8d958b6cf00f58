"""One environment as Dagster definitions: its assets, jobs, sensors and schedules.

An environment is a set of assets and not a partition: the checks of partitioned assets share one timeline, so that one
customer's check could hide another's.
"""

import dagster as dg

from recoflow.defs import (
    batch_runs,
    campaigns,
    delivery_log,
    event_checks,
    events,
    interactions,
    models,
    names,
    retention,
    scheduled,
    sensors,
)
from recoflow.defs.resources import Installation
from recoflow.settings.environment import Environment

STAGES = {
    "ingest": ("events", "quarantine", "items", "identity", "interactions", "readiness"),
    "training": ("factors", "champion"),
    "campaign": ("campaign_request", "campaign_recommendations", "campaign_response"),
}


def build_environment(environment: Environment, installation: Installation) -> dg.Definitions:
    """Everything that Dagster knows of an environment; needs the resources `installation`, `checker` and `duckdb`."""
    assets = [
        *events.build_assets(environment),
        *interactions.build_assets(environment),
        *event_checks.build_assets(environment),
        *models.build_assets(environment),
        *campaigns.build_assets(environment),
    ]
    jobs = {
        name: dg.define_asset_job(
            names.job(environment, name),
            selection=dg.AssetSelection.assets(*(names.asset_key(environment, asset) for asset in stage)),
            description=f"{environment.title or environment.name}: {', '.join(stage)}.",
            tags={names.ENVIRONMENT_TAG: environment.name},
            executor_def=dg.in_process_executor,
        )
        for name, stage in STAGES.items()
    }
    burst = batch_runs.build_job(environment, installation)
    noting = delivery_log.build_job(environment, installation)
    return dg.Definitions(
        assets=assets,
        asset_checks=event_checks.build_checks(environment),
        jobs=[*jobs.values(), burst, noting, *scheduled.build_jobs(environment), retention.build_job(environment)],
        sensors=sensors.build_sensors(environment, installation, [jobs["campaign"], burst, noting]),
        schedules=[
            _schedule(environment, "training", environment.schedules.training),
            _schedule(environment, "retention", environment.schedules.retention),
            *scheduled.build_schedules(environment),
        ],
    )


def _schedule(environment: Environment, job: str, cron: str) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=f"{names.job(environment, job)}_schedule",
        job_name=names.job(environment, job),
        cron_schedule=cron,
        execution_timezone=environment.schedules.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
