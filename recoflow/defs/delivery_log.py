"""What people were given is noted in the lake once their file lies in responses/, not before.

What belongs here: from a delivery to rows of `responses`. What does not: the publication (`storage.sftp.mailbox`), and
what the rows are (`campaigns.publishing.deliveries`).

A run notes what it published itself. The mailbox finishes publications without a run, too, and a run can die right
behind one: for those the request sensor starts the job of this module.
"""

from datetime import datetime
from typing import Final

import dagster as dg

from recoflow.campaigns.publishing import deliveries
from recoflow.defs import names, reruns, retries
from recoflow.defs.resources import Installation
from recoflow.errors import CampaignError
from recoflow.settings.environment import Environment

PAUSES: Final = (15, 30, 60, 120, 300)


def build_job(environment: Environment, installation: Installation) -> dg.JobDefinition:
    """`<environment>_delivery_log`; bound to its resource here for the reason that `batch_runs.build_job` gives."""

    @dg.op(name=names.job(environment, "note_deliveries"), description="Everything that was published and not noted.")
    def note_deliveries(context: dg.OpExecutionContext, installation: Installation) -> None:
        folder, lake = installation.layout.campaigns(environment.name), installation.lake(environment)
        with installation.mailbox(environment) as mailbox:
            for delivery in mailbox.delivered():
                try:
                    deliveries.note_delivery(delivery, folder, lake)
                except CampaignError as error:  # a person of that campaign was forgotten meanwhile
                    context.log.warning(f"campaign {delivery.reference} was published, not noted: {error}")
                mailbox.acknowledge(delivery)

    @dg.job(
        name=names.job(environment, "delivery_log"),
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
    job = names.job(environment, "delivery_log")
    records = reruns.latest_runs(instance, job)
    if records and records[0].dagster_run.status in retries.ACTIVE:
        return []
    failed = reruns.failures_at_head(records)
    if failed is not None and failed.rests(PAUSES, moment):
        return []
    return [dg.RunRequest(job_name=job)]
