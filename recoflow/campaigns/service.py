"""The one way in which a campaign is answered: prepare, build, check, publish.

    prepare   pin the inputs, load the model, parse the request       → <campaign>/inputs.json, prepared/
    build     rank and stage every list                               → <campaign>/staging/
    publish   audit, render, upload, rename; then note what was given → <campaign>/response …, responses/, the lake

Each step finds what the step before it left on disk, so that each can run alone, in another process, and again. What
does not belong here: assets and runs (`recoflow.defs`), and when a campaign is tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from recoflow.campaigns import campaign_record, inputs
from recoflow.campaigns.audiences.staged_audiences import StagedAudiences
from recoflow.campaigns.prepared import load_prepared, save_prepared
from recoflow.campaigns.publishing import audience_gate, checks, list_gate, response_files
from recoflow.campaigns.publishing.deliveries import RowsBesideUpload
from recoflow.campaigns.requests.model import Request
from recoflow.campaigns.serving_model import FOLDING_IN, ServingModel
from recoflow.campaigns.staging import staged
from recoflow.campaigns.staging.staged import STAGING, StagedLists
from recoflow.errors import ModelError, RecoflowError
from recoflow.models.store import versions
from recoflow.models.store.bundle_store import load_bundle
from recoflow.quality.finding import Finding
from recoflow.storage import configuration_store
from recoflow.storage.configuration_store import ConfigurationStore

if TYPE_CHECKING:
    from recoflow.campaigns.campaign_record import CampaignRecord
    from recoflow.campaigns.inputs import Inputs
    from recoflow.campaigns.publishing.response_files import Files
    from recoflow.compute.stage_timer import StageTimer
    from recoflow.models.store.bundle import Bundle
    from recoflow.quality.gx_runner import Validate
    from recoflow.settings.environment import Environment
    from recoflow.storage.lake.lake import Lake
    from recoflow.storage.paths import Paths
    from recoflow.storage.sftp.claims import State
    from recoflow.storage.sftp.mailbox import Mailbox

PREPARED: Final = "prepared"  # below a campaign's folder


@dataclass(frozen=True)
class PreparedCampaign:
    """A campaign whose request was read.

    Attributes:
        record: what was known when its request file came in.
        inputs: which model, tables and settings answer it.
        environment: as these settings have it.
        request: as it was understood; possibly rejected as a whole.
    """

    record: CampaignRecord
    inputs: Inputs
    environment: Environment
    request: Request


@dataclass(frozen=True)
class BuiltCampaign:
    """A campaign whose lists are staged; `answer` is the request where it was rejected as a whole."""

    record: CampaignRecord
    environment: Environment
    answer: StagedLists | StagedAudiences | Request


@dataclass(frozen=True)
class RenderedCampaign:
    """The audited files that answer a campaign, on this machine."""

    record: CampaignRecord
    answer: StagedLists | StagedAudiences | Request
    files: Files


class CampaignService:
    """Answers the campaigns of one environment; a model version is loaded and verified once.

    A campaign goes by its key, see `campaign_record`. What is in service is looked up once, at the first campaign, so
    that all campaigns of a run are answered alike.

    Args:
        environment: as its file has it.
        layout: of the installation.
        lake: of the environment.
        on_fault: called with a fault of the installation that a campaign survives: a champion that is damaged.
    """

    def __init__(
        self, environment: Environment, layout: Paths, lake: Lake, on_fault: Callable[[RecoflowError], None]
    ) -> None:
        self.folder = layout.campaigns(environment.name)
        self._environment = environment
        self._lake = lake
        self._models = layout.models(environment.name)
        self._on_fault = on_fault
        self._bundles: dict[str, Bundle] = {}  # the last one that was loaded, by its version
        self._serving: tuple[Inputs, ServingModel] | None = None  # the last one, of these inputs
        self._folded: tuple[str, Inputs, Bundle] | None = None  # the last one, of this campaign and its inputs

    def prepare(self, key: str, watch: StageTimer) -> PreparedCampaign:
        """Read a request file with the inputs that the campaign has from now on.

        Raises:
            CampaignError: there is no such campaign, or its file is gone.
            ModelError: there is no model.
        """
        return self._prepare(key, self._choose(key, watch), watch)

    def prepared(self, key: str, watch: StageTimer) -> PreparedCampaign:
        """The campaign as it was prepared; prepared now if it was not, or if other inputs answer it meanwhile."""
        chosen = self._choose(key, watch)
        return self._read(key, chosen) or self._prepare(key, chosen, watch)

    def build(self, prepared: PreparedCampaign, watch: StageTimer) -> BuiltCampaign:
        """Rank and stage every list of a request."""
        request, record = prepared.request, prepared.record
        answer: StagedLists | StagedAudiences | Request = request
        if request.rejection is None:
            with watch.stage("load model"):
                model = self._serving_model(prepared.inputs)
            bundle = self._fold_in(prepared, watch)
            answer = model.build(request, bundle, self.folder / record.key / STAGING, record.as_of, watch)
        return BuiltCampaign(record, prepared.environment, answer)

    def render(self, key: str, watch: StageTimer) -> RenderedCampaign:
        """Write the files that answer a campaign which was built, audited meanwhile.

        Raises:
            AuditError: the staged campaign is not fit for publication.
            CampaignError: nothing is staged.
        """
        chosen = inputs.load_inputs(self.folder / key)
        prepared = self._read(key, chosen) or self._prepare(key, chosen, watch)
        request = prepared.request
        if request.rejection is not None:
            with watch.stage("write files"):
                files = response_files.render_files(request, self.folder / key)
            return RenderedCampaign(prepared.record, request, files)
        kind: type[StagedLists | StagedAudiences] = StagedAudiences if request.is_for_audiences else StagedLists
        answer = staged.load_staged(self.folder / key / STAGING, kind)
        bundle = self._fold_in(prepared, watch)

        def audited() -> None:
            with watch.stage("audit"):
                if isinstance(answer, StagedLists):
                    list_gate.audit_lists(answer, bundle)
                else:
                    audience_gate.audit_audiences(answer, bundle)

        with watch.stage("write files"):
            files = response_files.render_files(answer, self.folder / key, audited)
        return RenderedCampaign(prepared.record, answer, files)

    def publish(self, campaign: RenderedCampaign, mailbox: Mailbox, watch: StageTimer) -> State:
        """Upload the files, rename them into responses/, and note in the lake what people were given.

        Args:
            campaign: one that came by SFTP.
            mailbox: its account.
            watch: counts the stages.
        """
        claim, answer = campaign.record.claim_id, campaign.answer
        assert claim is not None
        if not isinstance(answer, StagedLists):
            with watch.stage("upload"):
                return mailbox.publish(claim, campaign.files)
        with RowsBesideUpload(answer, self._lake, watch) as rows:
            with watch.stage("upload"):
                state = mailbox.publish(claim, campaign.files, reference=campaign.record.key, on_ready=rows.begin)
            delivery = next((each for each in mailbox.delivered() if each.claim_id == claim), None)
            if delivery is not None:  # else it is noted already, or a newer file of this name owns the response
                with watch.stage("commit to the lake"):
                    rows.commit(delivery)
                    mailbox.acknowledge(delivery)
        return state

    @cached_property
    def _in_service(self) -> Inputs:
        """What campaigns that begin now are answered from."""
        environment = configuration_store.effective(self._environment, ConfigurationStore(self._lake).history())
        serving = versions.serving_bundle(self._models)
        if serving is None:
            return inputs.inputs_in_service(self._models, self._lake, environment)  # it says what is missing
        bundle, fault = serving
        if fault is not None:
            cure = f"{bundle.version} serves meanwhile. Put its files back, or train again"
            self._on_fault(ModelError(fault.culprit, fault.problem, cure))
        self._bundles = {bundle.version: bundle}
        return inputs.inputs_of_version(bundle.version, self._lake, environment)

    def _choose(self, key: str, watch: StageTimer) -> Inputs:
        with watch.stage("choose inputs"):
            return inputs.choose_inputs(self.folder / key, self._models, self._lake, self._in_service)

    def _read(self, key: str, chosen: Inputs) -> PreparedCampaign | None:
        request = load_prepared(self.folder / key / PREPARED, chosen)
        if request is None:
            return None
        return PreparedCampaign(campaign_record.load_record(self.folder, key), chosen, chosen.environment(), request)

    def _prepare(self, key: str, chosen: Inputs, watch: StageTimer) -> PreparedCampaign:
        record = campaign_record.load_record(self.folder, key)
        with watch.stage("load model"):
            model = self._serving_model(chosen)
        with watch.stage("parse request"):
            request = model.parse(record.request_file(), name=record.name, sha256=record.sha256)
        with watch.stage("keep request"):
            save_prepared(request, chosen, self.folder / key / PREPARED)
        return PreparedCampaign(record, chosen, chosen.environment(), request)

    def _serving_model(self, chosen: Inputs) -> ServingModel:
        if self._serving is None or self._serving[0] != chosen:
            version = chosen.model_version
            if version not in self._bundles:
                self._bundles = {version: load_bundle(self._models / version)}
            model = ServingModel(self._bundles[version], chosen.environment(), self._lake, chosen.tables)
            self._serving = chosen, model
        return self._serving[1]

    def _fold_in(self, prepared: PreparedCampaign, watch: StageTimer) -> Bundle:
        key = prepared.record.key
        if self._folded is None or self._folded[:2] != (key, prepared.inputs):
            model = self._serving_model(prepared.inputs)
            with watch.stage(FOLDING_IN):
                self._folded = key, prepared.inputs, model.fold_in(prepared.request)
        return self._folded[2]


def check_campaigns(built: Mapping[str, BuiltCampaign], validate: Validate) -> dict[str, list[Finding]]:
    """Key → a finding for each of `checks.CHECKS`; campaigns that must look alike are checked together."""
    staged_answers: dict[str, tuple[StagedLists | StagedAudiences, Environment]] = {}
    findings: dict[str, list[Finding]] = {}
    for key, campaign in built.items():
        if isinstance(campaign.answer, Request):
            findings[key] = _not_applicable(campaign.answer)
        else:
            staged_answers[key] = campaign.answer, campaign.environment
    return findings | checks.check_staged(staged_answers, validate)


def _not_applicable(request: Request) -> list[Finding]:
    assert request.rejection is not None
    message = f"not applicable: the request was rejected: {request.rejection.message}"
    return [Finding(check, passed=True, message=message) for check in checks.CHECKS]
