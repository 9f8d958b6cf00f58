"""The lists of a request as arrays: whom each is for, how it is ranked, what it must not hold.

What belongs here: all that is decided about a list before any item is scored. What does not: scores (see
`rank_blocks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from recoflow import schema
from recoflow.campaigns.lists import constraints, item_filters
from recoflow.interactions import identity
from recoflow.settings.list_configuration import Configuration

if TYPE_CHECKING:
    from recoflow.campaigns.requests.model import Request
    from recoflow.models.algorithms.scorer import Scorer
    from recoflow.models.store.bundle import Bundle
    from recoflow.settings.environment import Environment

CHAMPION: Final = 0
POPULAR: Final = 1
NEWEST: Final = 2
TRENDING: Final = 3
FALLBACK: Final = 4  # trending, equal ones by popularity
NAMED: Final = 5  # from here on the bundle's alternatives, by name
_RANKINGS: Final = {"champion": CHAMPION, "popular": POPULAR, "newest": NEWEST, "trending": TRENDING}

Longs = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ListSpec:
    """One distinct combination of configuration and filter cells."""

    configuration: Configuration
    filters: dict[str, list[tuple[str, ...]]]

    @property
    def attributes(self) -> set[str]:
        """The item attributes that it asks about."""
        return {*self.filters, *(query.key for query in self.configuration.queries)}

    @property
    def is_free(self) -> bool:
        """Whether every eligible item meets it."""
        return not self.filters and self.configuration.max_age_days is None


@dataclass(frozen=True)
class Lists:
    """All lists of a request in its order, as arrays of that length.

    Args:
        keys: the subject that each list is for, e.g. `u:some-user`.
        known: int64 [2 × lists], rows of the bundle's subjects: the subject itself, and its device when that stands for
            itself; -1 where the bundle does not know it.
        personal: int64, the row of `known` of which the list's model knows something, else -1; -1 without a model.
        ranking: CHAMPION, POPULAR, NEWEST, TRENDING, FALLBACK, or NAMED + place among the sorted alternatives.
        is_fallback: the list was to be personal, but nothing about its subject can be used.
        size: asked for.
        is_by_score: items stand in the order of their scores.
        wanted: among how many of the best items the list is chosen.
        depth: how many items must be ranked so that `wanted` are left when those of earlier lists are taken out.
        previous: the list before this one of the same subject, -1 for none.
        may_repeat: items of earlier lists of the subject are allowed.
        consumed: int32, the event types (`schema.event_type_bits`) that take an item out of the list.
        minimum: float32, the least score.
        wish: int64, index into `wishes`.
        wishes: the distinct combinations of configuration and filters.
    """

    keys: pl.Series
    known: Longs
    personal: Longs
    ranking: Longs
    is_fallback: Flags
    size: Longs
    is_by_score: Flags
    wanted: Longs
    depth: Longs
    previous: Longs
    may_repeat: Flags
    consumed: npt.NDArray[np.int32]
    minimum: npt.NDArray[np.float32]
    wish: Longs
    wishes: Sequence[ListSpec]

    def __len__(self) -> int:
        """How many lists there are."""
        return len(self.size)

    @property
    def is_personal(self) -> Flags:
        """Lists that a model ranks for their subject, bool [lists]."""
        personal: Flags = (self.ranking == CHAMPION) | (self.ranking >= NAMED)
        return personal


def scorers(bundle: Bundle) -> dict[int, Scorer]:
    """The models of a bundle by their rankings."""
    named = enumerate(sorted(bundle.alternatives), NAMED)
    return {CHAMPION: bundle.scorer} | {ranking: bundle.alternatives[name] for ranking, name in named}


def plan_lists(request: Request, bundle: Bundle, environment: Environment) -> Lists:
    """Decide about every list of `request` what can be decided without scores."""
    rows = request.rows
    keys = identity.subject_of(rows["user_id"], rows["device_id"], bundle.devices)
    devices = rows.select(pl.lit("d:") + pl.col("device_id")).to_series()
    known = np.stack([bundle.rows_of(keys), bundle.rows_of(devices)])
    known[1, known[0] == known[1]] = -1
    wish, wishes = _wishes(request, environment)
    rankings = _rankings(bundle)
    ranking = np.array([rankings[each.configuration.algorithm] for each in wishes], np.int64)[wish]
    personal, is_fallback = _personal(known, ranking, bundle)
    may_repeat = np.array([each.configuration.repeat_items for each in wishes], np.bool_)[wish]
    size = rows["list_size"].to_numpy(writable=True)  # always: another type would compile `fill` once more
    is_diverse = np.array([each.configuration.diversity is not None for each in wishes], np.bool_)[wish]
    wanted = np.where(is_diverse, constraints.candidate_count(size), size)
    previous, earlier = _order(keys, size, may_repeat)
    minimum = [each.configuration.minimum_score for each in wishes]
    floors = np.array([-np.inf if value is None else value for value in minimum], np.float32)
    return Lists(
        keys=keys,
        known=known,
        personal=personal,
        ranking=np.where(is_fallback, FALLBACK, ranking),
        is_fallback=is_fallback,
        size=size,
        is_by_score=~is_diverse,
        wanted=wanted,
        depth=earlier + wanted,
        previous=previous,
        may_repeat=may_repeat,
        consumed=np.array([_consumed(each.configuration, environment) for each in wishes], np.int32)[wish],
        minimum=np.where(is_fallback, np.float32(-np.inf), floors[wish]),  # a minimum is on the champion's scale
        wish=wish,
        wishes=wishes,
    )


def _rankings(bundle: Bundle) -> dict[str, int]:
    """What configurations may call each ranking; the names of algorithms come before those of models."""
    named = {name: ranking for ranking, name in enumerate(sorted(bundle.alternatives), NAMED)}
    return {bundle.manifest["model"]["name"]: CHAMPION} | named | _RANKINGS


def _personal(known: Longs, ranking: Longs, bundle: Bundle) -> tuple[Longs, Flags]:
    """The row of each list that its model knows, -1 for none, and which lists do without what they asked for."""
    personal = np.full(len(ranking), -1, np.int64)
    is_fallback = np.zeros(len(ranking), np.bool_)
    for number, scorer in scorers(bundle).items():
        asked = np.flatnonzero(ranking == number)
        if len(asked):
            personal[asked] = _first_with_factors(known[:, asked], scorer)
            is_fallback[asked] = personal[asked] < 0
    return personal, is_fallback


def _first_with_factors(known: Longs, scorer: Scorer) -> Longs:
    is_known = np.append(scorer.is_known(), np.False_)  # the last one stands for nobody
    first, second = known
    return np.where(is_known[first], first, np.where(is_known[second], second, -1))


def _consumed(configuration: Configuration, environment: Environment) -> int:
    names = environment.events.consumed if configuration.consumed is None else configuration.consumed
    return schema.event_type_bits(names)


def _wishes(request: Request, environment: Environment) -> tuple[Longs, list[ListSpec]]:
    keys = ["configuration_id", "algorithm", *request.filters]
    grouped = request.rows.group_by(keys, maintain_order=True).agg("row")
    number = grouped.select("row", pl.int_range(pl.len()).alias("wish")).explode("row", empty_as_null=False)
    wishes = []
    for configuration_id, algorithm, *cells in grouped.select(keys).iter_rows():
        configuration = environment.campaigns.configurations.get(configuration_id, Configuration())
        if algorithm is not None:  # of an experiment's arm
            configuration = configuration.model_copy(update={"algorithm": algorithm})
        wishes.append(
            ListSpec(configuration, _filters(configuration, list(zip(request.filters.values(), cells, strict=True))))
        )
    return number.sort("row")["wish"].to_numpy(), wishes


def _filters(configuration: Configuration, cells: list[tuple[str, str | None]]) -> dict[str, list[tuple[str, ...]]]:
    filters: dict[str, list[tuple[str, ...]]] = {}
    for attribute, accepted in configuration.filters.items():
        filters.setdefault(attribute, []).append((accepted,) if isinstance(accepted, str) else accepted)
    for attribute, cell in cells:
        if cell is not None:
            filters.setdefault(attribute, []).append(item_filters.values(cell))
    return filters


def _order(keys: pl.Series, size: Longs, may_repeat: Flags) -> tuple[Longs, Longs]:
    """The list before each one of the same subject, and how many items the earlier ones may hold that it must not."""
    previous, earlier = np.full(len(keys), -1, np.int64), np.zeros(len(keys), np.int64)
    if keys.hash().n_unique() < len(keys):  # or every subject has one list, as in most requests: nothing to follow
        several = np.flatnonzero(keys.is_duplicated().to_numpy())
        ordered = pl.DataFrame({"key": keys.gather(several), "row": several, "size": size[several]}).select(
            pl.col("row").shift(1).over("key").fill_null(-1).alias("previous"),
            (pl.col("size").cum_sum().over("key") - pl.col("size")).alias("earlier"),
        )
        previous[several], earlier[several] = ordered["previous"].to_numpy(), ordered["earlier"].to_numpy()
    return previous, np.where(may_repeat, 0, earlier)
