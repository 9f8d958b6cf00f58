"""Sensors of one environment: files that arrived, trainings that the schedule does not start, and request files.

Each tick does one bounded look at the SFTP account and reads the ledger; work is done by the runs that it asks for.

The installation is not asked of Dagster as a resource, and its instance only once there is work: for either of them
Dagster opens its own database anew at each tick, at four times the cost of the tick itself.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import dagster as dg

from recoflow.defs import batch_runs, delivery_log, names, reruns, retries, workers
from recoflow.defs.clock import now
from recoflow.defs.lasting_faults import Standing
from recoflow.defs.resources import Installation
from recoflow.errors import ConfigurationError, RecoflowError
from recoflow.ingest import pending_files
from recoflow.models.store import versions
from recoflow.settings.environment import Environment, load_all
from recoflow.storage import alerts
from recoflow.storage.sftp.mailbox import IncomingFile, Mailbox

REQUESTS = "requests"
MOST_POSTPONED = 3  # ticks that an ingest waits for the rest of a delivery
INGEST_PAUSES = (15, 30)
# Short as long as a machine may just be restarted or updated, long where each training ends its worker.
TRAINING_PAUSES = (15, 30, 60, 60, 60, 60, 60, 60, 300, 900, 3600)


def build_sensors(
    environment: Environment, installation: Installation, campaign_jobs: Sequence[Any]
) -> list[dg.SensorDefinition]:
    """`<environment>_files`, `_spool`, `_first_training`, `_interrupted_training` and `_requests`.

    The last starts runs of `campaign_jobs`.
    """
    standing = Standing(environment, installation)
    return [
        _files(environment, installation, standing),
        _spool(environment, installation),
        _first_training(environment, installation),
        _interrupted_training(environment, installation),
        _requests(environment, installation, standing, campaign_jobs),
    ]


def _files(environment: Environment, installation: Installation, standing: Standing) -> dg.SensorDefinition:
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
        lost: RecoflowError | None = None
        with standing.watching("files"), installation.mailbox(environment) as mailbox:
            try:
                with standing.watching("dumps"):
                    for folder in pending_files.DUMP_FOLDERS:
                        mailbox.poll(folder)
            except RecoflowError as error:
                lost = error  # an alert already; what is on this machine does not wait for the server
            is_more_coming = any(mailbox.expects(folder) for folder in pending_files.DUMP_FOLDERS)
            waiting = pending_files.pending_files(mailbox, installation.layout.inbox(environment.name), quiet, now())
        standing.tell("inbox", waiting.problems)
        arrived = waiting.arrivals
        if not arrived and lost is not None:
            raise lost
        if not arrived:
            return dg.SkipReason("no new file")
        postponed = int(context.cursor or 0)
        if is_more_coming and postponed < MOST_POSTPONED:
            context.update_cursor(str(postponed + 1))
            return dg.SkipReason(f"{len(arrived)} files have come in and more are coming")
        context.update_cursor("0")
        if obstacle := _obstacle(installation, environment, context.instance):
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
        sealed = pending_files.segments(installation.layout.spool(environment.name))
        if not sealed:
            return dg.SkipReason("nothing came over the network")
        if obstacle := _obstacle(installation, environment, context.instance):
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


def _interrupted_training(environment: Environment, installation: Installation) -> dg.SensorDefinition:
    job = names.job(environment, "training")

    @dg.sensor(
        name=names.job(environment, "interrupted_training"),
        job_name=job,
        minimum_interval_seconds=_interval(environment),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Trains again after a training whose worker died; one that a check refused waits for the schedule. "
        "Ends runs of any job whose worker died before they started.",
    )
    def interrupted_training(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        workers.end_lost_starts(context.instance, workers.process_start())  # this process is the code server
        failed = reruns.failures_at_head(reruns.latest_runs(context.instance, job))
        if failed is None:
            return dg.SkipReason("the latest training did not fail")
        reason = reruns.interruption(context.instance, failed.run_id)
        if reason is None:
            return dg.SkipReason(
                "the latest training failed by itself or was canceled; the schedule starts the next one"
            )
        if failed.rests(TRAINING_PAUSES, now()):
            pause = reruns.pause_after(failed.failures, TRAINING_PAUSES)
            return dg.SkipReason(f"the latest training was interrupted; the next begins {pause} s after its end")
        if wrong := _unreadable(installation):
            return dg.SkipReason(wrong)
        if failed.failures == 1:
            _alert(installation, environment, reruns.alert(job, failed.run_id, reason))
        attempt = str(failed.failures + 1)
        return dg.RunRequest(run_key=f"{failed.run_id}:{attempt}", tags={"recoflow/attempt": attempt})

    return interrupted_training


def _requests(
    environment: Environment, installation: Installation, standing: Standing, campaign_jobs: Sequence[Any]
) -> dg.SensorDefinition:
    @dg.sensor(
        name=names.job(environment, "requests"),
        jobs=campaign_jobs,
        minimum_interval_seconds=_interval(environment),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Request files on SFTP: claimed when complete, fetched, and answered; many small ones by one run.",
    )
    def requests(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        with standing.watching("requests"), installation.mailbox(environment) as mailbox:
            mailbox.resume()
            mailbox.poll(REQUESTS)
            pending = mailbox.pending(REQUESTS)
            for name, problem in mailbox.held():
                context.log.warning(f"{name} is held back: {problem}")
            if pending and (wrong := _unreadable(installation)):
                return dg.SkipReason(wrong)
            orphans = retries.unnoted_deliveries(context, environment, mailbox)
            runs = delivery_log.run_requests(context.instance, environment, now()) if orphans else []
            has_model = versions.is_serving(installation.layout.models(environment.name))
            due = retries.due_files(context, environment, mailbox, REQUESTS) if pending and has_model else []
            due = retries.give_up_hopeless(installation, environment, mailbox, due, now())
            runs += [_run(environment, installation, mailbox, share) for share in batch_runs.share(due)]
        if not runs:
            return dg.SkipReason(_why_nothing(environment, len(pending), has_model=has_model))
        added = names.campaign_partitions(environment).build_add_request(
            [retries.campaign_key_of(environment, intake) for intake in due]
        )
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


def _obstacle(installation: Installation, environment: Environment, instance: dg.DagsterInstance) -> str | None:
    """Why an ingest is not started now, None when it is."""
    if wrong := _unreadable(installation):
        return wrong
    job = names.job(environment, "ingest")
    records = reruns.latest_runs(instance, job)
    if records and records[0].dagster_run.status in retries.ACTIVE:
        return "an ingest is running; the next one takes what arrives meanwhile"
    untaken = reruns.untaken(records)
    if untaken is not None and untaken.rests(INGEST_PAUSES, now()):
        return f"{untaken.failures} ingests in a row could not take a file; the next one begins after a pause"
    failed = reruns.failures_at_head(records)
    if failed is None:
        return None
    if failed.rests(INGEST_PAUSES, now()):
        pause = reruns.pause_after(failed.failures, INGEST_PAUSES)
        return f"the last ingest failed ({failed.failures} in a row); the next one begins {pause} s after it"
    if failed.failures == 1:
        reason = reruns.interruption(instance, failed.run_id) or "its step failed or it was canceled"
        _alert(installation, environment, reruns.alert(job, failed.run_id, reason))
    return None


def _alert(installation: Installation, environment: Environment, error: RecoflowError) -> None:
    alerts.raise_alert(installation.layout.alerts, error, now(), environment.name)


def _run(
    environment: Environment, installation: Installation, mailbox: Mailbox, share: list[IncomingFile]
) -> dg.RunRequest:
    """A run for request files, with their dockets."""
    keys = [retries.record_of(environment, installation, intake, now()).key for intake in share]
    # The attempt is part of the key: Dagster never starts a second run of the same key, not even of a failed one.
    run_keys = [f"{intake.claim_id}:{mailbox.attempted(intake.claim_id)}" for intake in share]
    size = "large" if max(intake.size for intake in share) > batch_runs.LARGE else "small"
    tags = {"recoflow/attempt": str(share[0].attempts + 1), names.SIZE_TAG: size}
    if len(share) > 1:
        return dg.RunRequest(
            hashlib.sha256(" ".join(run_keys).encode()).hexdigest(),
            run_config=batch_runs.run_config(environment, keys),
            job_name=names.job(environment, "campaign_batch"),
            tags=tags | {"recoflow/campaigns": str(len(keys))},
        )
    (alone,) = share
    job = names.job(environment, "campaign")
    tags |= {names.CLAIM_TAG: alone.claim_id}
    return dg.RunRequest(run_keys[0], job_name=job, partition_key=keys[0], tags=tags)
