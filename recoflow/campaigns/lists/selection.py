"""The compiled loops that choose a list's items under constraints, with boosted scores, and for diversity.

What belongs here: the rule of `constraints`, item by item. What does not: what its numbers mean, ranking, other lists.

Items come ranked class by class. Within a class all may be taken or none, and a boost keeps their order; so the best
item that may be taken is always the first of a class that no earlier list took.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from recoflow.compute.jit import jit, jit_fastmath

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]
    Integers = NDArray[np.int32]
    Longs = NDArray[np.int64]


class RankedList(NamedTuple):
    """One list's ranked items.

    Attributes:
        items: int32, ranked within the stretch of each class, padded with -1.
        scores: float32, of the model.
        begins: int64 [classes of all recipes], where the stretch of each class begins.
        ends: int64 [classes of all recipes].
        minimum: the least score.
        stamp: int64 [items], `this` for items that the list must not hold.
        this: the list.
    """

    items: Integers
    scores: Floats
    begins: Longs
    ends: Longs
    minimum: float
    stamp: Longs
    this: int


class ListConstraints(NamedTuple):
    """One recipe's rows of `constraints.CompiledConstraints` (same names)."""

    minima: Longs
    maxima: Longs
    within: Longs


class Similarity(NamedTuple):
    """Item factors for cosines.

    Attributes:
        factors: float32 [items × f], those of several models side by side.
        lengths: float64 [models × items], norms of each model's rows.
        columns: int64 [models + 1], the columns of each model.
        model: int64 [lists], whose factors compare the items of a list.
    """

    factors: Floats
    lengths: Doubles
    columns: Longs
    model: Longs


@jit
def _boosted(score: np.float32, multiplier: float) -> float:
    return np.float64(score) * multiplier if score > 0 else np.float64(score) / multiplier


@jit
def _needs(counts: Longs, limits: ListConstraints, among: int) -> tuple[int, int]:
    """The unmet minima among those of the bit set `among`: which they are, and how many items they need together."""
    unmet = 0
    needed = 0
    for number in range(len(counts)):
        if among >> number & 1 and counts[number] < limits.minima[number]:
            unmet |= 1 << number
            needed += limits.minima[number] - counts[number]
    return unmet, needed


@jit
def _may_take(bits: int, free: int, counts: Longs, limits: ListConstraints) -> bool:
    """Whether items that meet these constraints may be taken, with `free` places left; the rule of `constraints`."""
    unmet, needed = _needs(counts, limits, -1)
    if free <= needed and not bits & unmet:
        return False
    for number in range(len(counts)):
        if bits >> number & 1:
            left = limits.maxima[number] - counts[number]
            unmet, needed = _needs(counts, limits, limits.within[number])
            if left <= 0 or (left <= needed and not bits & unmet):
                return False
    return True


@jit
def _count(bits: int, counts: Longs) -> None:
    for number in range(len(counts)):
        counts[number] += bits >> number & 1


@jit
def _skip(ranked: RankedList, head: int, end: int) -> int:
    """The first place from `head` on whose item the list may hold, `end` if there is none."""
    while head < end and ranked.items[head] >= 0 and ranked.stamp[ranked.items[head]] == ranked.this:
        head += 1
    if head < end and (ranked.items[head] < 0 or ranked.scores[head] < ranked.minimum):
        return end
    return head


@jit
def _first(ranked: RankedList, heads: Longs, ends: Longs, multipliers: Doubles, is_open: NDArray[np.bool_]) -> int:
    """The open class whose first item is the best, -1 for none; heads are moved to items that the list may hold."""
    best = -1
    best_value = 0.0
    for each in range(len(heads)):
        if not is_open[each]:
            continue
        heads[each] = _skip(ranked, heads[each], ends[each])
        if heads[each] == ends[each]:
            continue
        value = _boosted(ranked.scores[heads[each]], multipliers[each])
        is_tied = best >= 0 and value == best_value and ranked.items[heads[each]] < ranked.items[heads[best]]
        if best < 0 or value > best_value or is_tied:
            best, best_value = each, value
    return best


@jit
def by_score(  # type: ignore[no-untyped-def]  # noqa: PLR0917 - compiled: no keywords
    ranked, size, recipe, rules, out_items, out_scores
):
    """Choose up to `size` items by score: how many; they are written in the order of their scores."""
    classes = slice(rules.starts[recipe], rules.starts[recipe + 1])
    bits, multipliers = rules.bits[classes], rules.multipliers[classes]
    limits = ListConstraints(rules.minima[recipe], rules.maxima[recipe], rules.within[recipe])
    heads, ends = ranked.begins[classes].copy(), ranked.ends[classes]
    is_open = np.empty(len(bits), np.bool_)
    counts = np.zeros(len(limits.minima), np.int64)
    values = np.empty(size, np.float64)
    count = 0
    while count < size:
        for each in range(len(bits)):
            is_open[each] = _may_take(bits[each], size - count, counts, limits)
        best = _first(ranked, heads, ends, multipliers, is_open)
        if best < 0:
            break
        item = ranked.items[heads[best]]
        value = _boosted(ranked.scores[heads[best]], multipliers[best])
        heads[best] += 1
        _count(bits[best], counts)
        place = count  # an item may come late: places were kept until one met two minima
        while place > 0 and (values[place - 1] < value or (values[place - 1] == value and out_items[place - 1] > item)):
            values[place], out_items[place] = values[place - 1], out_items[place - 1]
            place -= 1
        values[place], out_items[place] = value, item
        count += 1
    out_scores[:count] = values[:count]
    return count


