"""Names that sensors, jobs and assets share: keys, groups, jobs and partitions of one environment."""

from typing import Any

import dagster as dg

from recoflow.settings.environment import Environment

CLAIM_TAG = "recoflow/claim"
SIZE_TAG = "recoflow/size"  # of the request files of a run: `small` or `large`; dagster.yaml limits the large ones
ENVIRONMENT_TAG = "recoflow/environment"
UNTAKEN_TAG = "recoflow/untaken"  # how many files an ingest could not take for reasons of the installation


def asset_key(environment: Environment, name: str) -> dg.AssetKey:
    """The key of an environment's asset."""
    return dg.AssetKey([environment.name, name])


def common_spec_args(environment: Environment, stage: str, kinds: set[str]) -> dict[str, Any]:
    """What every asset of a stage carries: group, owners, kinds and the environment's tag."""
    return {
        "group_name": f"{environment.name}_{stage}",
        "owners": list(environment.owners),
        "kinds": kinds,
        "tags": {ENVIRONMENT_TAG: environment.name},
    }


def campaign_partitions(environment: Environment) -> dg.DynamicPartitionsDefinition:
    """One partition per claimed request file; keys are made by `campaigns.requests.filename` only."""
    return dg.DynamicPartitionsDefinition(name=partitions(environment))


def partitions(environment: Environment) -> str:
    """The name of an environment's set of campaign partitions."""
    return f"{environment.name}_campaigns"


def job(environment: Environment, what: str) -> str:
    """The name of an environment's job."""
    return f"{environment.name}_{what}"
