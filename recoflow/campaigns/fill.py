"""The compiled loop that turns ranked items into lists: no item twice among the lists of one subject.

What belongs here: that one loop. What does not: ranking (see `rank`), the meaning of the arrays (see `lists`).
"""

from __future__ import annotations

from recoflow.compiled import compiled


@compiled
def fill(  # type: ignore[no-untyped-def]  # noqa: PLR0917 - compiled: no keywords
    first, items, scores, size, minimum, previous, may_repeat, offset, filled, taken, stamp, out_items, out_scores
):
    """Fill one block of lists, in the order of the request.

    Args:
        first: index of the block's first list among all lists of the request.
        items: int32 [block × depth], ranked, padded with -1.
        scores: float32 [block × depth].
        size: int64 [lists], asked for.
        minimum: float32 [lists], the least score.
        previous: int64 [lists], the list before of the same subject, -1 for none.
        may_repeat: bool [lists].
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
        count = 0
        for place in range(items.shape[1]):
            item = items[row, place]
            if item < 0 or scores[row, place] < minimum[this] or count == size[this]:
                break
            if stamp[item] == this:
                continue
            out_items[total + count] = item
            out_scores[total + count] = scores[row, place]
            count += 1
        if offset[this] >= 0:
            taken[offset[this] : offset[this] + count] = out_items[total : total + count]
        filled[this] = count
        total += count
    return total
