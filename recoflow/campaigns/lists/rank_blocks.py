"""Ranking of blocks of lists by whatever their configurations ask for, over the items that may be recommended.

What belongs here: which factors, consumed items and masks each list is ranked with. What does not: the scoring core
(see `ranking.top_k`), whose history counts how (see `consumed`), lists of one subject taken together (see `fill`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from recoflow.campaigns.lists import constraints, item_filters
from recoflow.campaigns.lists import plan as planning
from recoflow.campaigns.lists.consumed import Consumed
from recoflow.campaigns.lists.item_factors import ItemFactors
from recoflow.campaigns.lists.plan import Flags, Lists, Longs
from recoflow.ranking import top_k

if TYPE_CHECKING:
    from recoflow.campaigns.lists.constraints import ItemClass
    from recoflow.models.algorithms.scorer import Scorer
    from recoflow.models.store.bundle import Bundle

SCALES: Final = 64  # more than there are powers of two among the depths of lists
DENSE_SCORES: Final = 1 << 25  # of scores that are held at once by models that are not products of factors

Indices = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BlockLimits:
    """How much of a request is ranked and staged at once."""

    lists: int = 1 << 15  # few enough that what is made of them stays in the processor's cache
    items: int = 1 << 20
    mask_bytes: int = 1 << 26  # of masks that are expanded at once


BLOCK_LIMITS: Final = BlockLimits()


@dataclass(frozen=True)
class RankedBlock:
    """Ranked items of a block of lists.

    Args:
        items: int32 [lists × deepest of them], padded with -1; for lists with a recipe each class for itself.
        scores: float32, of the model, padded with minus infinity.
        begins: int64 [classes of all recipes], the first column of each class.
        ends: int64 [classes of all recipes].
    """

    items: Indices
    scores: Scores
    begins: Longs
    ends: Longs

    @classmethod
    def empty(cls, lists: int, width: int, classes: int) -> RankedBlock:
        """No item for any list."""
        nothing = np.full((lists, width), -1, np.int32), np.full((lists, width), -np.inf, np.float32)
        return cls(*nothing, np.zeros(classes, np.int64), np.zeros(classes, np.int64))


class Ranking:
    """Ranks lists of one request with one bundle.

    Attributes:
        recipes: what their configurations ask of whole lists.
        recipe: int64 [lists], the recipe of each, -1 for none.

    Args:
        bundle: the model.
        lists: of the request.
        item_factors: of the items that may be recommended; items are counted in their order from here on.
        item_rules: over the eligible items.
        as_of: the moment that item age is counted from.
        threads: of the scoring core.
        limits: of the masks; who asks for blocks decides on their size.
    """

    def __init__(
        self,
        bundle: Bundle,
        lists: Lists,
        *,
        item_factors: ItemFactors,
        item_rules: item_filters.ItemRules,
        as_of: datetime,
        threads: int | None,
        limits: BlockLimits = BLOCK_LIMITS,
    ) -> None:
        self._bundle = bundle
        self._lists = lists
        self._items = item_factors
        self._eligible = item_factors.eligible
        self._rules = item_rules
        self._as_of = as_of
        self._threads = threads
        self._limits = limits
        self.recipes = constraints.compile_all([wish.configuration for wish in lists.wishes], item_rules)
        self.recipe = self.recipes.of_wish[lists.wish]
        self._scorers = item_factors.scorers
        places = np.full(len(bundle.items), -1, np.int32)
        places[self._eligible] = np.arange(len(self._eligible), dtype=np.int32)
        self._consumed = [Consumed(bundle, places, known, lists.consumed) for known in lists.known]

    @property
    def cells(self) -> Longs:
        """int64 [lists], how many ranked items each list is filled from."""
        cells = np.zeros(len(self._lists), np.int64)
        for recipe in np.unique(self.recipe):
            mine = np.flatnonzero(self.recipe == recipe)
            for part in self.recipes.parts[recipe]:
                cells[mine] += self._depth(part, mine)
        return cells

    def block(self, lists: Longs) -> RankedBlock:
        """Ranked items of these lists, those of one recipe class by class."""
        mine = {recipe: np.flatnonzero(self.recipe[lists] == recipe) for recipe in np.unique(self.recipe[lists])}
        depths = {r: [self._depth(part, lists[rows]) for part in self.recipes.parts[r]] for r, rows in mine.items()}
        width = max((sum(int(depth.max()) for depth in each) for each in depths.values()), default=0)
        ranked = RankedBlock.empty(len(lists), max(1, width), len(self.recipes.rules.bits))
        for recipe, rows in mine.items():
            column = 0
            for number, (part, depth) in enumerate(zip(self.recipes.parts[recipe], depths[recipe], strict=True)):
                end = column + int(depth.max())
                if recipe >= 0:
                    each = self.recipes.rules.starts[recipe] + number
                    ranked.begins[each], ranked.ends[each] = column, end
                found = self._part(lists[rows], depth, part)
                ranked.items[rows, column:end], ranked.scores[rows, column:end] = found
                column = end
        return ranked

    def _depth(self, part: ItemClass, lists: Longs) -> Longs:
        wanted = self._lists.wanted[lists]
        return part.depth(wanted, self._lists.depth[lists] - wanted)

    def _part(self, lists: Longs, depth: Longs, part: ItemClass) -> tuple[Indices, Scores]:
        items = np.full((len(lists), int(depth.max())), -1, np.int32)
        scores = np.full(items.shape, -np.inf, np.float32)
        scale = np.ceil(np.log2(np.maximum(depth, 1))).astype(np.int64)  # lists of like depth are ranked together
        kinds = self._lists.ranking[lists] * SCALES + scale
        for kind in np.unique(kinds):
            chosen = np.flatnonzero(kinds == kind)
            k = int(depth[chosen].max())
            if k:
                items[chosen, :k], scores[chosen, :k] = self._rank(int(kind) // SCALES, lists[chosen], k, part.mask)
        return items, scores

    def _rank(self, ranking: int, lists: Longs, k: int, part: Flags | None) -> tuple[Indices, Scores]:
        is_alike = self._is_like_any_other(ranking, lists)
        _, first, inverse = np.unique(
            np.where(is_alike, self._lists.wish[lists], len(self._lists.wishes) + np.arange(len(lists))),
            return_index=True,
            return_inverse=True,
        )
        distinct = lists[first]
        items = np.empty((len(distinct), k), np.int32)
        scores = np.empty((len(distinct), k), np.float32)
        for some, masks, mask_of in self._masked(distinct, part):
            items[some], scores[some] = self._top(ranking, distinct[some], k, masks, mask_of)
        return items[inverse], scores[inverse]

    def _is_like_any_other(self, ranking: int, lists: Longs) -> Flags:
        """Lists that only their wish tells apart: no personal scores, nothing consumed."""
        if ranking in self._scorers:
            return np.zeros(len(lists), np.bool_)
        has_history = np.any([source.rows[lists] >= 0 for source in self._consumed], axis=0)
        alike: Flags = ~has_history | (self._lists.consumed[lists] == 0)
        return alike

    def _masked(self, lists: Longs, part: Flags | None) -> Iterator[tuple[Longs, Flags, Indices]]:
        """Stretches of `lists` by wish, so few at once that their masks fit into the limit."""
        order = np.argsort(self._lists.wish[lists], kind="stable")
        wishes, starts = np.unique(self._lists.wish[lists][order], return_index=True)
        step = max(1, self._limits.mask_bytes // max(1, len(self._eligible)))
        for begin in range(0, len(wishes), step):
            end = starts[begin + step] if begin + step < len(wishes) else len(order)
            some = order[starts[begin] : end]
            masks, number = self._masks(wishes[begin : begin + step], part)
            yield some, masks, number[np.searchsorted(wishes[begin : begin + step], self._lists.wish[lists[some]])]

    def _masks(self, wishes: Longs, part: Flags | None) -> tuple[Flags, Indices]:
        """Masks [constrained wishes × items], and for each wish the number of its mask, -1 for none."""
        number = np.full(len(wishes), -1, np.int32)
        masks: list[Flags] = []
        for place, wish in enumerate(self._lists.wishes[each] for each in wishes):
            if wish.is_free and part is None:
                continue
            number[place] = len(masks)
            mask = self._rules.mask(wish.filters, wish.configuration.max_age_days, self._as_of)
            masks.append(mask if part is None else mask & part)
        return np.array(masks, np.bool_).reshape(len(masks), len(self._eligible)), number

    def _top(self, ranking: int, lists: Longs, k: int, masks: Flags, mask_of: Indices) -> tuple[Indices, Scores]:
        scorer = self._scorers.get(ranking)
        if scorer is not None and scorer.similarity is not None:
            return self._top_dense(scorer, lists, k, masks, mask_of)
        starts, seen = self._seen(lists)
        users = _ones(len(lists)) if scorer is None else scorer.user_factors[self._lists.personal[lists]]
        return top_k.top_k(
            users,
            self._items.index(ranking),
            k,
            seen_indptr=starts,
            seen_indices=seen,
            masks=masks,
            mask_of=mask_of,
            threads=self._threads,
        )

    def _seen(self, lists: Longs) -> tuple[Longs, Indices]:
        """What the lists must not hold, as CSR; an item may stand there more than once."""
        (owners, items), *others = (source.pairs(lists) for source in self._consumed)
        if any(len(more) for more, _ in others):
            owners = np.concatenate([owners, *(more for more, _ in others)])
            order = np.argsort(owners, kind="stable")  # merges runs that are sorted already: one for each source
            owners, items = owners[order], np.concatenate([items, *(more for _, more in others)])[order]
        starts = np.concatenate(([0], np.cumsum(np.bincount(owners, minlength=len(lists)))))
        return starts, items

    def similarity(self) -> tuple[Scores, Doubles, Longs, Longs]:
        """What diverse lists compare items by (see `selection.Similarity`): the factors of the model that ranks them.

        Lists that no model ranks (popular, trending, newest, fallback) go by the champion's.
        """
        comparing = np.where(np.isin(self._lists.ranking, list(self._scorers)), self._lists.ranking, planning.CHAMPION)
        used, model = np.unique(comparing[~self._lists.is_by_score], return_inverse=True)
        models = np.zeros(len(self._lists), np.int64)
        models[~self._lists.is_by_score] = model
        parts = [self._items.of(each) for each in used.tolist()]
        nothing = np.zeros((len(self._eligible), 0), np.float32)
        lengths = [np.sqrt(np.einsum("ij,ij->i", part, part, dtype=np.float64)) for part in parts]
        return (
            np.ascontiguousarray(np.hstack([nothing, *parts]), np.float32),
            np.array(lengths, np.float64).reshape(len(parts), len(self._eligible)),
            np.cumsum([0, *(part.shape[1] for part in parts)]),
            models,
        )

    def _top_dense(
        self, scorer: Scorer, lists: Longs, k: int, masks: Flags, mask_of: Indices
    ) -> tuple[Indices, Scores]:
        """The same answer for models with a similarity matrix, whose scores are no product of factors."""
        from recoflow.models.algorithms import kernels  # noqa: PLC0415 - imports numba

        starts, seen = self._seen(lists)
        owners = np.repeat(np.arange(len(lists)), np.diff(starts))
        nothing = np.zeros_like(starts)  # what is consumed is taken out of the scores instead: it may stand there twice
        items = np.full((len(lists), k), -1, np.int32)
        best = np.full((len(lists), k), -np.inf, np.float32)
        step = max(1, DENSE_SCORES // len(self._bundle.items))
        for begin in range(0, len(lists), step):
            block = np.arange(begin, min(begin + step, len(lists)))
            scores = np.ascontiguousarray(scorer.score(self._lists.personal[lists[block]])[:, self._eligible])
            masked = np.flatnonzero(mask_of[block] >= 0)
            scores[masked] = np.where(masks[mask_of[block[masked]]], scores[masked], -np.inf)
            begins, ends = starts[block[0]], starts[block[-1] + 1]
            scores[owners[begins:ends] - block[0], seen[begins:ends]] = -np.inf
            kernels.top_k(scores, block, nothing, seen, items[block[0] : block[-1] + 1])
            best[block] = np.where(items[block] >= 0, np.take_along_axis(scores, items[block], axis=1), -np.inf)
        return items, best


def _ones(count: int) -> Scores:
    return np.ones((count, 1), np.float32)


def list_blocks(cells: Longs, rows: int, most: int) -> Iterator[Longs]:
    """Cut lists that are filled from `cells` ranked items each into stretches of `rows` lists or about `most` cells."""
    begin = 0
    while begin < len(cells):
        widest: Sequence[int] | Longs = np.maximum.accumulate(cells[begin : begin + rows])
        fitting = np.arange(1, len(widest) + 1) * widest <= most
        end = begin + max(1, int(np.count_nonzero(fitting)))
        yield np.arange(begin, end)
        begin = end
