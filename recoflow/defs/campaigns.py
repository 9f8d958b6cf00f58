"""Assets of the campaigns stage, one partition per request file: the request, what is staged, what is published.

Staged and published are two assets on purpose: the checks of `campaign_recommendations` are the signal; the audit in
`campaign_response` is the gate, because a blocking check blocks only inside its own run.
"""

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from recoflow.campaigns import answer, audit, docket, publication, request, rules, staged
from recoflow.campaigns.docket import Docket
from recoflow.campaigns.request import Request
from recoflow.campaigns.staged import Staged
from recoflow.defs import metadata, names
from recoflow.defs.clock import now
from recoflow.defs.resources import Installation
from recoflow.environment import Environment
from recoflow.errors import ModelError
from recoflow.models import bundle as bundles
from recoflow.models import versions
from recoflow.models.bundle import Bundle
from recoflow.quality import suites
from recoflow.quality.finding import Finding

SHOWN_ERRORS = 20
STAGING = "staging"


def build_assets(environment: Environment) -> list[dg.AssetsDefinition]:
    """`campaign_request`, `campaign_recommendations` and `campaign_response` of one environment."""
    return [_request(environment), _recommendations(environment), _response(environment)]


def _request(environment: Environment) -> dg.AssetsDefinition:
    @dg.asset(
        key=names.key(environment, "campaign_request"),
        deps=[names.key(environment, "champion")],
        partitions_def=names.campaigns(environment),
        description="A request file from SFTP: what was asked for, and which rows cannot be answered and why.",
        **names.shown(environment, "campaigns", {"sftp", "csv", "polars"}),
    )
    def campaign_request(context: dg.AssetExecutionContext, installation: Installation) -> dg.MaterializeResult:
        opened = docket.load(_folder(installation, environment), context.partition_key)
        read = _read(opened, environment, _champion(installation, environment))
        shown: dict[str, Any] = {
            "campaign_id": read.campaign_id,
            "file": read.name,
            "rows_read": read.counts.read,
            "rows_accepted": read.counts.accepted,
            "rows_failed": read.counts.failed,
            "dagster/row_count": read.rows.height,
            "preview": metadata.preview(read.rows),
            "errors": metadata.preview(read.errors, SHOWN_ERRORS),
        }
        if read.rejection is not None:
            shown["rejected"] = f"{read.rejection.code}: {read.rejection.message}"
        return dg.MaterializeResult(metadata=shown)

    return campaign_request


def _recommendations(environment: Environment) -> dg.AssetsDefinition:
    key = names.key(environment, "campaign_recommendations")

    @dg.asset(
        key=key,
        deps=[names.key(environment, "campaign_request")],
        partitions_def=names.campaigns(environment),
        description="Ranked lists of one campaign, staged and checked, not published.",
        check_specs=metadata.check_specs(key, suites.CAMPAIGN_CHECKS),
        **names.shown(environment, "campaigns", {"numpy", "polars", "greatexpectations"}),
    )
    def campaign_recommendations(context: dg.AssetExecutionContext, installation: Installation) -> dg.MaterializeResult:
        campaigns = _folder(installation, environment)
        opened = docket.load(campaigns, context.partition_key)
        bundle = _champion(installation, environment)
        read = _read(opened, environment, bundle)
        about = {"campaign": opened.key, "campaign_id": read.campaign_id, "model_version": bundle.version}
        if read.rejection is not None:
            message = f"not applicable: the request was refused: {read.rejection.message}"
            findings = [Finding(check, passed=True, message=message) for check in suites.CAMPAIGN_CHECKS]
            return dg.MaterializeResult(
                metadata={**about, "rejected": read.rejection.code},
                check_results=metadata.check_results(findings, suites.CAMPAIGN_CHECKS, key, about),
            )
        result = answer.answer(read, bundle, environment, campaigns / opened.key / STAGING, opened.as_of)
        findings = _judge(result, environment, installation)
        preview = pl.scan_parquet(list(result.parts)).head(metadata.PREVIEW_ROWS).collect()
        return dg.MaterializeResult(
            metadata={
                **about,
                "dagster/row_count": result.counts.items,
                "lists": result.counts.answered,
                "personalized": result.counts.personalized,
                "fallback": result.counts.fallback,
                "short_lists": result.counts.short,
                "empty_lists": result.counts.empty,
                "champion": dg.MetadataValue.asset(names.key(environment, "champion")),
                "catalogue": dg.MetadataValue.asset(names.key(environment, "items")),
                "model_path": dg.MetadataValue.path(str(installation.layout.models(environment.name) / bundle.version)),
                "preview": metadata.preview(preview),
            },
            check_results=metadata.check_results(findings, suites.CAMPAIGN_CHECKS, key, about),
        )

    return campaign_recommendations


