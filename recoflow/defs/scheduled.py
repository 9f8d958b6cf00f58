"""Campaigns by the clock: a schedule for each, and the job that puts its request beside those that came by SFTP.

From then on it is a request like any other: the sensor of requests owns its attempts, its campaign has a partition, and
the response is published into responses/.
"""

from datetime import datetime

import dagster as dg

from recoflow.campaigns.requests import scheduled
from recoflow.defs import names, retries
from recoflow.defs.resources import Installation
from recoflow.settings.campaign_settings import ScheduledCampaign
from recoflow.settings.environment import Environment

CONFIG = {"campaign": str, "at": str}  # name, and scheduled time in ISO 8601


def build_jobs(environment: Environment) -> list[dg.JobDefinition]:
    """`<environment>_scheduled`, where a campaign is scheduled: makes its request; running it again changes nothing."""
    if not environment.campaigns.scheduled:
        return []

    @dg.op(
        name=_op(environment),
        config_schema=CONFIG,
        description="Asks for the lists of everyone who was active; the sensor of requests starts the campaign.",
    )
    def ask(context: dg.OpExecutionContext, installation: Installation) -> None:
        name, at = context.op_config["campaign"], datetime.fromisoformat(context.op_config["at"])
        campaign = environment.campaigns.scheduled[name]
        users = scheduled.audience(installation.lake(environment).scan("interactions"), campaign, at)
        if users.is_empty():
            context.log.warning(f"{name}: {_nobody(campaign)}")
            return
        content = scheduled.request_file(environment.name, campaign, users)
        with installation.mailbox(environment) as mailbox:
            intake = mailbox.deposit(scheduled.file_name(environment.name, name, at), content)
            retries.record_of(environment, installation, intake, at)
        context.log.info(f"{intake.name}: {len(users)} users, {len(campaign.lists)} lists each")

    @dg.job(
        name=names.job(environment, "scheduled"),
        executor_def=dg.in_process_executor,
        tags={names.ENVIRONMENT_TAG: environment.name},
    )
    def ask_for_lists() -> None:
        ask()

    return [ask_for_lists]


def build_schedules(environment: Environment) -> list[dg.ScheduleDefinition]:
    """`<environment>_<campaign>_campaign_schedule` for each scheduled campaign."""
    return [_schedule(environment, name, campaign) for name, campaign in environment.campaigns.scheduled.items()]


def _schedule(environment: Environment, name: str, campaign: ScheduledCampaign) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=names.job(environment, f"{name}_campaign_schedule"),
        job_name=names.job(environment, "scheduled"),
        cron_schedule=campaign.cron,
        execution_timezone=environment.schedules.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"{name}: {len(campaign.lists)} lists for all users active in {campaign.active_days:g} days.",
    )
    def ask_at(context: dg.ScheduleEvaluationContext, installation: Installation) -> dg.RunRequest | dg.SkipReason:
        at = context.scheduled_execution_time
        users = scheduled.audience(installation.lake(environment).scan("interactions"), campaign, at)
        if users.is_empty():
            return dg.SkipReason(_nobody(campaign))
        config = {"campaign": name, "at": at.isoformat()}
        return dg.RunRequest(
            run_key=f"{name}:{at.isoformat()}",
            run_config={"ops": {_op(environment): {"config": config}}},
            tags={"recoflow/scheduled": name, "recoflow/audience": str(len(users))},
        )

    return ask_at


def _op(environment: Environment) -> str:
    return f"{environment.name}_ask"


def _nobody(campaign: ScheduledCampaign) -> str:
    return f"no user was active in the last {campaign.active_days:g} days, so nothing is asked for"
