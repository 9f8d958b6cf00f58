"""Answering a campaign: every list of a request is ranked, filled and staged on disk, block by block.

What belongs here: the order of the steps and what is staged. What does not: publishing (see `campaigns.publishing`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from polars import selectors

from recoflow import schema
from recoflow.campaigns.lists import explanations, item_filters
from recoflow.campaigns.lists import plan as planning
from recoflow.campaigns.lists.item_factors import ItemFactors
from recoflow.campaigns.lists.rank_blocks import BLOCK_LIMITS, BlockLimits, Ranking, list_blocks
from recoflow.campaigns.requests import identifiers
from recoflow.campaigns.requests.csv_reader import PERSON
from recoflow.campaigns.requests.list_rows import LIST
from recoflow.campaigns.staging import parquet_part, staged
from recoflow.compute.prefetch import prefetch
from recoflow.compute.stage_timer import StageTimer
from recoflow.errors import CampaignError

if TYPE_CHECKING:
    import pyarrow as pa
    from scipy import sparse

    from recoflow.campaigns.lists.plan import Lists, Longs
    from recoflow.campaigns.lists.rank_blocks import Indices, RankedBlock, Scores
    from recoflow.campaigns.requests.model import Request
    from recoflow.models.store.bundle import Bundle
    from recoflow.settings.environment import Environment

FALLBACK: Final = "fallback"  # user_group of lists that were to be personal and could not be
BLOCKS_AHEAD: Final = 3  # ranked, and small: the first of them waits for the identifiers of rows


def build_lists(
    request: Request,
    bundle: Bundle,
    environment: Environment,
    staging: Path,
    as_of: datetime,
    *,
    weights: sparse.csr_matrix | None = None,
    model_people: int | None = None,
    threads: int | None = None,
    stopwatch: StageTimer | None = None,
    limits: BlockLimits = BLOCK_LIMITS,
) -> staged.StagedLists:
    """Rank and stage every list of a request.

    Args:
        request: as `request_parser.parse_request` gave it, not rejected.
        bundle: the model in service, brought up to date (see `freshness`).
        environment: of the request.
        staging: folder of this campaign; what an earlier attempt left in it is replaced.
        as_of: the moment that item age is counted from.
        model_people: how many the model in service knows; by default as many as `bundle` does, which may have been cut
            to the people of the request.
        weights: what reasons are looked for in (see `explanations.weights`).
        threads: of the scoring core; by default all cores.
        stopwatch: counts the stages `map ids`, `rank`, `fill`, `explain` and `join and stage`.
        limits: of a block; each becomes a part of its own.

    Returns:
        What was staged: the same bytes for the same arguments.

    Raises:
        CampaignError: the request was rejected as a whole.
        ModelError: the bundle's factors cannot be ranked with.
    """
    if request.rejection is not None:
        raise CampaignError(request.name, f"was refused: {request.rejection.message}", "Publish its errors instead")
    watch = stopwatch or StageTimer()
    staged.clear_staging(staging)
    eligible = np.flatnonzero(item_filters.is_eligible(bundle.items))
    fields = environment.campaigns.information_fields
    columns = staged.part_columns(fields)
    columns.to_frame().write_parquet(staging / "part-00000.parquet")  # stays where no row was accepted
    item_factors = ItemFactors(bundle, eligible)
    with ThreadPoolExecutor(2) as beside:
        ready = beside.submit(item_factors.get_ready)
        with watch.stage("map ids"):
            lists = planning.plan_lists(request, bundle, environment)
        requests = beside.submit(_requests, request, lists, environment.campaigns.provider)
        filtered = {attribute for wish in lists.wishes for attribute in wish.attributes}
        attributes = [field for field in fields if field != schema.BECAUSE_OF]
        item_rules = item_filters.ItemRules(bundle.items[eligible], filtered.union(attributes))
        ready.result()
        ranking = Ranking(
            bundle,
            lists,
            item_factors=item_factors,
            item_rules=item_rules,
            as_of=as_of,
            threads=threads,
            limits=limits,
        )
        blocks = list_blocks(ranking.cells, limits.lists, limits.items)
        items = pl.DataFrame(
            [bundle.items["item_id"].gather(eligible), *(item_rules.information(field) for field in attributes)]
        )
        reason = explanations.Explanations(bundle, lists, eligible, weights) if schema.BECAUSE_OF in fields else None
        filler = _Filler(lists, ranking, len(eligible))
        is_empty = {field: _is_empty(items[field]) for field in attributes}
        empty_information = dict.fromkeys(fields, 0)
        with contextlib.closing(prefetch(_filled(blocks, ranking, filler, reason, watch), BLOCKS_AHEAD)) as ranked:
            for number, each in enumerate(ranked):
                for field, is_missing in is_empty.items():
                    empty_information[field] += int(np.count_nonzero(is_missing[each.items]))
                if each.because is not None:
                    empty_information[schema.BECAUSE_OF] += each.because.null_count()
                with watch.stage("join and stage"):
                    answers = requests.result().select(selectors.by_name(columns.names(), require_all=False))
                    parquet_part.write_part(
                        _columns(each, answers, items), columns, staging / f"part-{number:05}.parquet"
                    )
    answered = requests.result().with_columns(items=pl.Series(filler.filled), recipe=pl.Series(ranking.recipe))
    answered = answered.select(staged.REQUESTS.names())
    result = staged.StagedLists(
        folder=staging,
        name=request.name,
        environment=request.environment,
        campaign_id=request.campaign_id,
        request_sha256=request.sha256,
        model_version=bundle.version,
        information_fields=fields,
        csv_safe=environment.campaigns.csv_safe,
        counts=replace(_counts(request, lists, filler.filled), empty_information=empty_information),
        constraints=ranking.recipes.constraints,
        files=staged.write_beside(staging, requests=answered, errors=request.errors, items=bundle.items),
        suspended=dict(request.suspended),
        model_people=len(bundle.subjects) if model_people is None else model_people,
    )
    result.save()
    return result


def _requests(request: Request, lists: Lists, provider: str) -> pl.DataFrame:
    group = pl.when(pl.Series(lists.is_fallback)).then(pl.lit(FALLBACK)).otherwise(pl.lit(provider))
    return request.rows.with_columns(
        *identifiers.as_sent(request.rows, PERSON),
        pl.lit(request.campaign_id).alias("campaign_id"),
        identifiers.of_rows(request.rows, request.campaign_id, LIST),
        lists.keys.alias("subject"),
        group.alias("user_group"),
        pl.Series("may_repeat", lists.may_repeat),
        pl.Series("consumed_types", lists.consumed),
        pl.Series("is_by_score", lists.is_by_score),
    )


class _Filler:
    """Takes ranked items in blocks and keeps what later lists of the same subjects must not repeat."""

    def __init__(self, lists: Lists, ranking: Ranking, items: int) -> None:
        from recoflow.campaigns.lists import selection  # noqa: PLC0415 - imports numba

        self._lists = lists
        self._ranking = ranking
        self._similarity = selection.Similarity(*ranking.similarity())
        self.filled = np.zeros(len(lists), np.int64)
        is_kept = np.zeros(len(lists), np.bool_)
        is_kept[lists.previous[lists.previous >= 0]] = True
        ends = np.cumsum(np.where(is_kept, lists.size, 0))
        self._offset = np.where(is_kept, ends - lists.size, -1)
        self._taken = np.empty(int(ends[-1]) if len(ends) else 0, np.int32)
        self._stamp = np.full(items, -1, np.int64)

    def fill(self, block: Longs, ranked: RankedBlock) -> tuple[Indices, Scores]:
        """The items and scores of the block's lists, one list behind the other; `filled` tells how many each got."""
        from recoflow.campaigns.lists import fill  # noqa: PLC0415 - imports numba

        lists = self._lists
        room = int(np.minimum(lists.size[block], ranked.items.shape[1]).sum())
        chosen, kept = np.empty(room, np.int32), np.empty(room, np.float32)
        total = fill.fill_block(
            block[0], ranked.items, ranked.scores, ranked.begins, ranked.ends, lists.size, lists.minimum,
            lists.previous, lists.may_repeat, self._ranking.recipe, lists.wanted, self._ranking.recipes.rules,
            self._similarity, self._offset, self.filled, self._taken, self._stamp, chosen, kept,
        )  # fmt: skip
        return chosen[:total], kept[:total]


