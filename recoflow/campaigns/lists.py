"""The lists of a request as arrays: whom each is for, how it is ranked, what it must not hold.

What belongs here: all that is decided about a list before any item is scored. What does not: scores (see `ranking`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from recoflow.campaigns import rules
from recoflow.configuration import Configuration
from recoflow.interactions import identity

if TYPE_CHECKING:
    from recoflow.campaigns.request import Request
    from recoflow.environment import Environment
    from recoflow.models.bundle import Bundle

CHAMPION: Final = 0
POPULAR: Final = 1
NEWEST: Final = 2
_RANKINGS: Final = {"popular": POPULAR, "newest": NEWEST}

Longs = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Wish:
    """One distinct combination of configuration and filter cells."""

    configuration: Configuration
    filters: dict[str, list[tuple[str, ...]]]

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
        personal: int64, the row of `known` that has factors, else -1.
        ranking: CHAMPION, POPULAR or NEWEST.
        is_fallback: the list was to be personal, but nothing about its subject can be used.
        size: asked for.
        depth: how many items must be ranked so that `size` are left when those of earlier lists are taken out.
        previous: the list before this one of the same subject, -1 for none.
        may_repeat: items of earlier lists of the subject are allowed.
        keeps_consumed: consumed items are allowed.
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
    depth: Longs
    previous: Longs
    may_repeat: Flags
    keeps_consumed: Flags
    minimum: npt.NDArray[np.float32]
    wish: Longs
    wishes: Sequence[Wish]

    def __len__(self) -> int:
        """How many lists there are."""
        return len(self.size)


def plan(request: Request, bundle: Bundle, environment: Environment) -> Lists:
    """Decide about every list of `request` what can be decided without scores."""
    rows = request.rows
    keys = identity.subject_of(rows["user_id"], rows["device_id"], bundle.devices)
    devices = rows.select(pl.lit("d:") + pl.col("device_id")).to_series()
    known = np.stack([_positions(keys, bundle), _positions(devices, bundle)])
    known[1, known[0] == known[1]] = -1
    personal = _first_with_factors(known, bundle)
    wish, wishes = _wishes(request, environment)
    algorithms = np.array([_RANKINGS.get(each.configuration.algorithm, CHAMPION) for each in wishes], np.int64)
    ranking = algorithms[wish]
    is_fallback = (ranking == CHAMPION) & (personal < 0)
    may_repeat = np.array([each.configuration.repeat_items for each in wishes], np.bool_)[wish]
    size = rows["list_size"].to_numpy()
    previous, depth = _order(keys, size, may_repeat)
    minimum = [each.configuration.minimum_score for each in wishes]
    floors = np.array([-np.inf if value is None else value for value in minimum], np.float32)
    return Lists(
        keys=keys,
        known=known,
        personal=personal,
        ranking=np.where(is_fallback, POPULAR, ranking),
        is_fallback=is_fallback,
        size=size,
        depth=depth,
        previous=previous,
        may_repeat=may_repeat,
        keeps_consumed=np.array([each.configuration.consumed == () for each in wishes], np.bool_)[wish],
        minimum=np.where(is_fallback, np.float32(-np.inf), floors[wish]),  # a minimum is on the champion's scale
        wish=wish,
        wishes=wishes,
    )


def _positions(keys: pl.Series, bundle: Bundle) -> Longs:
    known = pl.DataFrame({"key": bundle.subjects, "position": np.arange(len(bundle.subjects))})
    found = pl.DataFrame({"key": keys}).join(known, on="key", how="left", maintain_order="left")
    return found["position"].fill_null(-1).to_numpy().astype(np.int64)


def _first_with_factors(known: Longs, bundle: Bundle) -> Longs:
    has_factors = np.zeros(len(bundle.subjects) + 1, np.bool_)  # the last one stands for "unknown"
    has_factors[:-1] = bundle.user_factors.any(axis=1)
    if bundle.history is not None:
        has_factors[:-1] |= np.diff(bundle.history.indptr) > 0
    first, second = known
    return np.where(has_factors[first], first, np.where(has_factors[second], second, -1))


def _wishes(request: Request, environment: Environment) -> tuple[Longs, list[Wish]]:
    keys = ["configuration_id", *request.filters]
    grouped = request.rows.group_by(keys, maintain_order=True).agg("row")
    number = grouped.select("row", pl.int_range(pl.len()).alias("wish")).explode("row", empty_as_null=False)
    wishes = []
    for configuration_id, *cells in grouped.select(keys).iter_rows():
        configuration = environment.campaigns.configurations.get(configuration_id, Configuration())
        wishes.append(
            Wish(configuration, _filters(configuration, list(zip(request.filters.values(), cells, strict=True))))
        )
    return number.sort("row")["wish"].to_numpy(), wishes


def _filters(configuration: Configuration, cells: list[tuple[str, str | None]]) -> dict[str, list[tuple[str, ...]]]:
    filters: dict[str, list[tuple[str, ...]]] = {}
    for attribute, accepted in configuration.filters.items():
        filters.setdefault(attribute, []).append((accepted,) if isinstance(accepted, str) else accepted)
    for attribute, cell in cells:
        if cell is not None:
            filters.setdefault(attribute, []).append(rules.values(cell))
    return filters


def _order(keys: pl.Series, size: Longs, may_repeat: Flags) -> tuple[Longs, Longs]:
    of_subject = pl.DataFrame({"key": keys, "size": size}).with_row_index("row")
    ordered = of_subject.select(
        pl.col("row").cast(pl.Int64).shift(1).over("key").fill_null(-1).alias("previous"),
        pl.col("size").cum_sum().over("key").alias("depth"),
    )
    return ordered["previous"].to_numpy(), np.where(may_repeat, size, ordered["depth"].to_numpy())
