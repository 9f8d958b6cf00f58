"""The publisher's own check of a staged campaign, by other means than those that made it or checked it before.

What belongs here: reasons to refuse publication. What does not: checks that inform (see `quality`), rendering.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from recoflow.campaigns.lists import item_filters
from recoflow.campaigns.publishing import audit_part
from recoflow.campaigns.publishing.audit_part import Longs, StagedPart, StagedReader
from recoflow.campaigns.publishing.auditing import FILES_AND_MODEL, Audit, SqlChecks
from recoflow.compute.prefetch import prefetch
from recoflow.ranking.item_index import frozen
from recoflow.storage import sql

if TYPE_CHECKING:
    import duckdb

    from recoflow.campaigns.staging.staged import StagedLists
    from recoflow.models.store.bundle import Bundle
    from recoflow.quality.finding import Finding

_BY_ROW: Final = ("order_kept", "rows_match", "items_recommendable", "no_item_repeated", "nothing_consumed")
_NOTHING: Final = np.empty(0, np.int64)
_LIMITS: Final = pl.Schema({"recipe": pl.Int64, "number": pl.Int64, "least": pl.Int64, "most": pl.Int64})
_MEETING: Final = pl.Schema({"recipe": pl.Int64, "number": pl.Int64, "item_id": pl.String})

CHECKS: Final = FILES_AND_MODEL | {
    "order_kept": "Lists stand in the order of the request, ranks are 1, 2, … N, scores are finite and, without "
    "diversity, never rise.",
    "rows_match": "Every list is for its row of the request, not longer than asked for, and counted.",
    "items_recommendable": "Every item is known, enabled and available.",
    "no_item_repeated": "No list holds an item twice, no subject gets one in two lists unless that is allowed.",
    "nothing_consumed": "No subject gets an item that it consumed.",
    "constraints_hold": "No list exceeds a maximum of its configuration; places that a minimum lacks are empty.",
    "counts_add_up": "The manifest's counts are those of the files.",
}

# What a list lacks to its minima fits into what it lacks to its size, unless the minima are more than its size.
_UNCONSTRAINED: Final = """
WITH counted AS (
    SELECT row, recipe, number, count(*) AS items
    FROM recommendations JOIN requests USING (row) JOIN meeting USING (recipe, item_id) GROUP BY ALL
)
SELECT row FROM counted JOIN limits USING (recipe, number) WHERE counted.items > most
UNION ALL
SELECT row FROM requests JOIN limits USING (recipe) LEFT JOIN counted USING (row, recipe, number)
GROUP BY row, list_size, requests.items HAVING sum(least) <= list_size
    AND requests.items + sum(greatest(least - coalesce(counted.items, 0), 0)) > list_size
