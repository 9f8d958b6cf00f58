"""How a list may be filled: the settings of one configuration, from an environment's file or from the API.

What belongs here: their shape and limits. What does not: what they mean for items and lists (see
`campaigns.lists.item_filters`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

import pydantic
from pydantic import AfterValidator, Field

from recoflow import schema
from recoflow.settings.yaml_source import PlacedError, Section

ALGORITHMS: Final = ("champion", "popular", "trending", "newest")  # beside the names of models


def event_types(value: dict[str, Any] | tuple[str, ...]) -> Any:
    """A validator of names of event types, which says what a wrong one may have been meant for."""
    for name in value:
        if name not in schema.EVENT_TYPES:
            close = difflib.get_close_matches(name, schema.EVENT_TYPES, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; known are {', '.join(schema.EVENT_TYPES)}"
            raise ValueError(f"'{name}' is not an event type{hint}")
    return value


class Comparison(Section):
    """A value that an item's attribute is compared with."""

    model_config = pydantic.ConfigDict(serialize_by_alias=True)

    value: str | bool | int | float
    is_negated: bool = Field(False, alias="not")


class Query(Section):
    """Which items a constraint or a boost is about; `key` is an item attribute, or item_type.

    `match` is met where the attribute answers to this value alone, `contains` where it does so, maybe among others.
    A list answers to each of its elements, anything else to itself, as for filters. `not: true` is met by all other
    items, those without the attribute among them.
    """

    key: str = Field(min_length=1)
    match: Comparison | None = None
    contains: Comparison | None = None

    @pydantic.model_validator(mode="after")
    def _one_of_two(self) -> Query:
        if (self.match is None) == (self.contains is None):
            raise ValueError("needs one of `match` and `contains`, e.g. contains: {value: sport}")
        return self

    @property
    def comparison(self) -> Comparison:
        """The one of `match` and `contains` that is given."""
        given = self.match or self.contains
        if given is None:
            raise AssertionError("validated")
        return given


class Limit(Section):
    """How many items of a list may meet a query."""

    min: int = Field(0, ge=0)
    max: int | None = Field(None, ge=0)

    @pydantic.model_validator(mode="after")
    def _range(self) -> Limit:
        if self.min == 0 and self.max is None:
            raise ValueError("needs a `min` above 0, a `max`, or both")
        if self.max is not None and self.min > self.max:
            raise ValueError(f"asks for at least {self.min} and at most {self.max}")
        return self


class Constraint(Section):
    """A limit on the items of each list that meet a query."""

    query: Query
    limit: Limit


class Boost(Section):
    """Items whose scores are raised, or lowered by a bury; the factors of several that are met multiply."""

    query: Query
    factor: float = Field(ge=1, le=1000)


class Configuration(Section):
    """A named way to fill a list; request rows choose it by `configuration_id`."""

    algorithm: str = "champion"  # one of ALGORITHMS, or the name of a model in training.models
    filters: dict[str, str | tuple[str, ...]] = {}
    constraints: tuple[Constraint, ...] = Field((), max_length=16)
    boosts: tuple[Boost, ...] = Field((), max_length=8)
    buries: tuple[Boost, ...] = Field((), max_length=8)
    # λ of maximal marginal relevance: 1 is relevance alone, 0 difference from what the list holds already; null: off
    diversity: float | None = Field(None, ge=0, le=1)
    max_age_days: float | None = Field(None, gt=0)
    consumed: Annotated[tuple[str, ...], AfterValidator(event_types)] | None = None
    repeat_items: bool = False
    minimum_score: float | None = None  # of the model's own score: a boost does not lift an item over it

    @property
    def queries(self) -> tuple[Query, ...]:
        """Of its constraints, boosts and buries."""
        limited = (constraint.query for constraint in self.constraints)
        return (*limited, *(boost.query for boost in (*self.boosts, *self.buries)))


def check_algorithms(configurations: Mapping[str, Configuration], models: Iterable[str]) -> None:
    """Refuse configurations whose algorithm there is not.

    Args:
        configurations: by id.
        models: the names in training.models.

    Raises:
        PlacedError: from the environment.
    """
    known = (*ALGORITHMS, *models)
    for name, configuration in configurations.items():
        if configuration.algorithm not in known:
            close = difflib.get_close_matches(configuration.algorithm, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            place = ("campaigns", "configurations", name, "algorithm")
            raise PlacedError(place, f"is neither an algorithm nor a model of training.models; {hint}")
