"""Attempts: which request files need a run now.

What belongs here: what Dagster knows of earlier runs, and pauses. What does not: the files themselves (see
`storage.mailbox`) and who shares a run (see `bursts`).

The request sensor owns the attempts: a run that failed, or whose worker died, is followed by another with a new run
key, after a growing pause, MOST at most.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import dagster as dg

from recoflow.campaigns import docket, filename
from recoflow.campaigns.docket import Docket
from recoflow.defs import bursts, names
from recoflow.defs.resources import Installation
from recoflow.environment import Environment
from recoflow.storage.claims import Delivery
from recoflow.storage.mailbox import Intake, Mailbox

MOST = 5
FIRST_WAIT = timedelta(seconds=10)  # before the second attempt; doubled with each failure
LOOKED_AT = 200  # failed runs; one that is not among the latest of them ended long ago
ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
FAILED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def due(
    context: dg.SensorEvaluationContext, environment: Environment, pending: Sequence[Intake], moment: datetime
) -> list[Intake]:
    """Those of `pending` that a run must be started for: none is under way, and the last failed long enough ago."""
    running = _running(context, environment)
    idle = [intake for intake in pending if key(environment, intake) not in running]
    ended: dict[str, float] = {}
    if any(intake.attempts for intake in idle):
        for name in ("campaign", "burst"):
            failed = dg.RunsFilter(job_name=names.job(environment, name), statuses=FAILED)
            for campaign, at in _runs(context.instance, environment, failed, LOOKED_AT):
                ended[campaign] = max(at, ended.get(campaign, 0))
    for intake in idle:
        if intake.attempts >= MOST:
            context.log.error(f"{intake.name} failed {MOST} times; mend it and re-execute its last run")
    return [
        intake
        for intake in idle
        if intake.attempts < MOST
        and moment.timestamp() >= ended.get(key(environment, intake), 0) + _pause(intake.attempts).total_seconds()
    ]


def orphans(context: dg.SensorEvaluationContext, environment: Environment, mailbox: Mailbox) -> list[Delivery]:
    """Deliveries whose campaign no run is at work at, so that none is going to note them."""
    if not mailbox.delivered():
        return []
    running = _running(context, environment)
    # Asked again: runs that ended meanwhile have noted their own.
    return [delivery for delivery in mailbox.delivered() if delivery.reference not in running]


def key(environment: Environment, intake: Intake) -> str:
    """The key of the campaign that a request file asks for."""
    return filename.campaign_key(environment.name, intake.name, intake.sha256, intake.revision)


def opened(environment: Environment, installation: Installation, intake: Intake, received_at: datetime) -> Docket:
    """The docket of the campaign that a request file asks for."""
    return docket.open_for(
        installation.layout.campaigns(environment.name),
        environment.name,
        intake.path,
        name=intake.name,
        sha256=intake.sha256,
        revision=intake.revision,
        received_at=received_at,
        claim_id=intake.claim_id,
    )


def _running(context: dg.SensorEvaluationContext, environment: Environment) -> set[str]:
    """The campaigns that a run of any job is at work at: a person may be materializing the assets of one by hand."""
    return {campaign for campaign, _ in _runs(context.instance, environment, dg.RunsFilter(statuses=ACTIVE))}


def _pause(attempts: int) -> timedelta:
    return FIRST_WAIT * 2 ** (attempts - 1) if attempts else timedelta()


def _runs(
    instance: dg.DagsterInstance, environment: Environment, wanted: dg.RunsFilter, limit: int | None = None
) -> Iterator[tuple[str, float]]:
    """The campaigns of these runs, of one campaign or of many, and when each run ended or was last heard of."""
    for record in instance.get_run_records(wanted, limit=limit):
        at = record.end_time or record.update_timestamp.timestamp()
        run = record.dagster_run
        alone = run.tags.get("dagster/partition")
        for campaign in [alone] if alone else bursts.campaigns_of(environment, run.run_config):
            yield campaign, at