"""


def audit_lists(staged: StagedLists, bundle: Bundle) -> list[Finding]:
    """Check a staged campaign once more, right before it is published; see `auditing.Audit.run`."""
    return _AUDIT.run(staged, bundle)


def _search(staged: StagedLists, bundle: Bundle) -> Iterator[tuple[str, list[str]]]:
    """File by file, because all of them at once would not fit into memory, and each is read once."""
    asked = StagedReader.read(staged, bundle)
    is_fit = np.append(item_filters.is_eligible(bundle.items), np.False_)  # the last one is no item
    answered = np.zeros(len(asked.requests), np.int64)
    found: dict[str, list[Longs]] = {check: [] for check in _BY_ROW}
    repeatable: list[pl.DataFrame] = []
    with contextlib.closing(prefetch(audit_part.parts(staged, bundle.items["item_id"]))) as parts:
        for part in parts:
            found["order_kept"].append(_disorder(part, asked))
            is_unknown = (part.rows < 0) | (part.rows >= len(answered))
            found["rows_match"].append(part.rows[is_unknown])
            if is_unknown.any():
                continue  # the rest would be about rows that nobody asked for
            answered += np.bincount(part.rows, minlength=len(answered))
            found["rows_match"].append(_mismatches(part, asked, staged.campaign_id))
            found["items_recommendable"].append(part.rows[~is_fit[part.items]])
            keys = np.sort(part.rows * len(is_fit) + part.items)  # one for each row and item
            found["no_item_repeated"].append(keys[1:][keys[1:] == keys[:-1]] // len(is_fit))
            found["nothing_consumed"].append(_consumed(part, asked, bundle, keys))
            repeatable.append(_of_several_lists(part, asked))
    found["rows_match"].append(_miscounted(answered, asked.requests))
    found["no_item_repeated"].append(_repeated(pl.concat(repeatable), asked.requests) if repeatable else _NOTHING)
    for check, rows in found.items():
        wrong = np.concatenate(rows)
        yield check, [f"{len(wrong)} cases, e.g. in row {wrong.min()} of the request"] if len(wrong) else []
    yield from _CONSTRAINTS(staged, bundle) if any(staged.constraints) else [("constraints_hold", [])]
    yield "counts_add_up", _miscounts(asked.requests, staged)


def _disorder(part: StagedPart, asked: StagedReader) -> Longs:
    """Rows of recommendations that are not where they belong."""
    sizes = np.diff(part.starts, append=len(part.rows))
    expected = np.arange(1, len(part.rows) + 1) - np.repeat(part.starts, sizes)
    is_wrong = (part.ranks != expected) | ~np.isfinite(part.scores)
    step = np.diff(part.rows)
    is_by_score = np.append(asked.is_by_score, np.False_)  # of rows that nobody asked for
    is_falling = is_by_score[np.clip(part.rows[1:], -1, len(asked.is_by_score))]
    is_wrong[1:] |= (step < 0) | ((step == 0) & is_falling & (part.scores[1:] > part.scores[:-1]))
    is_wrong[:1] |= part.rows[:1] <= part.before
    wrong: Longs = part.rows[is_wrong]
    return wrong


def _mismatches(part: StagedPart, asked: StagedReader, campaign_id: str) -> Longs:
    """Rows whose recommendations hold other texts than the request."""
    places, texts = part.texts["campaign_id"]
    is_foreign = texts.ne_missing(campaign_id).to_numpy()[places]
    changes = part.changes(audit_part.OF_REQUESTS)
    rows = part.rows[changes]
    expected = asked.texts(rows)
    differs = [part.text(name, changes).ne_missing(expected[name]) for name in audit_part.OF_REQUESTS]
    return np.concatenate([part.rows[is_foreign], rows[np.any(differs, axis=0)]])


def _miscounted(answered: Longs, requests: pl.DataFrame) -> Longs:
    """Rows of the request whose lists are not as long as they say, or longer than asked for."""
    items, row = requests["items"].to_numpy(), requests["row"].to_numpy()
    is_wrong = (answered != items) | (items > requests["list_size"].to_numpy()) | (row != np.arange(len(row)))
    return np.flatnonzero(is_wrong)


def _of_several_lists(part: StagedPart, asked: StagedReader) -> pl.DataFrame:
    """person, item, row: recommendations to those who have other lists, too."""
    person = asked.person[part.rows]
    mine = np.flatnonzero(person >= 0)
    return pl.DataFrame({"person": person[mine], "item": part.items[mine], "row": part.rows[mine]})


def _repeated(given: pl.DataFrame, requests: pl.DataFrame) -> Longs:
    """Rows of people who get an item in two of their lists though the later one may not repeat it."""
    later = pl.col("row").filter(~pl.col("may_repeat")).max()
    given = given.with_columns(requests["may_repeat"].gather(given["row"]))
    twice = (
        given.group_by("person", "item").agg(pl.col("row").min(), later=later).filter(pl.col("later") > pl.col("row"))
    )
    return twice["row"].to_numpy()


def _consumed(part: StagedPart, asked: StagedReader, bundle: Bundle, keys: Longs) -> Longs:
    """Rows that hold an item which their subject consumed; `keys` are row × (items + 1) + item, sorted."""
    from recoflow.campaigns.publishing import audit_kernels  # noqa: PLC0415 - imports numba

    rows = part.rows[part.starts]
    histories = audit_kernels.Histories(
        frozen(bundle.seen_indptr), frozen(bundle.seen_indices), frozen(bundle.seen_types)
    )
    is_wrong = audit_kernels.has_consumed(
        rows, keys, len(bundle.items) + 1, asked.subjects, asked.consumed_types, histories
    )
    wrong: Longs = rows[is_wrong]
    return wrong


def _register(connection: duckdb.DuckDBPyConnection, staged: StagedLists, bundle: Bundle) -> None:
    connection.execute(f"CREATE TEMP VIEW recommendations AS FROM {sql.parquet([str(path) for path in staged.parts])}")
    connection.execute(f"CREATE TEMP VIEW requests AS FROM {sql.parquet([str(staged.requests)])}")
    limits, meeting = _constraints(staged, bundle.items)
    connection.register("limits", limits.to_arrow())
    connection.register("meeting", meeting.to_arrow())


def _constraints(staged: StagedLists, items: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The limits of each recipe's constraints by number, and the items that meet them."""
    limits, meeting = [_LIMITS.to_frame()], [_MEETING.to_frame()]
    for recipe, constraints in enumerate(staged.constraints):
        for number, constraint in enumerate(constraints):
            least, most = constraint["limit"]["min"], constraint["limit"]["max"]
            limits.append(pl.DataFrame([(recipe, number, least, most)], _LIMITS, orient="row"))
            found = items.filter(_meeting(items, constraint["query"])).select(
                pl.lit(recipe, pl.Int64).alias("recipe"), pl.lit(number, pl.Int64).alias("number"), "item_id"
            )
            meeting.append(found)
    return pl.concat(limits), pl.concat(meeting)


def _meeting(items: pl.DataFrame, query: Mapping[str, Any]) -> pl.Series:
    comparison = query["match"] or query["contains"]
    (wanted,) = item_filters.attribute_texts(comparison["value"])
    found = []
    for item_type, text in items.select("item_type", "attributes").iter_rows():
        answers = item_filters.attribute_texts(
            (json.loads(text or "{}") | {item_filters.ITEM_TYPE: item_type}).get(query["key"])
        )
        is_met = set(answers) == {wanted} if query["match"] else wanted in answers
        found.append(is_met != comparison["not"])
    return pl.Series(found, dtype=pl.Boolean)


def _miscounts(requests: pl.DataFrame, staged: StagedLists) -> list[str]:
    is_short, is_empty = pl.col("items") < pl.col("list_size"), pl.col("items") == 0
    is_fallback = pl.col("user_group") == "fallback"
    sums = requests.select(
        pl.len(), is_fallback.sum().alias("fallback"), is_short.sum().alias("short"), is_empty.sum().alias("empty"),
        pl.col("items").sum(),
    )  # fmt: skip
    (found,) = sums.iter_rows()
    counts = staged.counts
    expected = (counts.answered, counts.fallback, counts.short, counts.empty, counts.items)
    is_whole = counts.read == counts.answered + counts.failed
    return [] if found == expected and is_whole else [f"{found} instead of {expected}"]


_CONSTRAINTS: Final = SqlChecks(_register, {"constraints_hold": _UNCONSTRAINED})
_AUDIT: Final = Audit(CHECKS, _search)
