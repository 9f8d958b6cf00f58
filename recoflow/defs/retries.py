"""Attempts: which request files need a run now.

What belongs here: what Dagster knows of runs under way, and what becomes of files that no run can answer. What does
not: the counts (`storage.sftp.attempts`), whose fault a failure is (`run_reports`), and which files share a run
(`batch_runs`).

The request sensor owns the attempts: a run that failed, or whose worker died, is followed by another with a new run
key, after a growing pause. Faults of the installation are waited for without limit; a file that is itself the cause is
given up after some attempts, and its customer gets an errors file.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import dagster as dg

from recoflow.campaigns import campaign_record
from recoflow.campaigns.campaign_record import CampaignRecord
from recoflow.campaigns.requests import filename
from recoflow.defs import batch_runs, names
from recoflow.defs.resources import Installation
from recoflow.errors import RecoflowError
from recoflow.settings.environment import Environment
from recoflow.storage import alerts
from recoflow.storage.sftp.claims import Delivery
from recoflow.storage.sftp.mailbox import IncomingFile, Mailbox

ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
LOST = RecoflowError(
    "the run of request files",
    "ended before they were answered, and reported nothing: its process was killed, or the machine went down",
    "Nothing: they are started again, in smaller runs each time. If it happens again, look for a lack of memory",
)


def due_files(
    context: dg.SensorEvaluationContext, environment: Environment, mailbox: Mailbox, folder: str
) -> list[IncomingFile]:
    """Files that a run must be started for: none is under way, and the last failed long enough ago.

    While a run of small files waits for a place, further small files wait too, and share the next run.
    """
    runs = _active(context)
    running, is_full = _campaigns(environment, runs), any(_waits(environment, run) for run in runs)
    # The files are asked for after the runs: a run that ended meanwhile has answered its own or reported its failure.
    return [
        each
        for each in mailbox.pending(folder)
        if each.is_due
        and campaign_key_of(environment, each) not in running
        and (each.size > batch_runs.LARGE or not is_full)
    ]


def give_up_hopeless(
    installation: Installation,
    environment: Environment,
    mailbox: Mailbox,
    due: Sequence[IncomingFile],
    moment: datetime,
) -> list[IncomingFile]:
    """Give up the hopeless ones of `due`, with an errors file for the customer; those that a run is to be started for.

    What an operator should know is an alert, once for each change: that a run was lost, that a file was given up.
    """
    news = [LOST for intake in due if intake.lost and intake.problem is None and _suspect(mailbox, intake)]
    for intake in due:
        if intake.is_hopeless:
            mailbox.give_up(intake.claim_id)
            news.append(_given_up(environment, intake))
    for error in news:
        alerts.raise_alert(installation.layout.alerts, error, moment, environment.name)
    return [intake for intake in due if not intake.is_hopeless]


def unnoted_deliveries(
    context: dg.SensorEvaluationContext, environment: Environment, mailbox: Mailbox
) -> list[Delivery]:
    """Deliveries whose campaign no run is at work at, so that none is going to note them."""
    if not mailbox.delivered():
        return []
    running = _campaigns(environment, _active(context))
    # Asked again: runs that ended meanwhile have noted their own.
    return [delivery for delivery in mailbox.delivered() if delivery.reference not in running]


def campaign_key_of(environment: Environment, intake: IncomingFile) -> str:
    """The key of the campaign that a request file asks for."""
    return filename.campaign_key(environment.name, intake.name, intake.sha256, intake.revision)


def record_of(
    environment: Environment, installation: Installation, intake: IncomingFile, received_at: datetime
) -> CampaignRecord:
    """The docket of the campaign that a request file asks for."""
    return campaign_record.open_record(
        installation.layout.campaigns(environment.name),
        environment.name,
        intake.path,
        name=intake.name,
        sha256=intake.sha256,
        revision=intake.revision,
        received_at=received_at,
        claim_id=intake.claim_id,
    )


def _active(context: dg.SensorEvaluationContext) -> Sequence[dg.DagsterRun]:
    return context.instance.get_runs(dg.RunsFilter(statuses=ACTIVE))


def _campaigns(environment: Environment, runs: Iterable[dg.DagsterRun]) -> set[str]:
    """The campaigns that runs of any job are at work at: a person may be materializing the assets of one by hand."""
    found = set()
    for run in runs:
        alone = run.tags.get("dagster/partition")
        found |= {alone} if alone else set(batch_runs.campaigns_of(environment, run.run_config))
    return found


def _waits(environment: Environment, run: dg.DagsterRun) -> bool:
    """Whether a run of small files waits for one of the places of all runs."""
    jobs = {names.job(environment, "campaign"), names.job(environment, "campaign_batch")}
    is_small = run.tags.get(names.SIZE_TAG) == "small"
    return run.status == dg.DagsterRunStatus.QUEUED and run.job_name in jobs and is_small


def _suspect(mailbox: Mailbox, intake: IncomingFile) -> bool:
    return mailbox.suspect(intake.claim_id, str(LOST))


def _given_up(environment: Environment, intake: IncomingFile) -> RecoflowError:
    cause = intake.problem or "each run ended without a report"
    cure = f"Mend the cause, then `recoflow campaign retry {intake.name} -e {environment.name}`"
    problem = f"was given up and answered with an errors file: {cause}"
    return RecoflowError(f"request file {intake.name}", problem, cure)
