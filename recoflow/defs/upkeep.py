"""Upkeep of one environment: retention on SFTP and on disk, old campaigns, old files of the lake."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg

from recoflow.campaigns import docket
from recoflow.defs import names
from recoflow.defs.clock import now
from recoflow.defs.resources import Installation
from recoflow.environment import Environment
from recoflow.errors import CampaignError
from recoflow.storage.lake import TABLES

AGES = {"events": "timestamp", "quarantine": "received_at", "responses": "published_at"}  # environment.Retention


def build_job(environment: Environment) -> dg.JobDefinition:
    """`<environment>_retention`: sweep the account, forget old campaigns, vacuum the lake."""

    @dg.op(name=f"{environment.name}_sweep", description="Responses after their retention, and claimed originals.")
    def sweep(context: dg.OpExecutionContext, installation: Installation) -> None:
        with installation.mailbox(environment) as mailbox:
            swept = mailbox.sweep()
        context.log.info(f"{len(swept.expired)} responses and {swept.originals} originals removed")
        for kind in ("foreign", "stale", "strange"):
            for name in getattr(swept, kind):
                context.log.warning(f"{kind} file left alone: {name}")

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
                if docket.load(folder, old.name).claim_id in waiting:
                    continue
            except CampaignError as error:  # it is not ours, or nobody knows what it was for
                context.log.warning(f"left alone: {error}")
                continue
            context.instance.delete_dynamic_partition(names.partitions(environment), old.name)
            shutil.rmtree(old)
            context.log.info(f"campaign {old.name} forgotten")

    expire, vacuum = _lake_ops(environment)

    @dg.job(
        name=names.job(environment, "retention"),
        executor_def=dg.in_process_executor,
        tags={names.ENVIRONMENT_TAG: environment.name},
    )
    def retention() -> None:
        sweep()
        forget_campaigns()
        vacuum(expire())

    return retention


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
