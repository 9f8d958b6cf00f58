"""The compiled loop that turns ranked items into lists: no item twice among the lists of one subject.

What belongs here: that one loop. What does not: ranking (see `ranking.top_k`), the meaning of the arrays (see `plan`).
"""

from __future__ import annotations

import numpy as np

from recoflow.campaigns.lists import selection
from recoflow.compute.jit import jit


@jit
def _best(  # type: ignore[no-untyped-def]  # noqa: PLR0917 - compiled: no keywords
    items, scores, size, minimum, stamp, this, out_items, out_scores
):
    """The best items of a list whose configuration asks for no more than that."""
    count = 0
    for place in range(len(items)):
        item = items[place]
        if item < 0 or scores[place] < minimum or count == size:
            break
        if stamp[item] == this:
            continue
        out_items[count] = item
        out_scores[count] = scores[place]
        count += 1
    return count


@jit
def fill_block(  # type: ignore[no-untyped-def]  # noqa: PLR0917 - compiled: no keywords
    first, items, scores, begins, ends, size, minimum, previous, may_repeat, recipe, wanted, rules, similarity,
    offset, filled, taken, stamp, out_items, out_scores
):  # fmt: skip
    """Fill one block of lists, in the order of the request.

    Args:
        first: index of the block's first list among all lists of the request.
        items: int32 [block × depth], ranked, padded with -1; for lists with a recipe each class for itself.
        scores: float32 [block × depth], of the model.
        begins: int64 [classes of all recipes], the first column of each class in this block.
        ends: int64 [classes of all recipes].
        size: int64 [lists], asked for.
        minimum: float32 [lists], the least score.
        previous: int64 [lists], the list before of the same subject, -1 for none.
        may_repeat: bool [lists].
        recipe: int64 [lists], -1 for none.
        wanted: int64 [lists], among how many of the best items a list is chosen.
        rules: of the recipes (see `constraints`).
        similarity: of items (see `selection`).
        offset: int64 [lists], where a list is kept in `taken`; -1: no later list asks for it.
        filled: int64 [lists], written: how many items each list got.
        taken: int32, the items of the lists that are kept.
        stamp: int64 [items], scratch; all -1 before the first block.
        out_items: int32, written: the items of the block's lists, one list behind the other.
        out_scores: float32, written.

    Returns:
        How many items the block's lists got together.
    """
    total = 0
    for row in range(len(items)):
        this = first + row
        if not may_repeat[this]:
            earlier = previous[this]
            while earlier >= 0:
                for place in range(offset[earlier], offset[earlier] + filled[earlier]):
                    stamp[taken[place]] = this
                earlier = previous[earlier]
        mine, mine_scores = out_items[total:], out_scores[total:]
        if recipe[this] < 0:
            count = _best(items[row], scores[row], size[this], minimum[this], stamp, this, mine, mine_scores)
        else:
            ranked = selection.RankedList(items[row], scores[row], begins, ends, minimum[this], stamp, this)
            if np.isnan(rules.diversity[recipe[this]]):
                count = selection.by_score(ranked, size[this], recipe[this], rules, mine, mine_scores)
            else:
                count = selection.by_marginal_relevance(
                    ranked, size[this], wanted[this], recipe[this], rules, similarity, mine, mine_scores
                )
        if offset[this] >= 0:
            taken[offset[this] : offset[this] + count] = out_items[total : total + count]
        filled[this] = count
        total += count
    return total
