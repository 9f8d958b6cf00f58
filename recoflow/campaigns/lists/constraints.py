"""What configurations ask of whole lists, compiled over the items: constraints, boosts and buries, diversity.

What belongs here: classes of items that a choice treats alike, and the numbers that it goes by. What does not: scores
(see `rank_blocks`), the choice itself (see `selection`).

**Boosts.** A score s becomes s · m where it is above 0 and s / m where it is below; m is the product of the boosts that
the item meets over that of the buries. A configuration's minimum is one of s itself: a boost lifts no item over it.

**Constraints.** A list of N places is chosen step by step: always the best item that may be taken, by score (larger
first, then by item index) or by marginal relevance, until none may. The list is a limit of N places, under which all
items fall; each `max` is a limit of so many places, under which the items fall that meet its query. An unmet `min`
needs as many items as it lacks, within each limit under which all recommendable items fall that meet it (at least one;
within the list in any case). An item may be taken if for each limit that it falls under a place is free there, and
either it meets an unmet `min` that is needed there, or more places are free there than the unmet ones need together.
So no maximum is ever exceeded; places that a minimum needs stay empty where nothing can meet it; an item may meet two
minima, but until it is taken both have their own places kept. The chosen items then stand in the order of their scores.

**Diversity.** The next item is the one with the greatest λ · relevance − (1 − λ) · similarity, ties by item index,
among the best `candidates` that qualify and the best N of each set of items that meet the same constraints. Relevance
is the score, scaled so that the candidates lie between 0 and 1 (0 where all are equal). Similarity is the greatest
cosine of item factors to an item chosen before: 0 for the first item, and for items whose factors are all 0. The items
stand in the order of the choice. Source: Carbonell and Goldstein, The use of MMR, SIGIR 1998.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from recoflow.campaigns.lists.item_filters import ItemRules
    from recoflow.settings.list_configuration import Configuration

UNLIMITED: Final = 1 << 62
MIN_CANDIDATES: Final = 100

Longs = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class CompiledConstraints(NamedTuple):
    """All recipes for compiled loops; a class is a stretch of `bits`, `kinds` and `multipliers`.

    Attributes:
        starts: int64 [recipes + 1], the classes of each recipe.
        bits: int64 [classes], bit c: the items meet constraint c.
        kinds: int64 [classes], numbers 0, 1, … of the different `bits` of one recipe.
        multipliers: float64 [classes], m of the module's docstring.
        minima: int64 [recipes × constraints], 0 where there is none.
        maxima: int64 [recipes × constraints], UNLIMITED where there is none.
        within: int64 [recipes × constraints], bit c: the minimum of c is needed within the maximum of this one.
        diversity: float64 [recipes], λ; NaN where lists are chosen by score.
    """

    starts: Longs
    bits: Longs
    kinds: Longs
    multipliers: Doubles
    minima: Longs
    maxima: Longs
    within: Longs
    diversity: Doubles


@dataclass(frozen=True)
class ItemClass:
    """Items that are ranked together.

    Args:
        size: how many items there are.
        most: how many of them a list may hold.
        number: of the class.
        class_of: int64 [items], the class of each item; None: the part is all items.
    """

    size: int
    most: int
    number: int = 0
    class_of: Longs | None = None

    @property
    def mask(self) -> Flags | None:
        """bool [items], None for all."""
        return None if self.class_of is None else self.class_of == self.number

    def depth(self, wanted: Longs, earlier: Longs) -> Longs:
        """How many items must be ranked for lists that choose among `wanted` after `earlier` ones are taken out."""
        return np.minimum(np.minimum(wanted, self.most) + earlier, self.size)


@dataclass(frozen=True)
class Recipes:
    """The recipes of a request.

    Args:
        of_wish: int64 [wishes], -1 for lists that are the best items in the order of their scores.
        parts: of each recipe, in the order of its classes in `rules`; the last entry is that of lists without one.
        rules: for the compiled loops.
        constraints: of each recipe, as JSON values.
    """

    of_wish: Longs
    parts: Sequence[Sequence[ItemClass]]
    rules: CompiledConstraints
    constraints: list[list[dict[str, Any]]]


def candidate_count(size: Longs) -> Longs:
    """Among how many of the best items a diverse list of this size is chosen."""
    return np.maximum(MIN_CANDIDATES, 10 * size)


def is_plain(configuration: Configuration) -> bool:
    """Whether its lists are the best items in the order of their scores."""
    return not configuration.queries and configuration.diversity is None


def compile_all(configurations: Sequence[Configuration], item_rules: ItemRules) -> Recipes:
    """The recipes of these configurations (one for each wish) over the items of `item_rules`."""
    keys = [(each.constraints, each.boosts, each.buries, each.diversity) for each in configurations]
    number: dict[object, int] = {}
    compiled: list[_Recipe] = []
    constraints = []
    for key, configuration in zip(keys, configurations, strict=True):
        if key not in number and is_plain(configuration):
            number[key] = -1
        elif key not in number:
            number[key] = len(compiled)
            compiled.append(_Recipe.of(configuration, item_rules))
            constraints.append([each.model_dump(mode="json") for each in configuration.constraints])
    everything = ItemClass(size=item_rules.size, most=UNLIMITED)
    return Recipes(
        of_wish=np.array([number[key] for key in keys], np.int64),
        parts=[*(recipe.parts for recipe in compiled), [everything]],
        rules=_rules(compiled),
        constraints=constraints,
    )


@dataclass(frozen=True)
class _Recipe:
    """One configuration's part of `Rules`."""

    bits: Longs
    multipliers: Doubles
    minima: Longs
    maxima: Longs
    within: Longs
    diversity: float
    parts: Sequence[ItemClass]

    @classmethod
    def of(cls, configuration: Configuration, item_rules: ItemRules) -> _Recipe:
        limits = [constraint.limit for constraint in configuration.constraints]
        met = _bits([item_rules.meets(each.query) for each in configuration.constraints], item_rules.size)
        multipliers = np.ones(item_rules.size)
        for boost in configuration.boosts:
            multipliers[item_rules.meets(boost.query)] *= boost.factor
        for bury in configuration.buries:
            multipliers[item_rules.meets(bury.query)] /= bury.factor
        pairs, class_of = np.unique(np.stack([met.astype(np.float64), multipliers]), axis=1, return_inverse=True)
        bits = pairs[0].astype(np.int64)
        maxima = np.array([UNLIMITED if limit.max is None else limit.max for limit in limits], np.int64)
        sizes = np.bincount(class_of, minlength=len(bits))
        is_diverse = configuration.diversity is not None
        return cls(
            bits=bits,
            multipliers=pairs[1],
            minima=np.array([limit.min for limit in limits], np.int64),
            maxima=maxima,
            within=_within(bits, len(limits)),
            diversity=np.nan if configuration.diversity is None else configuration.diversity,
            parts=[
                ItemClass(int(size), UNLIMITED if is_diverse else _most(int(each), maxima), number, class_of)
                for number, (size, each) in enumerate(zip(sizes, bits, strict=True))
            ],
        )


