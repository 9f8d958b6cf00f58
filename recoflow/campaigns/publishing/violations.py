"""What can be wrong with a staged campaign, as SQL over its files: the one statement of list quality.

Great-expectations shows these queries as checks (`checks`), and the publisher runs the same queries as its gate
(`gate`). They share no code with what makes the lists. A query finds nothing where its check passes; otherwise it finds
rows of the request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recoflow.storage.sql import parquet, quoted

CHECKS: Final = {
    "columns_complete": "The columns are those of the response, in its order, then those of the checks.",
    "required_values_present": "No required value is missing.",
    "user_groups_known": "user_group is the provider's name or fallback.",
    "order_kept": "Lists are in the order of the request, ranks are 1, 2, … N, scores are finite and, without "
    "diversity, never rise.",
    "rows_match": "Every list is for its row of the request, not longer than asked for, and counted.",
    "request_ids_unique": "Every row of the request has an identifier of its own.",
    "items_recommendable": "Every item is known, enabled and available.",
    "no_item_repeated": "No list holds an item twice, no subject gets one in two lists unless that is allowed.",
    "fallback_share": "The share of fallback lists is within the environment's limit.",
    "has_recommendations": "The campaign recommends something.",
}

# What every recommendation of a list has in common with its row of the request.
OF_REQUESTS: Final = ("user_id", "device_id", "user_group", "version", "request_id", "list_name", "page_type")
REQUIRED: Final = ("user_group", "version", "campaign_id", "request_id", "list_name", "item_id", "rank", "score")

# No list holds an item twice where some six bits of the hashes differ between all its items: each such set of bits is a
# set in one word. Lists of ten pass in 93 of 100 cases, those of more than 64 never: their items are compared.
IS_VARIED: Final = " OR ".join(
    f"bit_count(bit_or(1::UBIGINT << (hash(item_id) >> {shift} & 63))) = count(*)" for shift in (0, 6, 12, 18)
)


def missing(conditions: Mapping[str, str]) -> str:
    """The aggregate `missing`: the names of the conditions that a group meets, null where it meets none.

    One column for all of them, because great-expectations takes 20 ms for each column that it looks at.
    """
    names = (f"CASE WHEN {condition} THEN 'missing_{name}' END" for name, condition in conditions.items())
    return f"nullif(concat_ws(', ', {', '.join(names)}), '') AS missing"


def answers(texts: Iterable[str], *more: str) -> str:
    """The query for one row per row of the request and file: how much it was given, and what is wrong within.

    Args:
        texts: columns that are the same in all rows of an answer and in the request, beside the campaign's id.
        more: further aggregates.
    """
    common = f"hash({', '.join(texts)}, campaign_id)"
    return f"""
        SELECT
            _campaign, _part, row, count(*) AS given, min({common}) AS first_texts, max({common}) AS last_texts,
            bool_or(
                row IS NULL OR coalesce(row < row_before, false) OR NOT coalesce(isfinite(score), false)
                OR rank IS DISTINCT FROM CASE WHEN row = row_before THEN rank_before + 1 ELSE 1 END
            ) AS is_out_of_order,
            {"".join(f"{aggregate}, " for aggregate in more)}
            bool_or(coalesce(row = row_before AND score > score_before, false)) AS is_rising
        FROM neighbours
        GROUP BY _campaign, _part, row
    """


# Few passes over the recommendations, whose files are in the order of the request.
DERIVED: Final = {
    "groups": "SELECT _campaign, campaign_id, user_group, "
    f"{missing({name: f'count({name}) < count(*)' for name in REQUIRED})} FROM recommendations GROUP BY ALL",
    "answers": answers(OF_REQUESTS, f"{IS_VARIED} AS is_varied"),
    # The items of subjects with several lists, and of lists that may hold an item twice: mostly few.
    "suspects": """
        WITH several AS (
            SELECT _campaign, subject, min(row) AS person FROM requests GROUP BY ALL HAVING count(*) > 1
        ),
        suspected AS MATERIALIZED (
            SELECT _campaign, row, may_repeat, coalesce(person, row) AS person
            FROM requests JOIN answers USING (_campaign, row) LEFT JOIN several USING (_campaign, subject)
            WHERE person IS NOT NULL OR NOT is_varied
        )
        SELECT _campaign, suspected.person, row, given.item_id, suspected.may_repeat
        FROM recommendations AS given JOIN suspected USING (_campaign, row)
    """,
}


def common_violations(counted: str, size: str, item: str, texts: Iterable[str]) -> dict[str, str]:
    """Check → its query, of checks that mean the same for lists and for audiences.

    Args:
        counted: the column of requests with the number of rows that answer each.
        size: the column of requests with how many were asked for.
        item: the column of the answers that names an item.
        texts: as for `answers`.
    """
    asked = f"hash({', '.join(f'asked.{text}' for text in texts)}, campaigns.id)"
    return {
        "rows_match": f"""
            SELECT coalesce(asked.row, found.row)
            FROM (SELECT _campaign, row, sum(given) AS given, min(first_texts) AS first_texts,
                    max(last_texts) AS last_texts FROM answers GROUP BY _campaign, row) AS found
                FULL JOIN requests AS asked USING (_campaign, row) JOIN campaigns USING (_campaign)
            WHERE asked.line IS NULL OR coalesce(found.given, 0) IS DISTINCT FROM asked.{counted}
                OR asked.{counted} > asked.{size} OR found.first_texts <> {asked} OR found.last_texts <> {asked}
            UNION ALL
            SELECT min(row) FROM requests GROUP BY _campaign
            HAVING count(DISTINCT row) <> count(*) OR min(row) <> 0 OR max(row) <> count(*) - 1
        """,
        "request_ids_unique": "SELECT min(row) FROM requests GROUP BY _campaign, request_id HAVING count(*) > 1",
        "items_recommendable": f"""
            SELECT row FROM (
                SELECT _campaign, {item} AS item_id, min(row) AS row FROM recommendations GROUP BY _campaign, {item}
            ) JOIN campaigns USING (_campaign) ANTI JOIN (FROM items WHERE is_enabled AND is_available)
                USING (catalogue, item_id)
        """,
        "has_recommendations": "SELECT NULL FROM campaigns ANTI JOIN groups USING (_campaign)",
    }


# A file begins behind the last row of the one before.
TORN: Final = """
    SELECT first_row FROM (
        SELECT first_row, lag(last_row) OVER (PARTITION BY _campaign ORDER BY _part) AS last_row_before FROM (
            SELECT _campaign, _part, min(row) AS first_row, max(row) AS last_row FROM answers GROUP BY _campaign, _part
        )
    ) WHERE first_row <= last_row_before