@dataclass(frozen=True)
class _Filled:
    """A block of lists with their items, one list behind the other, and why, where that is asked for."""

    lists: Longs
    sizes: Longs
    items: Indices
    scores: Scores
    because: pl.Series | None


def _filled(
    blocks: Iterator[Longs],
    ranking: Ranking,
    filler: _Filler,
    reason: explanations.Explanations | None,
    watch: StageTimer,
) -> Iterator[_Filled]:
    for block in blocks:
        with watch.stage("rank"):
            ranked = ranking.block(block)
        with watch.stage("fill"):
            chosen, scores = filler.fill(block, ranked)
        sizes, because = filler.filled[block], None
        if reason is not None:
            with watch.stage("explain"):
                because = reason.of(block, sizes, chosen)
        yield _Filled(block, sizes, chosen, scores, because)


def _columns(filled: _Filled, answers: pl.DataFrame, items: pl.DataFrame) -> dict[str, pa.Array]:
    """What is staged of the block: a row for each item of each list."""
    before = np.repeat(np.cumsum(filled.sizes) - filled.sizes, filled.sizes)
    made = [pl.Series("rank", np.arange(1, len(before) + 1) - before), pl.Series("score", filled.scores)]
    if filled.because is not None:
        made.append(filled.because)
    return (
        parquet_part.gather_columns(answers, np.repeat(filled.lists, filled.sizes))
        | parquet_part.gather_columns(items, filled.items)
        | {column.name: column.to_arrow() for column in made}
    )


def _is_empty(values: pl.Series) -> npt.NDArray[np.bool_]:
    return (values.str.strip_chars().fill_null("") == "").to_numpy()


def _people(lists: Lists) -> tuple[int, int]:
    """How many people the lists are for, and of how many of them something is known."""
    is_known = pl.Series(lists.known.max(axis=0, initial=-1) >= 0)
    if (people := lists.keys.hash().n_unique()) == len(lists):  # as in most requests
        return people, int(is_known.sum())
    return people, lists.keys.filter(is_known).hash().n_unique()


def _counts(request: Request, lists: Lists, filled: Longs) -> staged.ListCounts:
    fallback = int(lists.is_fallback.sum())
    personalized = int(lists.is_personal.sum())
    people, people_known = _people(lists)
    return staged.ListCounts(
        read=request.counts.read,
        answered=len(lists),
        failed=request.counts.failed,
        personalized=personalized,
        fallback=fallback,
        unpersonalized=len(lists) - personalized - fallback,
        short=int((filled < lists.size).sum()),
        empty=int((filled == 0).sum()),
        items=int(filled.sum()),
        page_types_replaced=request.counts.page_types_replaced,
        headers_repeated=request.counts.headers_repeated,
        people=people,
        people_known=people_known,
    )
