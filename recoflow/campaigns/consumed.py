"""What subjects consumed of the items that may be recommended, and which of it counts for a list.

What belongs here: the histories of a bundle by list. What does not: leaving these items out (see `rank`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from recoflow.campaigns.lists import Longs
    from recoflow.models.bundle import Bundle

Indices = npt.NDArray[np.int32]


@dataclass(frozen=True)
class History:
    """Items by subject, in CSR form: `items[starts[row]:starts[row + 1]]`.

    Args:
        starts: int64 [subjects + 1].
        items: int32, positions among the eligible items.
        types: int32, aligned with `items`: bits of the event types.
    """

    starts: Longs
    items: Indices
    types: Indices

    @classmethod
    def of(cls, bundle: Bundle, eligible: Longs, consumed: int) -> History:
        """What the bundle's subjects did with eligible items, by event types among the bits `consumed`."""
        position = np.full(len(bundle.items), -1, np.int32)
        position[eligible] = np.arange(len(eligible), dtype=np.int32)
        items, types = position[bundle.seen_indices], np.asarray(bundle.seen_types)
        counts = (items >= 0) & (types & consumed != 0)
        if counts.all():
            return cls(np.asarray(bundle.seen_indptr), items, types)
        before = np.concatenate(([0], np.cumsum(counts)))
        return cls(before[bundle.seen_indptr], items[counts], types[counts])


@dataclass(frozen=True)
class Consumed:
    """The history that each list stands for.

    Args:
        history: of all subjects.
        rows: int64 [lists], the subject of each list, -1 for none.
        consumed: int32 [lists], bits of the event types that count for each list.
    """

    history: History
    rows: Longs
    consumed: Indices

    def pairs(self, lists: Longs) -> tuple[Longs, Indices]:
        """(position within `lists`, item) for all that the subjects of these lists consumed."""
        starts, rows = self.history.starts, self.rows[lists]
        lengths = np.where(rows >= 0, starts[rows + 1] - starts[rows], 0)
        owners = np.repeat(np.arange(len(lists)), lengths)
        within = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        entries = starts[rows[owners]] + within
        counts = self.history.types[entries] & self.consumed[lists[owners]] != 0
        return owners[counts], self.history.items[entries[counts]]