@jit
def _candidates(  # type: ignore[no-untyped-def]  # noqa: PLR0917 - compiled: no keywords
    ranked, size, wanted, begins, ends, kinds, multipliers, places, values, owners
):
    """Write places, boosted scores and classes of what a diverse list is chosen among, best first: how many."""
    heads = begins.copy()
    is_open = np.ones(len(heads), np.bool_)
    of_kind = np.zeros(len(heads), np.int64)
    count = 0
    while True:
        best = _first(ranked, heads, ends, multipliers, is_open)
        if best < 0:
            return count
        if count < wanted or of_kind[kinds[best]] < size:
            places[count] = heads[best]
            values[count] = _boosted(ranked.scores[heads[best]], multipliers[best])
            owners[count] = best
            count += 1
            of_kind[kinds[best]] += 1
            heads[best] += 1
        else:
            is_open[best] = False


@jit_fastmath
def _product(left: Floats, right: Floats) -> float:
    total = 0.0
    for column in range(len(left)):
        total += np.float64(left[column]) * np.float64(right[column])
    return total


@jit
def _compare(chosen: int, items: Integers, similarity: Similarity, this: int, closest: Doubles) -> None:
    """Raise `closest` of all candidates `items` to their similarity with the one at `chosen`."""
    model = similarity.model[this]
    lengths = similarity.lengths[model]
    columns = slice(similarity.columns[model], similarity.columns[model + 1])
    mine = similarity.factors[items[chosen], columns]
    for each in range(len(items)):
        scale = lengths[items[each]] * lengths[items[chosen]]
        cosine = _product(similarity.factors[items[each], columns], mine) / scale if scale > 0.0 else 0.0
        closest[each] = max(closest[each], cosine)


@jit
def _next(  # type: ignore[no-untyped-def]  # noqa: PLR0917 - compiled: no keywords
    weight, items, relevance, closest, owners, is_open, is_free
):
    """The candidate of the greatest marginal relevance among those that are free and of an open class, -1 for none."""
    best = -1
    best_value = 0.0
    for each in range(len(items)):
        if is_free[each] and is_open[owners[each]]:
            value = weight * relevance[each] - (1.0 - weight) * closest[each]
            if best < 0 or value > best_value or (value == best_value and items[each] < items[best]):
                best, best_value = each, value
    return best


@jit
def by_marginal_relevance(  # type: ignore[no-untyped-def]  # noqa: PLR0917 - compiled: no keywords
    ranked, size, wanted, recipe, rules, similarity, out_items, out_scores
):
    """Choose up to `size` items among `wanted` and more by marginal relevance: how many, in the order of the choice."""
    classes = slice(rules.starts[recipe], rules.starts[recipe + 1])
    bits = rules.bits[classes]
    limits = ListConstraints(rules.minima[recipe], rules.maxima[recipe], rules.within[recipe])
    width = len(ranked.items)
    places, values, owners = np.empty(width, np.int64), np.empty(width, np.float64), np.empty(width, np.int64)
    found = _candidates(
        ranked, size, wanted, ranked.begins[classes], ranked.ends[classes], rules.kinds[classes],
        rules.multipliers[classes], places, values, owners,
    )  # fmt: skip
    items, values = ranked.items[places[:found]], values[:found]
    relevance = np.zeros(found)
    if found and values.max() > values.min():
        relevance = (values - values.min()) / (values.max() - values.min())
    counts = np.zeros(len(limits.minima), np.int64)
    closest = np.zeros(found)
    is_open = np.empty(len(bits), np.bool_)
    is_free = np.ones(found, np.bool_)
    count = 0
    while count < size:
        for each in range(len(bits)):
            is_open[each] = _may_take(bits[each], size - count, counts, limits)
        best = _next(rules.diversity[recipe], items, relevance, closest, owners, is_open, is_free)
        if best < 0:
            break
        if count == 0:
            closest[:] = -np.inf
        is_free[best] = False
        out_items[count], out_scores[count] = items[best], values[best]
        _count(bits[owners[best]], counts)
        _compare(best, items, similarity, ranked.this, closest)
        count += 1
    return count
