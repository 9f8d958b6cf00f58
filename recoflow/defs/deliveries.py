"""What people were given is noted in the lake once their file lies in responses/, not before.

What belongs here: from a delivery to rows of `responses`. What does not: the publication (`storage.mailbox`), and what
the rows are (`campaigns.publication`).

A run notes what it published itself. The mailbox finishes publications without a run, too, and a run can die right
behind one: for those the request sensor starts the job of this module.
"""

from datetime import datetime
from pathlib import Path
from typing import Final

import dagster as dg

from recoflow.campaigns import publication, staged
from recoflow.campaigns.staged import Staged
from recoflow.defs import attempts, names, reruns
from recoflow.defs.resources import Installation
from recoflow.environment import Environment
from recoflow.errors import CampaignError
from recoflow.storage.claims import Delivery
from recoflow.storage.lake import Lake

STAGING = "staging"  # below a campaign's folder
PAUSES: Final = (15, 30, 60, 120, 300)


def note(delivery: Delivery, campaigns: Path, lake: Lake) -> None:
    """Add a delivered campaign's lists to `responses`, at most once however often called.

    Args:
        delivery: its reference is the campaign's key.
        campaigns: the environment's campaign folders.
        lake: of the environment.

    Raises:
        CampaignError: its staged lists are gone.
    """
    answered = staged.load(campaigns / delivery.reference / STAGING, Staged)
    lake.append("responses", publication.rows(answered, delivery.at), transaction=delivery.reference)


def build_job(environment: Environment, installation: Installation) -> dg.JobDefinition:
    """`<environment>_deliveries`; bound to its resource here for the reason that `bursts.build_job` gives."""

    @dg.op(name=names.job(environment, "note_deliveries"), description="Everything that was published and not noted.")
    def note_deliveries(context: dg.OpExecutionContext, installation: Installation) -> None:
        folder, lake = installation.layout.campaigns(environment.name), installation.lake(environment)
        with installation.mailbox(environment) as mailbox:
            for delivery in mailbox.delivered():
                try:
                    note(delivery, folder, lake)
                except CampaignError as error:  # a person of that campaign was forgotten meanwhile
                    context.log.warning(f"campaign {delivery.reference} was published, not noted: {error}")
                mailbox.acknowledge(delivery)

    @dg.job(
        name=names.job(environment, "deliveries"),
        description=f"{environment.title or environment.name}: publications that outlived their run, in the lake.",
        tags={names.ENVIRONMENT_TAG: environment.name},
        resource_defs={"installation": installation},
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        note_deliveries()

    return job


def run_requests(instance: dg.DagsterInstance, environment: Environment, moment: datetime) -> list[dg.RunRequest]:
    """One run for deliveries that no run is going to note; none while one is under way, or failed a moment ago."""
    job = names.job(environment, "deliveries")
    records = reruns.latest(instance, job)
    if records and records[0].dagster_run.status in attempts.ACTIVE:
        return []
    failed = reruns.failed(records)
    if failed is not None and failed.rests(PAUSES, moment):
        return []
    return [dg.RunRequest(job_name=job)]
