"""Upkeep of one environment: retention on SFTP and on disk, old campaigns, old runs, old files of the lake."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg

from recoflow.campaigns import campaign_record
from recoflow.defs import names, run_files
from recoflow.defs.clock import now
from recoflow.defs.resources import Installation
from recoflow.errors import CampaignError
from recoflow.settings.environment import Environment
from recoflow.storage.lake.lake import TABLES

MOST_RUNS = 5_000  # that one night deletes, at some 20 ms each
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
AGES = {"events": "timestamp", "quarantine": "received_at", "responses": "published_at"}  # environment.Retention


def build_job(environment: Environment) -> dg.JobDefinition:
    """`<environment>_retention`: sweep the account, forget old campaigns and runs, vacuum the lake."""

    sweep, forget_campaigns, forget_runs = _sweep_op(environment), _campaigns_op(environment), _runs_op(environment)
    expire, vacuum = _lake_ops(environment)

    @dg.job(
        name=names.job(environment, "retention"),
        executor_def=dg.in_process_executor,
        tags={names.ENVIRONMENT_TAG: environment.name},
    )
    def retention() -> None:
        sweep()
        forget_campaigns()
        forget_runs()
        vacuum(expire())

    return retention


def _sweep_op(environment: Environment) -> dg.OpDefinition:
    @dg.op(name=f"{environment.name}_sweep", description="Responses after their retention, and claimed originals.")
    def sweep(context: dg.OpExecutionContext, installation: Installation) -> None:
        with installation.mailbox(environment) as mailbox:
            swept = mailbox.sweep()
        context.log.info(f"{len(swept.expired)} responses and {swept.originals} originals removed")
        for kind in ("foreign", "stale", "strange"):
            for name in getattr(swept, kind):
                context.log.warning(f"{kind} file left alone: {name}")

    return sweep


def _campaigns_op(environment: Environment) -> dg.OpDefinition:
    @dg.op(name=f"{environment.name}_forget_campaigns", description="Folders and partitions of campaigns long past.")
    def forget_campaigns(context: dg.OpExecutionContext, installation: Installation) -> None:
        kept_for = environment.retention.campaigns
        if kept_for is None:
            return
        folder = installation.layout.campaigns(environment.name)
        with installation.mailbox(environment) as mailbox:
            waiting = {intake.claim_id for intake in mailbox.pending()}
        for old in _older_than(folder, now() - timedelta(days=kept_for)):
            try:
                if campaign_record.load_record(folder, old.name).claim_id in waiting:
                    continue
            except CampaignError as error:  # it is not ours, or nobody knows what it was for
                context.log.warning(f"left alone: {error}")
                continue
            context.instance.delete_dynamic_partition(names.partitions(environment), old.name)
            shutil.rmtree(old)
            context.log.info(f"campaign {old.name} forgotten")

    return forget_campaigns


def _runs_op(environment: Environment) -> dg.OpDefinition:
    @dg.op(name=f"{environment.name}_forget_runs", description="Runs long past, with their events and logs.")
    def forget_runs(context: dg.OpExecutionContext) -> None:
        kept_for = environment.retention.runs
        if kept_for is not None:
            deleted = delete_runs(context.instance, environment, now() - timedelta(days=kept_for))
            context.log.info(f"{deleted} runs older than {kept_for:g} days deleted")

    return forget_runs


def delete_runs(instance: dg.DagsterInstance, environment: Environment, before: datetime) -> int:
    """Delete ended runs of an environment, and of none, that began before a moment; returns how many.

    The run of each asset's latest materialization stays, because the UI and freshness checks read it.
    """
    latest = {record.asset_entry.last_run_id for record in instance.get_asset_records(instance.all_asset_keys())}
    deleted = 0
    ended = dg.RunsFilter(statuses=ENDED, created_before=before)
    for run in instance.get_runs(ended, limit=MOST_RUNS):
        if run.run_id in latest or run.tags.get(names.ENVIRONMENT_TAG, environment.name) != environment.name:
            continue
        instance.compute_log_manager.delete_logs(prefix=[run.run_id])
        instance.delete_run(run.run_id)
        run_files.remove_events(instance, run.run_id)
        deleted += 1
    return deleted


def _lake_ops(environment: Environment) -> tuple[dg.OpDefinition, dg.OpDefinition]:
    @dg.op(name=f"{environment.name}_expire", description="Rows of the lake past the retention of their table.")
    def expire(context: dg.OpExecutionContext, installation: Installation) -> None:
        lake = installation.lake(environment)
        for table, column in AGES.items():
            days = getattr(environment.retention, table)
            if days is not None:
                expired = lake.expire(table, column, now() - timedelta(days=days))
                context.log.info(f"{table}: {expired} rows older than {days:g} days removed")

    @dg.op(
        name=f"{environment.name}_vacuum",
        ins={"expired": dg.In(dg.Nothing)},
        description="Files of the lake that no current version needs.",
    )
    def vacuum(context: dg.OpExecutionContext, installation: Installation) -> None:
        lake = installation.lake(environment)
        for table in TABLES:
            if lake.version(table) is not None:
                lake.compact(table)
                context.log.info(f"{table}: {lake.vacuum(table)} files removed")

    return expire, vacuum


def _older_than(folder: Path, moment: datetime) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return [path for path in found if path.is_dir() and path.stat().st_mtime < moment.timestamp()]
