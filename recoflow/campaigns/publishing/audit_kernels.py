"""The compiled loop of the audit: who got what they had consumed.

What belongs here: that one loop. What does not: what it is told (see `audit`), the ranking core, whose exclusion of
consumed items it is to doubt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from recoflow.compute.jit import jit

if TYPE_CHECKING:
    import numpy.typing as npt

    from recoflow.campaigns.publishing.audit_part import Flags, Longs

    Integers = npt.NDArray[np.int32]


class Histories(NamedTuple):
    """What everybody did: `seen_indptr`, `seen_indices` and `seen_types` of a bundle, read-only."""

    starts: Longs
    items: Integers
    types: Integers


@jit
def has_consumed(  # noqa: PLR0917 - compiled: no keywords
    rows: Longs, keys: Longs, width: int, subjects: Longs, consumed: Integers, histories: Histories
) -> Flags:
    """Which of the `rows` hold an item that their subject consumed.

    Args:
        rows: int64, of the request.
        keys: int64, row × width + item of all recommendations, ascending.
        width: more than any item.
        subjects: int64 [rows of the request], -1 for nobody.
        consumed: int32 [rows of the request], bits of the event types that count.
        histories: of the subjects.
    """
    found = np.zeros(len(rows), np.bool_)
    for place in range(len(rows)):
        row = rows[place]
        subject = subjects[row]
        if subject < 0:
            continue
        given = keys[np.searchsorted(keys, row * width) : np.searchsorted(keys, (row + 1) * width)]
        for entry in range(histories.starts[subject], histories.starts[subject + 1]):
            if histories.types[entry] & consumed[row]:
                key = row * width + histories.items[entry]
                at = np.searchsorted(given, key)
                found[place] |= at < len(given) and given[at] == key
    return found
