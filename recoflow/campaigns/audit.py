"""The publisher's own check of a staged campaign, by other means than those that made it or checked it before.

What belongs here: reasons to refuse publication. What does not: checks that inform (see `quality`), rendering.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from recoflow.campaigns import auditing, rules
from recoflow.campaigns.auditing import FILES_AND_MODEL, Audit
from recoflow.storage import sql

if TYPE_CHECKING:
    import duckdb

    from recoflow.campaigns.staged import Staged
    from recoflow.models.bundle import Bundle
    from recoflow.quality.finding import Finding

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

# One row per list; `place` counts the rows of a file. Places that follow each other and differ from the ranks by one
# number make the ranks 1 … N in this order. Lists whose items' hashes differ hold no item twice; others may.
_LISTS: Final = """
CREATE TEMP TABLE lists AS
SELECT
    row, count(*) AS items, min(part) AS part, min(place) AS first_place,
    min(part) = max(part) AND min(rank) = 1 AND max(rank) = count(*) AND min(place - rank) = max(place - rank)
        AND max(place) - min(place) + 1 = count(*) AND bool_and(isfinite(score)) AS is_ordered,
    list_unique(list(hash(item_id))) = count(*) AS is_varied
FROM recommendations GROUP BY row
"""

_DISORDER: Final = """
SELECT row FROM (
    SELECT row, is_ordered, part, first_place,
        lag(part) OVER by_row AS part_before, lag(first_place) OVER by_row AS before
    FROM lists WINDOW by_row AS (ORDER BY row)
) WHERE NOT is_ordered OR part_before > part OR (part_before = part AND before >= first_place)
UNION ALL
SELECT row FROM (
    SELECT row FROM (
        SELECT
            row, score, part, place,
            lead(row) OVER () AS row_below, lead(score) OVER () AS score_below,
            lead(part) OVER () AS part_below, lead(place) OVER () AS place_below
        FROM recommendations
    ) WHERE (row_below = row AND score_below > score)
        OR (part_below = part AND place_below <> place + 1) OR (part_below <> part AND place_below <> 0)
) SEMI JOIN (FROM requests WHERE is_by_score) USING (row)
"""

_MISMATCHES: Final = """
SELECT row FROM lists FULL JOIN requests USING (row)
WHERE requests.line IS NULL OR coalesce(lists.items, 0) <> requests.items OR requests.items > requests.list_size
UNION ALL
SELECT given.row FROM recommendations given JOIN requests asked ON given.row = asked.row
WHERE given.campaign_id <> $campaign_id OR given.request_id <> asked.request_id OR given.user_group <> asked.user_group
    OR given.version <> asked.version OR given.list_name <> asked.list_name OR given.page_type <> asked.page_type
    OR given.user_id IS DISTINCT FROM asked.user_id OR given.device_id IS DISTINCT FROM asked.device_id
"""

_FOREIGN_ITEMS: Final = """
SELECT item_id FROM recommendations ANTI JOIN (FROM items WHERE is_enabled AND is_available) USING (item_id)
"""

# The cheap question first: who asks for several lists, and which list may hold an item twice? Mostly none.
_REPEATED: Final = """
WITH several AS (SELECT subject, min(row) AS person FROM requests GROUP BY subject HAVING count(*) > 1),
suspects AS MATERIALIZED (
    SELECT row, may_repeat, coalesce(person, row) AS person
    FROM requests JOIN lists USING (row) LEFT JOIN several USING (subject) WHERE person IS NOT NULL OR NOT is_varied
)
SELECT item_id FROM recommendations JOIN suspects USING (row)
GROUP BY person, item_id HAVING count(*) > count(DISTINCT row) OR max(row) FILTER (NOT may_repeat) > min(row)
"""

# By numbers, because what people consumed is many times what they are recommended.
_CONSUMED: Final = """
WITH asked AS MATERIALIZED (
    SELECT row, consumed_types, subjects.number AS subject FROM requests JOIN subjects USING (subject)
    WHERE consumed_types <> 0
)
SELECT item_id FROM recommendations JOIN asked USING (row) JOIN items USING (item_id)
    JOIN seen ON seen.subject = asked.subject AND seen.item = items.number
WHERE seen.event_types & consumed_types <> 0
"""


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


def audit(staged: Staged, bundle: Bundle) -> list[Finding]:
    """Check a staged campaign once more, right before it is published; see `auditing.Audit.run`."""
    return _AUDIT.run(staged, bundle)


def _register(connection: duckdb.DuckDBPyConnection, staged: Staged, bundle: Bundle) -> None:
    connection.execute(f"CREATE TEMP VIEW recommendations AS {auditing.numbered(staged.parts)}")
    connection.execute(f"CREATE TEMP VIEW requests AS FROM {sql.parquet([str(staged.requests)])}")
    auditing.register_bundle(connection, bundle)
    limits, meeting = _constraints(staged, bundle.items)
    connection.register("limits", limits.to_arrow())
    connection.register("meeting", meeting.to_arrow())
    connection.execute(_LISTS)


def _constraints(staged: Staged, items: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
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
    (wanted,) = rules.texts(comparison["value"])
    found = []
    for item_type, text in items.select("item_type", "attributes").iter_rows():
        answers = rules.texts((json.loads(text or "{}") | {rules.ITEM_TYPE: item_type}).get(query["key"]))
        is_met = set(answers) == {wanted} if query["match"] else wanted in answers
        found.append(is_met != comparison["not"])
    return pl.Series(found, dtype=pl.Boolean)


def _counts(connection: duckdb.DuckDBPyConnection, staged: Staged, _bundle: Bundle) -> list[str]:
    (found,) = connection.execute(
        "SELECT count(*), count(*) FILTER (user_group = 'fallback'), count(*) FILTER (items < list_size), "
        "count(*) FILTER (items = 0), coalesce(sum(items), 0)::BIGINT FROM requests"
    ).fetchall()
    counts = staged.counts
    expected = (counts.answered, counts.fallback, counts.short, counts.empty, counts.items)
    is_whole = counts.read == counts.answered + counts.failed
    return [] if found == expected and is_whole else [f"{found} instead of {expected}"]


_AUDIT: Final = Audit(
    CHECKS,
    _register,
    {
        "order_kept": _DISORDER,
        "rows_match": _MISMATCHES,
        "items_recommendable": _FOREIGN_ITEMS,
        "no_item_repeated": _REPEATED,
        "nothing_consumed": _CONSUMED,
        "constraints_hold": _UNCONSTRAINED,
        "counts_add_up": _counts,
    },
)
