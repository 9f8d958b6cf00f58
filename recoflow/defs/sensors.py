"""Sensors of one environment: files that arrived, the first training, and request files.

Each tick does one bounded look at the SFTP account and reads the ledger; work is done by the runs that it asks for.

The installation is not asked of Dagster as a resource, and its instance only once there is work: for either of them
Dagster opens its own database anew at each tick, at four times the cost of the tick itself.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from recoflow.defs import alerting, attempts, bursts, deliveries, names
from recoflow.defs.clock import now
from recoflow.defs.resources import Installation
from recoflow.environment import Environment, load_all
from recoflow.errors import ConfigurationError
from recoflow.events import inbox
from recoflow.models import versions
from recoflow.storage.mailbox import Intake, Mailbox

REQUESTS = "requests"
MOST_POSTPONED = 3  # ticks that an ingest waits for the rest of a delivery
INGEST_PAUSE = timedelta(minutes=1)  # after an ingest that failed, or that could not take a file


def build_sensors(
    environment: Environment, installation: Installation, campaign_jobs: Sequence[Any]
) -> list[dg.SensorDefinition]:
    """`<environment>_files`, `_spool`, `_first_training` and `_requests`; the last starts runs of `campaign_jobs`."""
    return [
        _files(environment, installation),
        _spool(environment, installation),
        _first_training(environment, installation),
        _requests(environment, installation, campaign_jobs),
    ]


def _files(environment: Environment, installation: Installation) -> dg.SensorDefinition:
    job = names.job(environment, "ingest")

    @dg.sensor(
        name=names.job(environment, "files"),
        job_name=job,
        minimum_interval_seconds=_interval(environment),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Event and item files: SFTP dumps in periodic/ and one_time/, and the local inbox.",
    )
    def files(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        quiet = environment.sftp.quiet_seconds
        with alerting.told(installation, environment, "dumps"), installation.mailbox(environment) as mailbox:
            for folder in inbox.DUMP_FOLDERS:
                mailbox.poll(folder)
            is_more_coming = any(mailbox.expects(folder) for folder in inbox.DUMP_FOLDERS)
            waiting = inbox.waiting(mailbox, installation.layout.inbox(environment.name), quiet, now())
        alerting.tell(installation, environment, "inbox", waiting.problems)
        arrived = waiting.arrivals
        if not arrived:
            return dg.SkipReason("no new file")
        postponed = int(context.cursor or 0)
        if is_more_coming and postponed < MOST_POSTPONED:
            context.update_cursor(str(postponed + 1))
            return dg.SkipReason(f"{len(arrived)} files have come in and more are coming")
        context.update_cursor("0")
        if obstacle := _unreadable(installation) or _obstacle(context.instance, job, now()):
            return dg.SkipReason(obstacle)
        return dg.RunRequest(tags={"recoflow/files": str(len(arrived))})

    return files


def _spool(environment: Environment, installation: Installation) -> dg.SensorDefinition:
    job = names.job(environment, "ingest")

    @dg.sensor(
        name=names.job(environment, "spool"),
        job_name=job,
        minimum_interval_seconds=_interval(environment),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="What the gateway acknowledged: sealed segments of the spool. Does not depend on SFTP.",
    )
    def spool(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        sealed = inbox.segments(installation.layout.spool(environment.name))
        if not sealed:
            return dg.SkipReason("nothing came over the network")
        if obstacle := _unreadable(installation) or _obstacle(context.instance, job, now()):
            return dg.SkipReason(obstacle)
        return dg.RunRequest(tags={"recoflow/segments": str(len(sealed))})

    return spool


def _first_training(environment: Environment, installation: Installation) -> dg.SensorDefinition:
    @dg.sensor(
        name=names.job(environment, "first_training"),
        job_name=names.job(environment, "training"),
        minimum_interval_seconds=_interval(environment),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Trains as soon as there are interactions and no model yet; after that the schedule does.",
    )
    def first_training(_context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if versions.champion_version(installation.layout.models(environment.name)):
            return dg.SkipReason("there is a champion; the schedule trains from now on")
        version = installation.lake(environment).version("interactions")
        if not version:
            return dg.SkipReason("there are no interactions yet")
        if wrong := _unreadable(installation):
            return dg.SkipReason(wrong)
        return dg.RunRequest(run_key=f"{environment.name}:{version}")

    return first_training


def _requests(
    environment: Environment, installation: Installation, campaign_jobs: Sequence[Any]
) -> dg.SensorDefinition:
    @dg.sensor(
        name=names.job(environment, "requests"),
        jobs=campaign_jobs,
        minimum_interval_seconds=_interval(environment),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Request files on SFTP: claimed when complete, fetched, and answered; many small ones by one run.",
    )
    def requests(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        with alerting.told(installation, environment, "requests"), installation.mailbox(environment) as mailbox:
            mailbox.resume()
            mailbox.poll(REQUESTS)
            pending = mailbox.pending(REQUESTS)
            for name, problem in mailbox.held():
                context.log.warning(f"{name} is held back: {problem}")
            if pending and (wrong := _unreadable(installation)):
                return dg.SkipReason(wrong)
            runs = deliveries.run_requests(environment, attempts.orphans(context, environment, mailbox), now())
            has_model = versions.champion_version(installation.layout.models(environment.name)) is not None
            due = attempts.due(context, environment, pending, now()) if pending and has_model else []
            runs += [_run(environment, installation, mailbox, share) for share in bursts.share(due)]
        if not runs:
            return dg.SkipReason(_why_nothing(environment, len(pending), has_model=has_model))
        added = names.campaigns(environment).build_add_request([attempts.key(environment, intake) for intake in due])
        return dg.SensorResult(run_requests=runs, dynamic_partitions_requests=[added])

    return requests


def _unreadable(installation: Installation) -> str | None:
    """Why no run could start, None when it could: each is a process that reads the files of all environments.

    A run that cannot start counts as an attempt, and a request file has five.
    """
    try:
        load_all(installation.layout.environments)
    except ConfigurationError as error:
        return f"no run starts until this is mended: {error}"
    return None


def _why_nothing(environment: Environment, pending: int, *, has_model: bool) -> str:
    if not pending:
        return "no request file"
    if not has_model:
        return f"{pending} request files wait for the first model of {environment.name}"
    return f"{pending} request files are being answered, or wait for their next attempt"


def _interval(environment: Environment) -> int:
    """A little less than was asked for: Dagster looks every 5 s, and a tick due just after that waits for the next."""
    return max(1, environment.schedules.poll_seconds - 1)


def _obstacle(instance: dg.DagsterInstance, job: str, moment: datetime) -> str | None:
    """Why an ingest is not started now, None when it is."""
    newest = instance.get_run_records(dg.RunsFilter(job_name=job), limit=1)
    if not newest:
        return None
    if newest[0].dagster_run.status in attempts.ACTIVE:
        return "an ingest is running; the next one takes what arrives meanwhile"
    rested = moment.timestamp() - (newest[0].end_time or 0.0)
    is_done = newest[0].dagster_run.status == dg.DagsterRunStatus.SUCCESS
    has_all = names.UNTAKEN_TAG not in newest[0].dagster_run.tags
    if not (is_done and has_all) and rested < INGEST_PAUSE.total_seconds():
        pause = f"{INGEST_PAUSE.total_seconds():.0f} s"
        return f"the last ingest failed, or could not take a file; the next one begins {pause} after it"
    return None


def _run(environment: Environment, installation: Installation, mailbox: Mailbox, share: list[Intake]) -> dg.RunRequest:
    """A run for request files, with their dockets."""
    keys = [attempts.opened(environment, installation, intake, now()).key for intake in share]
    # The attempt is part of the key: Dagster never starts a second run of the same key, not even of a failed one.
    run_keys = [f"{intake.claim_id}:{mailbox.attempted(intake.claim_id)}" for intake in share]
    tags = {"recoflow/attempt": str(share[0].attempts + 1)}
    if len(share) > 1:
        return dg.RunRequest(
            hashlib.sha256(" ".join(run_keys).encode()).hexdigest(),
            run_config=bursts.run_config(environment, keys),
            job_name=names.job(environment, "burst"),
            tags=tags | {"recoflow/campaigns": str(len(keys))},
        )
    (alone,) = share
    tags |= {names.CLAIM_TAG: alone.claim_id, "recoflow/size": "large" if alone.size > bursts.LARGE else "small"}
    job = names.job(environment, "campaign")
    return dg.RunRequest(run_keys[0], job_name=job, partition_key=keys[0], tags=tags)
