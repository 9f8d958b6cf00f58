"""How campaigns are answered: what each of the three assets does for one campaign, as plain methods.

What belongs here: the steps, and what Dagster shows of them. What does not: assets and runs (see `campaigns`), which
differ only in how many campaigns they call these methods for.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import dagster as dg
import polars as pl

from recoflow.campaigns import campaign_record, freshness, inputs
from recoflow.campaigns.audiences import build_audiences
from recoflow.campaigns.audiences.select import Catalogue
from recoflow.campaigns.audiences.staged_audiences import StagedAudiences
from recoflow.campaigns.campaign_record import Docket
from recoflow.campaigns.inputs import Inputs
from recoflow.campaigns.lists import build_lists, explanations, item_filters
from recoflow.campaigns.publishing import audience_audit, audit, checks, response_files
from recoflow.campaigns.publishing.checks import CHECKS, Answered
from recoflow.campaigns.publishing.response_files import Files
from recoflow.campaigns.requests import request_parser
from recoflow.campaigns.requests.model import Request
from recoflow.campaigns.staging import staged
from recoflow.campaigns.staging.staged import Staged
from recoflow.compute.stage_timer import Stopwatch
from recoflow.defs import delivery_log, metadata, names
from recoflow.defs.clock import now
from recoflow.defs.delivery_log import STAGING
from recoflow.defs.resources import Installation
from recoflow.errors import ModelError
from recoflow.models.store import bundle_store, versions
from recoflow.models.store.bundle import Bundle
from recoflow.quality.finding import Finding
from recoflow.quality.gx_runner import Validate
from recoflow.settings.environment import Environment
from recoflow.storage import alerts, configuration_store
from recoflow.storage.configuration_store import Register

SHOWN_ERRORS = 20
TAKING_IN = "take in what happened since the training"


@dataclass(frozen=True)
class _Case:
    """A campaign at work: its environment then, its request as it was understood, the bundle with the items of now."""

    docket: Docket
    environment: Environment
    inputs: Inputs
    bundle: Bundle
    request: Request


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
        self._lake = installation.lake(environment)
        self._bundles: dict[str, Bundle] = {}
        self._catalogues: dict[tuple[str, int | None], tuple[Bundle, frozenset[str], Catalogue]] = {}
        self._recommendations = names.key(environment, "campaign_recommendations")
        self._requested: dict[str, _Case] = {}  # until they are staged
        self._environments: dict[str, Environment] = {}  # as the settings of a key's campaign have it
        self._watches: dict[str, Stopwatch] = {}  # of what `stage` did for a key

    def request(self, key: str) -> dg.MaterializeResult:
        """Read the request: `campaign_request`."""
        watch = Stopwatch()
        case = self._requested[key] = self._case(key, self._choose(key), watch)
        read = case.request
        chosen = {name: value for name, value in asdict(case.inputs).items() if name != "settings"}
        shown: dict[str, Any] = {
            "stages": metadata.stages(watch),
            "inputs": dg.MetadataValue.json(chosen),
            "settings": dg.MetadataValue.path(str(self._campaigns / key / inputs.FILE)),
            "campaign_id": read.campaign_id,
            "file": metadata.text(read.name),
            "rows_read": read.counts.read,
            "rows_accepted": read.counts.accepted,
            "rows_failed": read.counts.failed,
            "kind": "audiences" if read.is_for_audiences else "lists",
            "dagster/row_count": read.rows.height,
            "preview": metadata.preview(read.rows),
            "errors": metadata.preview(read.errors, SHOWN_ERRORS),
        }
        if read.rejection is not None:
            shown["rejected"] = metadata.text(f"{read.rejection.code}: {read.rejection.message}")
        return dg.MaterializeResult(names.key(self._environment, "campaign_request"), metadata=shown)

    def stage(self, key: str) -> Answered | Request:
        """Rank and stage: the first half of `campaign_recommendations`; the request itself where it is refused."""
        watch = self._watches[key] = Stopwatch()
        case = self._requested.pop(key, None) or self._case(key, self._choose(key), watch)
        if case.request.rejection is not None:
            return case.request
        bundle, staging = self._up_to_date(case, watch), self._campaigns / key / STAGING
        if case.request.is_for_audiences:
            return build_audiences.answer(case.request, bundle, case.environment, staging, stopwatch=watch)
        with watch.stage(TAKING_IN):
            rows, tables = case.request.rows, case.inputs.tables
            weights = explanations.weights(bundle, rows, case.environment, self._lake, tables)
        return build_lists.answer(
            case.request,
            bundle,
            case.environment,
            staging,
            case.docket.as_of,
            weights=weights,
            model_people=len(case.bundle.subjects),
            stopwatch=watch,
        )

    def recommendations(
        self, answered: Mapping[str, Answered | Request], validate: Validate
    ) -> dict[str, dg.MaterializeResult]:
        """Check what `stage` gave for some keys: `campaign_recommendations` of each.

        A check that fails is in the result, not an error.

        Args:
            answered: key → what is staged, or the refused request.
            validate: runs the checks.
        """
        checking = Stopwatch()
        given = {
            key: (each, self._environments[key]) for key, each in answered.items() if not isinstance(each, Request)
        }
        with checking.stage("checks (great-expectations)"):
            findings = checks.check(given, validate)
        for key in findings:
            self._watches[key].seconds |= checking.seconds
        return {
            key: self._refused(key, each) if isinstance(each, Request) else self._recommended(key, each, findings[key])
            for key, each in answered.items()
        }

    def response(self, key: str) -> dg.MaterializeResult:
        """Render, audited meanwhile, publish and note in the lake: `campaign_response`.

        Raises:
            AuditError: the staged campaign is not fit for publication.
            CampaignError: nothing is staged.
        """
        watch = Stopwatch()
        case = self._case(key, inputs.load(self._campaigns / key), watch)
        opened, answered = case.docket, self._staged(case)
        files = self._files(case, answered, watch)
        shown: dict[str, Any] = {"campaign": opened.key, "campaign_id": answered.campaign_id}
        if opened.claim_id is None:
            shown["state"] = "kept locally: the request did not come by SFTP"
        else:
            shown["state"] = self._publish(opened, answered, files, watch)
        if isinstance(answered, Staged):
            shown |= {
                "dagster/row_count": answered.counts.items,
                "dagster/table_name": f"{self._environment.name}.responses",
            }
        if isinstance(answered, StagedAudiences):
            shown["dagster/row_count"] = answered.counts.people
        if not isinstance(answered, Request):
            shown |= {
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

    def _publish(self, opened: Docket, answered: Answered | Request, files: Files, watch: Stopwatch) -> str:
        """Upload, and note in the lake what people were given, if anything; the state of the claim then."""
        assert opened.claim_id is not None
        reference = opened.key if isinstance(answered, Staged) else None
        with self._installation.mailbox(self._environment) as mailbox:
            with watch.stage("upload"):
                state = mailbox.publish(opened.claim_id, files, reference=reference)
            with watch.stage("append to the lake"):
                for delivery in mailbox.delivered():
                    if delivery.claim_id == opened.claim_id:
                        delivery_log.note(delivery, self._campaigns, self._lake)
                        mailbox.acknowledge(delivery)
        return state.value

    @cached_property
    def _in_service(self) -> Inputs:
        environment = configuration_store.effective(self._environment, Register(self._lake).history())
        serving = versions.serving(self._models)
        if serving is None:
            return inputs.in_service(self._models, self._lake, environment)  # says what is missing
        bundle, fault = serving
        if fault is not None:
            cure = f"{bundle.version} serves meanwhile. Put its files back, or train again"
            error = ModelError(fault.culprit, fault.problem, cure)
            alerts.raise_alert_daily(self._installation.layout.alerts, error, now(), self._environment.name)
        self._bundles = {bundle.version: bundle}
        return inputs.of_version(bundle.version, self._lake, environment)

    def _choose(self, key: str) -> Inputs:
        return inputs.choose(self._campaigns / key, self._models, self._lake, self._in_service)

    def _case(self, key: str, chosen: Inputs, watch: Stopwatch) -> _Case:
        opened, environment = campaign_record.load(self._campaigns, key), chosen.environment()
        self._environments[key] = environment
        with watch.stage("load model"):  # by the first of several campaigns
            bundle, attributes, catalogue = self._with_items(chosen)
        with watch.stage("parse request"):
            read = request_parser.parse_request(
                opened.request_file(),
                name=opened.name,
                environment=environment,
                sha256=opened.sha256,
                known_attributes=attributes,
                algorithms=item_filters.algorithms(bundle),
                catalogue=catalogue,
            )
        return _Case(opened, environment, chosen, bundle, read)

    def _with_items(self, chosen: Inputs) -> tuple[Bundle, frozenset[str], Catalogue]:
        """The model with the items of these inputs, the names of their attributes, and what audiences may ask for."""
        version = chosen.model_version
        if version not in self._bundles:
            self._bundles = {version: bundle_store.load_bundle(self._models / version)}
        key = version, chosen.tables["items"]
        if key not in self._catalogues:
            bundle = freshness.with_current_items(self._bundles[version], self._lake, chosen.tables)
            self._catalogues = {key: (bundle, item_filters.attribute_names(bundle.items), Catalogue(bundle))}
        return self._catalogues[key]

    def _up_to_date(self, case: _Case, watch: Stopwatch) -> Bundle:
        with watch.stage(TAKING_IN):
            people = None if case.request.is_for_audiences else case.request.rows
            return freshness.with_current_people(case.bundle, people, self._lake, case.inputs.tables)

    def _recommended(self, key: str, result: Answered, findings: list[Finding]) -> dg.MaterializeResult:
        about = {"campaign": key, "campaign_id": result.campaign_id, "model_version": result.model_version}
        preview = pl.scan_parquet(list(result.parts)).head(metadata.PREVIEW_ROWS).collect()
        return dg.MaterializeResult(
            self._recommendations,
            metadata={
                **about,
                "stages": metadata.stages(self._watches[key]),
                **_counts(result),
                "champion": dg.MetadataValue.asset(names.key(self._environment, "champion")),
                "catalogue": dg.MetadataValue.asset(names.key(self._environment, "items")),
                "model_path": dg.MetadataValue.path(str(self._models / result.model_version)),
                "preview": metadata.preview(preview),
            },
            check_results=metadata.check_results(findings, CHECKS, self._recommendations, about),
        )

    def _refused(self, key: str, read: Request) -> dg.MaterializeResult:
        assert read.rejection is not None
        about = {"campaign": key, "campaign_id": read.campaign_id}
        message = f"not applicable: the request was refused: {read.rejection.message}"
        findings = [Finding(check, passed=True, message=message) for check in CHECKS]
        return dg.MaterializeResult(
            self._recommendations,
            metadata={**about, "rejected": read.rejection.code},
            check_results=metadata.check_results(findings, CHECKS, self._recommendations, about),
        )

    def _staged(self, case: _Case) -> Answered | Request:
        """What is to be published: the staged campaign, or the request that was refused as a whole."""
        if case.request.rejection is not None:
            return case.request
        kind: type[Answered] = StagedAudiences if case.request.is_for_audiences else Staged
        return staged.load(self._campaigns / case.docket.key / STAGING, kind)

    def _files(self, case: _Case, answered: Answered | Request, watch: Stopwatch) -> Files:
        """The files of the answer, audited while they are written."""
        folder = self._campaigns / case.docket.key
        if isinstance(answered, Request):
            with watch.stage("write files"):
                return response_files.render_files(answered, folder)
        bundle = self._up_to_date(case, watch)

        def audited() -> None:
            with watch.stage("audit"):
                if isinstance(answered, Staged):
                    audit.audit(answered, bundle)
                else:
                    audience_audit.audit(answered, bundle)

        with watch.stage("write files"):
            return response_files.render_files(answered, folder, audited)


def _counts(result: Answered) -> dict[str, int]:
    if isinstance(result, StagedAudiences):
        return {"dagster/row_count": result.counts.people, **asdict(result.counts)}
    return {
        "dagster/row_count": result.counts.items,
        "lists": result.counts.answered,
        "personalized": result.counts.personalized,
        "fallback": result.counts.fallback,
        "people": result.counts.people,
        "people_known": result.counts.people_known,
        "short_lists": result.counts.short,
        "empty_lists": result.counts.empty,
    }
