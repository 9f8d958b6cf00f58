"""What Dagster shows of a campaign's three assets.

What does not belong here: the steps themselves (`campaigns.service`).
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg
import polars as pl

from recoflow.campaigns.audiences.staged_audiences import StagedAudiences
from recoflow.campaigns.publishing.checks import CHECKS
from recoflow.campaigns.requests.model import Request
from recoflow.campaigns.service import BuiltCampaign, PreparedCampaign, RenderedCampaign
from recoflow.campaigns.staging.staged import StagedLists
from recoflow.compute.stage_timer import StageTimer
from recoflow.defs import metadata, names
from recoflow.quality.finding import Finding
from recoflow.settings.environment import Environment
from recoflow.storage.sftp.claims import State

SHOWN_ERRORS = 20


def of_request(environment: Environment, campaign: PreparedCampaign, watch: StageTimer) -> dg.MaterializeResult:
    """`campaign_request`: what was asked for, and which rows cannot be answered and why."""
    request = campaign.request
    shown: dict[str, Any] = {
        "stages": metadata.stages(watch),
        "inputs": dg.MetadataValue.json({**asdict(campaign.inputs), "settings": "see inputs.json of the campaign"}),
        "campaign_id": request.campaign_id,
        "file": metadata.harmless_text(request.name),
        "rows_read": request.counts.read,
        "rows_accepted": request.counts.accepted,
        "rows_failed": request.counts.failed,
        "kind": "audiences" if request.is_for_audiences else "lists",
        "dagster/row_count": request.rows.height,
        "preview": metadata.preview(request.rows),
        "errors": metadata.preview(request.errors, SHOWN_ERRORS),
    }
    if request.rejection is not None:
        shown["rejected"] = metadata.harmless_text(f"{request.rejection.code}: {request.rejection.message}")
    return dg.MaterializeResult(names.asset_key(environment, "campaign_request"), metadata=shown)


def of_recommendations(
    environment: Environment, campaign: BuiltCampaign, findings: Sequence[Finding], watch: StageTimer
) -> dg.MaterializeResult:
    """`campaign_recommendations`: what is staged, and its checks; one that failed is in the result, not an error."""
    key, answer = names.asset_key(environment, "campaign_recommendations"), campaign.answer
    about: dict[str, Any] = {"campaign": campaign.record.key, "campaign_id": answer.campaign_id}
    shown: dict[str, Any] = {"stages": metadata.stages(watch)}
    if isinstance(answer, Request):
        assert answer.rejection is not None
        shown["rejected"] = answer.rejection.code
    else:
        about["model_version"] = answer.model_version
        preview = pl.scan_parquet(list(answer.parts)).head(metadata.PREVIEW_ROWS).collect()
        shown |= {
            **_counts(answer),
            "champion": dg.MetadataValue.asset(names.asset_key(environment, "champion")),
            "catalogue": dg.MetadataValue.asset(names.asset_key(environment, "items")),
            "preview": metadata.preview(preview),
        }
    results = metadata.check_results(findings, CHECKS, key, about)
    return dg.MaterializeResult(key, metadata={**about, **shown}, check_results=results)


def of_response(
    environment: Environment, campaign: RenderedCampaign, state: State | None, watch: StageTimer
) -> dg.MaterializeResult:
    """`campaign_response`: the files that were published; `state` of the claim, None where there is none."""
    answer, (path, name) = campaign.answer, campaign.files[-1]
    shown: dict[str, Any] = {
        "campaign": campaign.record.key,
        "campaign_id": answer.campaign_id,
        "state": "kept locally: the request did not come by SFTP" if state is None else state.value,
        "stages": metadata.stages(watch),
        "file": name,
        "path": dg.MetadataValue.path(str(path)),
        "bytes": path.stat().st_size,
        "published_files": [name for _, name in campaign.files],
    }
    if isinstance(answer, StagedLists):
        shown |= {"dagster/row_count": answer.counts.items, "dagster/table_name": f"{environment.name}.responses"}
    if isinstance(answer, StagedAudiences):
        shown["dagster/row_count"] = answer.counts.people
    if not isinstance(answer, Request):
        shown |= {
            "model_version": answer.model_version,
            "champion": dg.MetadataValue.asset(names.asset_key(environment, "champion")),
        }
    return dg.MaterializeResult(names.asset_key(environment, "campaign_response"), metadata=shown)


def _counts(answer: StagedLists | StagedAudiences) -> dict[str, int]:
    if isinstance(answer, StagedAudiences):
        return {"dagster/row_count": answer.counts.people, **asdict(answer.counts)}
    return {
        "dagster/row_count": answer.counts.items,
        "lists": answer.counts.answered,
        "personalized": answer.counts.personalized,
        "fallback": answer.counts.fallback,
        "people": answer.counts.people,
        "people_known": answer.counts.people_known,
        "short_lists": answer.counts.short,
        "empty_lists": answer.counts.empty,
    }
