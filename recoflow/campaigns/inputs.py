"""The inputs of a campaign: which model, tables and settings answer it, chosen once and kept.

What belongs here: the choice and its file. What does not: what is made of the inputs (see `freshness`).

    <campaign>/inputs.json    {"model_version": …, "tables": {name: version}, "settings": {section: …}}

A campaign that was rendered keeps its inputs, so that a re-run gives the same bytes though events arrived, the
environment's file was edited or configurations were registered meanwhile. Until then a new champion and new settings
are taken up: a campaign that a bad model or a wrong setting keeps from its answer is answered after the cure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pydantic

from recoflow.campaigns.freshness import TABLES
from recoflow.campaigns.publishing import response_files
from recoflow.errors import CampaignError, ModelError
from recoflow.models.store import version_summaries, versions
from recoflow.settings.environment import Environment
from recoflow.storage import atomic_files
from recoflow.storage.lake.lake import Lake

FILE: Final = "inputs.json"


@dataclass(frozen=True)
class Inputs:
    """What a campaign is answered from.

    Attributes:
        model_version: of the bundle.
        tables: name → version, None for a table that does not exist yet; for each of `freshness.TABLES`.
        settings: of the environment, as JSON values, the configurations among them that were registered by then.
        chosen_anew: why these are not the ones that an earlier attempt had, None when they are or there was none.
    """

    model_version: str
    tables: Mapping[str, int | None]
    settings: Mapping[str, Any] = field(default_factory=dict)  # campaigns of older versions of recoflow kept none
    chosen_anew: str | None = field(default=None, compare=False)

    def as_json(self) -> dict[str, Any]:
        """The inputs as JSON values, as they are kept."""
        return {key: value for key, value in asdict(self).items() if key != "chosen_anew"}

    def environment(self) -> Environment:
        """The environment with these settings.

        Raises:
            CampaignError: this version of recoflow cannot read them.
        """
        try:
            return Environment.model_validate(self.settings)
        except pydantic.ValidationError as error:
            problem = f"has settings of another version of recoflow ({error.errors()[0]['msg']})"
            cure = "Materialize campaign_request and campaign_recommendations of this campaign again"
            raise CampaignError(f"{FILE} of this campaign", problem, cure) from None


def inputs_in_service(models: Path, lake: Lake, environment: Environment) -> Inputs:
    """What a campaign that begins now is answered from.

    Args:
        models: the folder of the environment's model versions.
        lake: of the environment.
        environment: with the configurations that are registered.

    Raises:
        ModelError: there is no champion, or its pointer is damaged.
    """
    champion = versions.champion_version(models)
    if champion is None:
        raise ModelError(str(models), "has no champion", f"Materialize factors and champion of {models.name}")
    return inputs_of_version(champion, lake, environment)


def inputs_of_version(model_version: str, lake: Lake, environment: Environment) -> Inputs:
    """What a campaign that begins now is answered from when this model serves."""
    return Inputs(model_version, current_tables(lake), environment.model_dump(mode="json"))


def choose_inputs(folder: Path, models: Path, lake: Lake, now: Inputs) -> Inputs:
    """The inputs of a campaign: those that it has, else those of now, which it has from then on.

    Args:
        folder: of the campaign.
        models: the folder of the environment's model versions.
        lake: of the environment.
        now: what is in service.
    """
    before = _read(folder)
    if before == now:
        return now
    reason = None if before is None else _obstacle(before, folder, models, lake, now)
    if before is not None and reason is None:
        return before
    chosen = replace(now, chosen_anew=reason)
    atomic_files.write_atomic(folder / FILE, (json.dumps(chosen.as_json(), indent=1, sort_keys=True) + "\n").encode())
    return chosen


def load_inputs(folder: Path) -> Inputs:
    """The inputs that a campaign has.

    Raises:
        CampaignError: it has none yet.
    """
    inputs = _read(folder)
    if inputs is None:
        cure = "Materialize campaign_request and campaign_recommendations of this campaign first"
        raise CampaignError(str(folder / FILE), "is missing: nothing was staged", cure)
    return inputs


def current_tables(lake: Lake) -> dict[str, int | None]:
    """The versions that there are now."""
    return {name: lake.version(name) for name in TABLES}


def _read(folder: Path) -> Inputs | None:
    try:
        return Inputs(**json.loads((folder / FILE).read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise CampaignError(str(folder / FILE), f"is damaged ({error})", "Remove it: inputs are chosen anew") from None


def _obstacle(inputs: Inputs, folder: Path, models: Path, lake: Lake, now: Inputs) -> str | None:
    """Why a campaign is not to be answered from its inputs any more, None when it is."""
    if inputs.model_version not in version_summaries.known_versions(models):
        return f"model version {inputs.model_version} is gone"
    if not response_files.is_rendered(folder):
        if inputs.model_version != now.model_version:
            return f"nothing was published yet, and {inputs.model_version} is not the champion any more"
        if inputs.settings != now.settings:
            return "nothing was published yet, and the environment has other settings now"
    try:
        inputs.environment()
    except CampaignError as error:
        return str(error)
    return _missing_version(inputs, lake)


def _missing_version(inputs: Inputs, lake: Lake) -> str | None:
    for name, version in inputs.tables.items():
        if version is None and lake.version(name) is not None:
            return f"{name} did not exist yet"
        if version is not None and not lake.has_version(name, version):
            return f"version {version} of {name} is gone"
    return None
