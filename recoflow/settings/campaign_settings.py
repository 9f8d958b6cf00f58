"""The parts of an environment's campaigns that have rules of their own: experiments, and campaigns by the clock.

What belongs here: shape, limits, and what must fit together. What does not: what they do (`campaigns.experiments`,
`campaigns.scheduled`).

Arms and scheduled lists name configurations of the YAML only: one that came by the API can be deleted by the API, and
an experiment must not end by that.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated

import pydantic
from pydantic import AfterValidator, Field

from recoflow.settings import cron
from recoflow.settings.yaml_source import Place, PlacedError, Section

Cron = Annotated[str, AfterValidator(cron.check_cron)]


class Arm(Section):
    """What an experiment's share of people gets; with neither a configuration nor a model: what they got before."""

    weight: float = Field(gt=0, allow_inf_nan=False)  # its share is the weight over the sum of weights
    configuration: str | None = None  # for the rows' lists, in the place of the list's own
    model: str | None = None  # champion, or one of training.models: ranks in the place of the configuration's algorithm

    @pydantic.model_validator(mode="after")
    def _one_thing(self) -> Arm:
        if self.configuration is not None and self.model is not None:
            raise ValueError("has both a configuration and a model; name one, so that the arm says what differs")
        return self


class Experiment(Section):
    """Arms that people are divided among, each person always into the same one."""

    lists: tuple[str, ...] = ()  # list names that take part; none: all of them
    arms: dict[str, Arm] = Field(min_length=1)  # name, the `version` of its rows → what it gets


class ScheduledList(Section):
    """A list that everyone in a scheduled campaign's audience gets."""

    list_name: str = Field(min_length=1)
    list_size: int = Field(ge=1)
    page_type: str = Field(min_length=1)
    configuration_id: str | None = None


class ScheduledCampaign(Section):
    """A campaign without a request file: at these times for all users active in the last days."""

    cron: Cron  # in schedules.timezone
    active_days: float = Field(gt=0, le=36_500)
    lists: tuple[ScheduledList, ...] = Field(min_length=1)


def check_experiments(experiments: Mapping[str, Experiment], configurations: Collection[str], version: str) -> None:
    """Refuse experiments that cannot be told apart, or that name a configuration that there is not.

    Args:
        experiments: by name.
        configurations: ids that arms may name.
        version: of rows that take no part in an experiment.

    Raises:
        PlacedError: from `campaigns`.
    """
    owners: dict[str, str] = {}
    taken = {version: "campaigns.version"}
    for name, experiment in experiments.items():
        place: Place = ("experiments", name)
        for arm, settings in experiment.arms.items():
            if arm in taken or not arm:
                problem = f"is the version of {taken[arm]} too" if arm else "has no name"
                raise PlacedError((*place, "arms", arm), f"{problem}; give each arm a name of its own")
            taken[arm] = f"an arm of {name}"
            if settings.configuration is not None and settings.configuration not in configurations:
                place = (*place, "arms", arm, "configuration")
                raise PlacedError(place, f"is not in campaigns.configurations (there: {_listed(configurations)})")
        _check_lists(name, experiment, owners)
    if len(experiments) > 1 and (everywhere := [name for name, each in experiments.items() if not each.lists]):
        problem = "takes part in all lists, and there are other experiments; name its lists"
        raise PlacedError(("experiments", everywhere[0]), problem)


def _check_lists(name: str, experiment: Experiment, owners: dict[str, str]) -> None:
    for index, list_name in enumerate(experiment.lists):
        if list_name in owners:
            problem = f"is a list of {owners[list_name]} already; a list takes part in one experiment at most"
            raise PlacedError(("experiments", name, "lists", index), problem)
        owners[list_name] = name


def check_models(experiments: Mapping[str, Experiment], models: Collection[str]) -> None:
    """Refuse arms whose model is not trained.

    Raises:
        PlacedError: from the environment.
    """
    for name, experiment in experiments.items():
        for arm, settings in experiment.arms.items():
            if settings.model is not None and settings.model not in ("champion", *models):
                place = ("campaigns", "experiments", name, "arms", arm, "model")
                raise PlacedError(place, f"is neither champion nor in training.models (there: {_listed(models)})")


def check_scheduled(
    scheduled: Mapping[str, ScheduledCampaign], configurations: Collection[str], max_list_size: int
) -> None:
    """Refuse scheduled campaigns whose every row would be an error.

    Raises:
        PlacedError: from `campaigns`.
    """
    for name, campaign in scheduled.items():
        names: set[str] = set()
        for index, each in enumerate(campaign.lists):
            place: Place = ("scheduled", name, "lists", index)
            if each.list_name in names:
                raise PlacedError((*place, "list_name"), "stands twice in this campaign; each list once")
            names.add(each.list_name)
            if each.list_size > max_list_size:
                raise PlacedError((*place, "list_size"), f"is more than campaigns.max_list_size, {max_list_size}")
            if each.configuration_id is not None and each.configuration_id not in configurations:
                problem = f"is not in campaigns.configurations (there: {_listed(configurations)})"
                raise PlacedError((*place, "configuration_id"), problem)


def _listed(names: Collection[str]) -> str:
    return ", ".join(names) or "none"