def _response(environment: Environment) -> dg.AssetsDefinition:
    @dg.asset(
        key=names.key(environment, "campaign_response"),
        deps=[names.key(environment, "campaign_recommendations")],
        partitions_def=names.campaigns(environment),
        description="The response file in responses/: audited again, uploaded under a hidden name, renamed.",
        **names.shown(environment, "campaigns", {"sftp", "csv"}),
    )
    def campaign_response(context: dg.AssetExecutionContext, installation: Installation) -> dg.MaterializeResult:
        campaigns = _folder(installation, environment)
        opened = docket.load(campaigns, context.partition_key)
        answered = _audited(opened, environment, installation)
        files = publication.render(answered, campaigns / opened.key)
        state = "kept locally: the request did not come by SFTP"
        if opened.claim_id is not None:
            with installation.mailbox(environment) as mailbox:
                state = mailbox.publish(opened.claim_id, files).value
        shown: dict[str, Any] = {"campaign": opened.key, "campaign_id": answered.campaign_id, "state": state}
        if isinstance(answered, Staged):
            rows = publication.rows(answered, now())
            installation.lake(environment).append("responses", rows, transaction=opened.key)
            shown |= {
                "dagster/row_count": rows.height,
                "dagster/table_name": f"{environment.name}.responses",
                "model_version": answered.model_version,
                "champion": dg.MetadataValue.asset(names.key(environment, "champion")),
            }
        path, name = files[-1]
        return dg.MaterializeResult(
            metadata={
                **shown,
                "file": name,
                "path": dg.MetadataValue.path(str(path)),
                "bytes": path.stat().st_size,
                "published_files": [name for _, name in files],
            }
        )

    return campaign_response


def _folder(installation: Installation, environment: Environment) -> Path:
    return installation.layout.campaigns(environment.name)


def _champion(installation: Installation, environment: Environment) -> Bundle:
    folder = installation.layout.models(environment.name)
    bundle = versions.champion(folder)
    if bundle is None:
        raise ModelError(str(folder), "has no champion", f"Materialize factors and champion of {environment.name}")
    return bundle


def _read(opened: Docket, environment: Environment, bundle: Bundle) -> Request:
    return request.parse(
        Path(opened.path),
        name=opened.name,
        environment=environment,
        sha256=opened.sha256,
        known_attributes=rules.attribute_names(bundle.items),
    )


def _judge(result: Staged, environment: Environment, installation: Installation) -> list[Finding]:
    """What great-expectations says of the staged files."""
    return suites.campaign(
        result.parts,
        result.requests,
        bundles.items_file(installation.layout.models(environment.name) / result.model_version),
        columns=staged.columns(result.information_fields).names(),
        campaign_id=result.campaign_id,
        provider=environment.campaigns.provider,
        max_fallback_share=environment.quality.max_fallback_share,
    )


def _audited(opened: Docket, environment: Environment, installation: Installation) -> Staged | Request:
    """What is to be published: the staged campaign after its audit, or the request that was refused as a whole.

    Raises:
        AuditError: the staged campaign is not fit for publication.
        CampaignError: nothing is staged.
    """
    bundle = _champion(installation, environment)
    read = _read(opened, environment, bundle)
    if read.rejection is not None:
        return read
    result = staged.load(_folder(installation, environment) / opened.key / STAGING)
    if bundle.version != result.model_version:  # another champion since it was ranked
        bundle = bundles.load(installation.layout.models(environment.name) / result.model_version)
    audit.audit(result, bundle)
    return result
