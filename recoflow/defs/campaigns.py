"""Assets of the campaigns stage, one partition per request file: the request, what is staged, what is published.

Staged and published are two assets on purpose: the checks of `campaign_recommendations` are the signal; the audit in
`campaign_response` is the gate, because a blocking check blocks only inside its own run.
"""

import dagster as dg

from recoflow.campaigns.publishing.checks import CHECKS, WARN
from recoflow.campaigns.service import check_campaigns
from recoflow.compute.stage_timer import StageTimer
from recoflow.defs import campaign_metadata, metadata, names
from recoflow.defs.resources import Installation
from recoflow.defs.run_reports import RunReports
from recoflow.quality.checker_process import Checker
from recoflow.settings.environment import Environment

CHECKING = "checks (great-expectations)"


def build_assets(environment: Environment) -> list[dg.AssetsDefinition]:
    """`campaign_request`, `campaign_recommendations` and `campaign_response` of one environment."""
    return [_request(environment), _recommendations(environment), _response(environment)]


def _request(environment: Environment) -> dg.AssetsDefinition:
    @dg.asset(
        key=names.asset_key(environment, "campaign_request"),
        deps=[names.asset_key(environment, "champion")],
        partitions_def=names.campaign_partitions(environment),
        description="A request file from SFTP: what was asked for, and which rows cannot be answered and why.",
        **names.common_spec_args(environment, "campaigns", {"sftp", "csv", "polars"}),
    )
    def campaign_request(context: dg.AssetExecutionContext, installation: Installation) -> dg.MaterializeResult:
        reports, campaign = RunReports(environment, installation, context.log), context.partition_key
        reports.begin([campaign])
        watch = StageTimer()
        with reports.reporting(campaign):
            prepared = installation.campaigns(environment).prepare(campaign, watch)
        return campaign_metadata.of_request(environment, prepared, watch)

    return campaign_request


def _recommendations(environment: Environment) -> dg.AssetsDefinition:
    key = names.asset_key(environment, "campaign_recommendations")

    @dg.asset(
        key=key,
        deps=[names.asset_key(environment, "campaign_request")],
        partitions_def=names.campaign_partitions(environment),
        description="Ranked lists of one campaign, staged and checked, not published.",
        check_specs=metadata.check_specs(key, CHECKS, warn=WARN),
        **names.common_spec_args(environment, "campaigns", {"numpy", "polars", "greatexpectations"}),
    )
    def campaign_recommendations(
        context: dg.AssetExecutionContext, installation: Installation, checker: dg.ResourceParam[Checker]
    ) -> dg.MaterializeResult:
        reports, campaign = RunReports(environment, installation, context.log), context.partition_key
        service, watch = installation.campaigns(environment), StageTimer()
        with reports.reporting(campaign):
            built = service.build(service.prepared(campaign, watch), watch)
            with watch.stage(CHECKING):
                findings = check_campaigns({campaign: built}, checker.validate)
        result = campaign_metadata.of_recommendations(environment, built, findings[campaign], watch)
        reports.refused(campaign, result)
        return result

    return campaign_recommendations


def _response(environment: Environment) -> dg.AssetsDefinition:
    @dg.asset(
        key=names.asset_key(environment, "campaign_response"),
        deps=[names.asset_key(environment, "campaign_recommendations")],
        partitions_def=names.campaign_partitions(environment),
        description="The response file in responses/: audited again, uploaded under a hidden name, renamed.",
        **names.common_spec_args(environment, "campaigns", {"sftp", "csv"}),
    )
    def campaign_response(context: dg.AssetExecutionContext, installation: Installation) -> dg.MaterializeResult:
        with RunReports(environment, installation, context.log).reporting(context.partition_key):
            return published(environment, installation, context.partition_key)

    return campaign_response


def published(environment: Environment, installation: Installation, key: str) -> dg.MaterializeResult:
    """Render a campaign, audited meanwhile, and publish it if its request came by SFTP."""
    service, watch, state = installation.campaigns(environment), StageTimer(), None
    rendered = service.render(key, watch)
    if rendered.record.claim_id is not None:
        with installation.mailbox(environment) as mailbox:
            state = service.publish(rendered, mailbox, watch)
    return campaign_metadata.of_response(environment, rendered, state, watch)
