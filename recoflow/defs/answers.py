"""How campaigns are answered: what each of the three assets does for one campaign, as plain methods.

What belongs here: the steps, and what Dagster shows of them. What does not: assets and runs (see `campaigns`), which
differ only in how many campaigns they call these methods for.
"""

from collections.abc import Mapping
from functools import cached_property
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
from recoflow.models import bundle_files, versions
from recoflow.models.bundle import Bundle
from recoflow.quality import suites
from recoflow.quality.finding import Finding
from recoflow.stopwatch import Stopwatch
from recoflow.storage import registry
from recoflow.storage.registry import History, Register

STAGING = "staging"
SHOWN_ERRORS = 20


class Answers:
    """The answers to campaigns of one environment; what they share, say a model, is loaded once.

    A campaign goes by its key (see `docket`), and what is given back is what Dagster shows of one of its assets. The
    assets follow each other through files in the campaign's folder only, so that each may be made alone and again.
    """

    def __init__(self, environment: Environment, installation: Installation) -> None:
        self._environment = environment
        self._installation = installation
        self._campaigns = installation.layout.campaigns(environment.name)
        self._models = installation.layout.models(environment.name)
        self._recommendations = names.key(environment, "campaign_recommendations")
        self._watches: dict[str, Stopwatch] = {}  # of what `stage` did for a key

    def request(self, key: str) -> dg.MaterializeResult:
        """Read the request: `campaign_request`."""
        watch = Stopwatch()
        opened = docket.load(self._campaigns, key)
        read = self._read(opened, watch)
        shown: dict[str, Any] = {
            "stages": metadata.stages(watch),
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
        return dg.MaterializeResult(names.key(self._environment, "campaign_request"), metadata=shown)

    def stage(self, key: str) -> Staged | Request:
        """Rank and stage: the first half of `campaign_recommendations`; the request itself where it is refused."""
        watch = self._watches[key] = Stopwatch()
        opened = docket.load(self._campaigns, key)
        read = self._read(opened, watch)
        if read.rejection is not None:
            return read
        staging = self._campaigns / opened.key / STAGING
        return answer.answer(read, self._champion, self._as_of(opened), staging, opened.as_of, stopwatch=watch)

    def recommendations(self, answered: Mapping[str, Staged | Request]) -> dict[str, dg.MaterializeResult]:
        """Check what `stage` gave for some keys: `campaign_recommendations` of each.

        A check that fails is in the result, not an error.
        """
        checking = Stopwatch()
        with checking.stage("checks (great-expectations)"):
            findings = self._judge({key: each for key, each in answered.items() if isinstance(each, Staged)})
        for key in findings:
            self._watches[key].seconds |= checking.seconds
        return {
            key: self._recommended(key, each, findings[key]) if isinstance(each, Staged) else self._refused(key, each)
            for key, each in answered.items()
        }

    def response(self, key: str) -> dg.MaterializeResult:
        """Audit, render and publish: `campaign_response`.

        Raises:
            AuditError: the staged campaign is not fit for publication.
            CampaignError: nothing is staged.
        """
        opened = docket.load(self._campaigns, key)
        watch = Stopwatch()
        answered = self._audited(opened, watch)
        with watch.stage("write files"):
            files = publication.render(answered, self._campaigns / opened.key)
        state = "kept locally: the request did not come by SFTP"
        if opened.claim_id is not None:
            with watch.stage("upload"), self._installation.mailbox(self._environment) as mailbox:
                state = mailbox.publish(opened.claim_id, files).value
        shown: dict[str, Any] = {"campaign": opened.key, "campaign_id": answered.campaign_id, "state": state}
        if isinstance(answered, Staged):
            with watch.stage("append to the lake"):
                rows = publication.rows(answered, now())
                self._installation.lake(self._environment).append("responses", rows, transaction=opened.key)
            shown |= {
                "dagster/row_count": rows.height,
                "dagster/table_name": f"{self._environment.name}.responses",
                "model_version": answered.model_version,
                "champion": dg.MetadataValue.asset(names.key(self._environment, "champion")),
            }
        path, name = files[-1]
        return dg.MaterializeResult(
            names.key(self._environment, "campaign_response"),
            metadata={
                **shown,
                "stages": metadata.stages(watch),
                "file": name,
                "path": dg.MetadataValue.path(str(path)),
                "bytes": path.stat().st_size,
                "published_files": [name for _, name in files],
            },
        )

    @cached_property
    def _champion(self) -> Bundle:
        bundle = versions.champion(self._models)
        if bundle is None:
            cure = f"Materialize factors and champion of {self._environment.name}"
            raise ModelError(str(self._models), "has no champion", cure)
        return bundle

    @cached_property
    def _attributes(self) -> frozenset[str]:
        return rules.attribute_names(self._champion.items)

    @cached_property
    def _registered(self) -> History:
        return Register(self._installation.lake(self._environment)).history()

    def _as_of(self, opened: Docket) -> Environment:
        """The environment with the configurations that were registered when the request came in."""
        return registry.effective(self._environment, self._registered, opened.as_of)

    def _read(self, opened: Docket, watch: Stopwatch) -> Request:
        with watch.stage("load model"):  # by the first of several campaigns
            attributes, algorithms = self._attributes, rules.algorithms(self._champion)
        with watch.stage("parse request"):
            return request.parse(
                Path(opened.path),
                name=opened.name,
                environment=self._as_of(opened),
                sha256=opened.sha256,
                known_attributes=attributes,
                algorithms=algorithms,
            )

    def _judge(self, answered: Mapping[str, Staged]) -> dict[str, list[Finding]]:
        """What great-expectations says of the staged files of each campaign."""
        campaigns = [
            suites.Campaign(
                key,
                result.campaign_id,
                result.parts,
                result.requests,
                self._models / result.model_version / bundle_files.ITEMS,
            )
            for key, result in answered.items()
        ]
        return suites.campaigns(
            campaigns,
            columns=staged.columns(self._environment.campaigns.information_fields).names(),
            provider=self._environment.campaigns.provider,
            max_fallback_share=self._environment.quality.max_fallback_share,
        )

    def _recommended(self, key: str, result: Staged, findings: list[Finding]) -> dg.MaterializeResult:
        about = {"campaign": key, "campaign_id": result.campaign_id, "model_version": result.model_version}
        preview = pl.scan_parquet(list(result.parts)).head(metadata.PREVIEW_ROWS).collect()
        return dg.MaterializeResult(
            self._recommendations,
            metadata={
                **about,
                "stages": metadata.stages(self._watches[key]),
                "dagster/row_count": result.counts.items,
                "lists": result.counts.answered,
                "personalized": result.counts.personalized,
                "fallback": result.counts.fallback,
                "short_lists": result.counts.short,
                "empty_lists": result.counts.empty,
                "champion": dg.MetadataValue.asset(names.key(self._environment, "champion")),
                "catalogue": dg.MetadataValue.asset(names.key(self._environment, "items")),
                "model_path": dg.MetadataValue.path(str(self._models / result.model_version)),
                "preview": metadata.preview(preview),
            },
            check_results=metadata.check_results(findings, suites.CAMPAIGN_CHECKS, self._recommendations, about),
        )

    def _refused(self, key: str, read: Request) -> dg.MaterializeResult:
        assert read.rejection is not None
        about = {"campaign": key, "campaign_id": read.campaign_id}
        message = f"not applicable: the request was refused: {read.rejection.message}"
        findings = [Finding(check, passed=True, message=message) for check in suites.CAMPAIGN_CHECKS]
        return dg.MaterializeResult(
            self._recommendations,
            metadata={**about, "rejected": read.rejection.code},
            check_results=metadata.check_results(findings, suites.CAMPAIGN_CHECKS, self._recommendations, about),
        )

    def _audited(self, opened: Docket, watch: Stopwatch) -> Staged | Request:
        """What is to be published: the staged campaign after its audit, or the request that was refused as a whole."""
        read = self._read(opened, watch)
        if read.rejection is not None:
            return read
        result = staged.load(self._campaigns / opened.key / STAGING)
        bundle = self._champion
        if bundle.version != result.model_version:  # another champion since it was ranked
            with watch.stage("load model"):
                bundle = bundles.load(self._models / result.model_version)
        with watch.stage("audit"):
            audit.audit(result, bundle)
        return result