def _bits(masks: Sequence[Flags], size: int) -> Longs:
    met = np.zeros(size, np.int64)
    for number, mask in enumerate(masks):
        met |= mask.astype(np.int64) << number
    return met


def _most(bits: int, maxima: Longs) -> int:
    return min((int(most) for number, most in enumerate(maxima) if bits >> number & 1), default=UNLIMITED)


def _within(bits: Longs, constraints: int) -> Longs:
    """For each constraint, which others' items all meet it; `bits` are those of all items."""
    within = np.zeros(constraints, np.int64)
    for inner in range(constraints):
        meeting = bits[bits >> inner & 1 == 1]
        shared = int(np.bitwise_and.reduce(meeting)) if len(meeting) else 0
        for outer in range(constraints):
            within[outer] |= (shared >> outer & 1) << inner
    return within


def _rules(recipes: Sequence[_Recipe]) -> CompiledConstraints:
    width = max((len(recipe.minima) for recipe in recipes), default=0)

    def table(rows: list[Longs], filler: int) -> Longs:
        padded = [np.pad(row, (0, width - len(row)), constant_values=filler) for row in rows]
        return np.array(padded, np.int64).reshape(len(rows), width)

    return CompiledConstraints(
        starts=np.concatenate(([0], np.cumsum([len(recipe.bits) for recipe in recipes]))).astype(np.int64),
        bits=np.concatenate([np.empty(0, np.int64), *(recipe.bits for recipe in recipes)]),
        kinds=np.concatenate([np.empty(0, np.int64), *(np.unique(r.bits, return_inverse=True)[1] for r in recipes)]),
        multipliers=np.concatenate([np.empty(0), *(recipe.multipliers for recipe in recipes)]),
        minima=table([recipe.minima for recipe in recipes], 0),
        maxima=table([recipe.maxima for recipe in recipes], UNLIMITED),
        within=table([recipe.within for recipe in recipes], 0),
        diversity=np.array([recipe.diversity for recipe in recipes], np.float64),
    )
