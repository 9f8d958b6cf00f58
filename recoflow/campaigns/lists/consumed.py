"""What subjects consumed of the items that may be recommended, and which of it counts for a list.

What belongs here: the histories of a bundle by list. What does not: leaving these items out (see `ranking.top_k`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from recoflow.campaigns.lists.plan import Longs
    from recoflow.models.store.bundle import Bundle

Indices = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Consumed:
    """The history that each list stands for.

    Args:
        bundle: has what all subjects did, of which only that of the lists at hand is looked at: they may be few.
        places: int32 [items of the bundle], of each among the eligible items, -1 for the others.
        rows: int64 [lists], the subject of each list, -1 for none.
        consumed: int32 [lists], bits of the event types that count for each list.
    """

    bundle: Bundle
    places: Indices
    rows: Longs
    consumed: Indices

    def pairs(self, lists: Longs) -> tuple[Longs, Indices]:
        """(position within `lists`, eligible item) for all that the subjects of these lists consumed."""
        known = np.flatnonzero((self.rows[lists] >= 0) & (self.consumed[lists] != 0))
        rows = self.rows[lists[known]]
        starts = np.asarray(self.bundle.seen_indptr)
        lengths = starts[rows + 1] - starts[rows]
        owners = np.repeat(known, lengths)
        entries = np.arange(len(owners)) + np.repeat(starts[rows + 1] - np.cumsum(lengths), lengths)
        items = self.places[np.asarray(self.bundle.seen_indices)[entries]]
        types = np.asarray(self.bundle.seen_types)[entries]
        counts = (items >= 0) & (types & np.repeat(self.consumed[lists[known]], lengths) != 0)
        return (owners, items) if counts.all() else (owners[counts], items[counts])