"""

VIOLATIONS: Final = common_violations("items", "list_size", "item_id", OF_REQUESTS) | {
    "order_kept": f"""
        SELECT row FROM answers LEFT JOIN requests USING (_campaign, row)
        WHERE is_out_of_order OR (is_rising AND coalesce(is_by_score, true))
        UNION ALL {TORN}
    """,
    "no_item_repeated": """
        SELECT row FROM suspects GROUP BY _campaign, row, item_id HAVING count(*) > 1
        UNION ALL
        SELECT max(row) FROM suspects GROUP BY _campaign, person, item_id
        HAVING max(row) FILTER (NOT may_repeat) > min(row)
        UNION ALL
        SELECT row FROM requests WHERE subject IS NULL
    """,
}


@dataclass(frozen=True)
class StagedTables:
    """A staged campaign as the queries see it.

    Args:
        key: tells it from the others that are checked with it.
        campaign_id: that every recommendation must have.
        parts: the staged recommendations; at least one file.
        requests: the staged rows of the request.
        items: item_id, is_enabled, is_available of all items that there were.
    """

    key: str
    campaign_id: str
    parts: tuple[Path, ...]
    requests: Path
    items: Path


def tables(staged: Sequence[StagedTables], ordered: Iterable[str] = ("row", "rank", "score")) -> dict[str, str]:
    """Table → query. `_campaign` numbers the campaigns; a catalogue that they share is in `items` once.

    Args:
        staged: the campaigns.
        ordered: the columns of the recommendations that `neighbours` has of the row before, too.
    """
    before = ", ".join(f"lag({column}) OVER () AS {column}_before" for column in ordered)
    catalogues = list(dict.fromkeys(each.items for each in staged))
    known = [
        (str(number), quoted(each.campaign_id), str(catalogues.index(each.items))) for number, each in enumerate(staged)
    ]
    return {
        "campaigns": f"SELECT * FROM (VALUES ({'), ('.join(map(', '.join, known))})) AS _(_campaign, id, catalogue)",
        "recommendations": _together((f"{number} AS _campaign", each.parts) for number, each in enumerate(staged)),
        "requests": _together((f"{number} AS _campaign", [each.requests]) for number, each in enumerate(staged)),
        "items": _together((f"{number} AS catalogue", [path]) for number, path in enumerate(catalogues)),
        # File by file, or one core alone would do it; no list is in two files.
        "neighbours": " UNION ALL BY NAME ".join(
            f"SELECT *, {part} AS _part, {before} FROM ({_together([(f'{number} AS _campaign', [path])])})"
            for number, each in enumerate(staged)
            for part, path in enumerate(each.parts)
        ),
    }


def _together(files: Iterable[tuple[str, Sequence[Path]]]) -> str:
    """All rows of the files of each group, with the group's own column behind theirs."""
    return " UNION ALL BY NAME ".join(
        f"SELECT *, {column} FROM {parquet([str(path) for path in paths])}" for column, paths in files
    )
