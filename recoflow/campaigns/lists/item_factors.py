"""What each ranking orders the items by that may be recommended: factors, whose products with users' are scores.

What belongs here: these factors, and their index. What does not: users (see `rank_blocks`), how an index is made and
searched (see `ranking.top_k`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from recoflow.campaigns.lists import plan
from recoflow.campaigns.lists.plan import CHAMPION, FALLBACK, NEWEST, POPULAR, TRENDING
from recoflow.ranking import top_k

if TYPE_CHECKING:
    import numpy.typing as npt

    from recoflow.campaigns.lists.plan import Longs
    from recoflow.models.store.bundle import Bundle

    Scores = npt.NDArray[np.float32]


class ItemFactors:
    """The factors of some items of a bundle.

    Attributes:
        eligible: int64, the rows of `bundle.items` that they are; items are counted in this order from here on.
        scorers: the models of the bundle by their rankings.
    """

    def __init__(self, bundle: Bundle, eligible: Longs) -> None:
        self.eligible = eligible
        self._bundle = bundle
        self.scorers = plan.scorers(bundle)
        self._indices: dict[int, top_k.ItemIndex] = {}

    def of(self, ranking: int) -> Scores:
        """Float32 [items × f]: those of a model, or one number that orders the items."""
        if ranking in self.scorers:
            return self.scorers[ranking].item_factors[self.eligible]
        popular, trending = self._bundle.popular[self.eligible], self._bundle.trending[self.eligible]
        return {
            POPULAR: lambda: popular[:, None],
            TRENDING: lambda: trending[:, None],
            NEWEST: lambda: _recency(self._bundle.items["published_at"].gather(self.eligible)),
            FALLBACK: lambda: _order(trending, popular),
        }[ranking]()

    def index(self, ranking: int) -> top_k.ItemIndex:
        """The index of these factors, made when it is first asked for.

        Raises:
            ModelError: the factors cannot be ranked with.
        """
        if ranking not in self._indices:
            scorer = self.scorers.get(ranking)
            users = None if scorer is None else scorer.user_factors
            self._indices[ranking] = top_k.prepare(np.asarray(self.of(ranking), np.float32), users)
        return self._indices[ranking]

    def get_ready(self) -> None:
        """Do what the first personal list would wait for: load compiled code, and make the index of its model."""
        scorer = self.scorers[CHAMPION]
        if scorer.similarity is None:
            top_k.top_k(scorer.user_factors[:1], self.index(CHAMPION), 1)


def _recency(published: pl.Series) -> Scores:
    """1, 2, … in the order of publication, equal dates alike; 0 where there is no date."""
    return published.rank("dense").fill_null(0).cast(pl.Float32).to_numpy()[:, None]


def _order(first: Scores, then: Scores) -> Scores:
    """1, 2, … in the order of the first number, equal ones by the other, equal pairs alike."""
    order = np.lexsort((then, first))
    is_next = (np.diff(first[order], prepend=np.nan) != 0) | (np.diff(then[order], prepend=np.nan) != 0)
    place = np.empty((len(order), 1), np.float32)
    place[order, 0] = np.cumsum(is_next)
    return place
