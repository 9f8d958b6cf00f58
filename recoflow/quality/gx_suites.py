"""What is expected of each kind of table, written down as checks.

What belongs here: checks as values. What does not: running them (see `gx_runner`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recoflow.quality.finding import Finding
from recoflow.quality.gx_runner import Check, Expectation, Validate, validate
from recoflow.storage.sql import parquet, quoted

CAMPAIGN_CHECKS: Final = {
    "columns_complete": "The columns are those of the response, in its order, then those of the checks.",
    "required_values_present": "No required value is missing.",
    "one_campaign": "Every recommendation is of this campaign.",
    "user_groups_known": "user_group is the provider's name or fallback.",
    "ranks_without_gaps": "The ranks of each list are 1, 2, … N.",
    "no_item_twice_in_a_list": "No list holds an item twice.",
    "no_item_repeated": "No subject gets an item in two lists, unless the configuration allows it.",
    "items_recommendable": "Every item is in the catalogue, enabled and available.",
    "rows_answered": "Every recommendation belongs to a row of the request, and every row got the counted items.",
    "requests_distinct": "Every row of the request has an identifier of its own.",
    "list_sizes_kept": "No list is longer than asked for.",
    "scores_fall_with_rank": "Scores are finite and never rise with the rank, except in lists made diverse.",
    "fallback_share": "The share of fallback lists is within the environment's limit.",
    "has_recommendations": "The campaign recommends something.",
}

_REQUIRED: Final = {
    name: f"count({name}) < count(*)"
    for name in ("user_group", "version", "campaign_id", "request_id", "list_name", "item_id", "rank", "score")
}


def missing(conditions: Mapping[str, str]) -> str:
    """The aggregate `missing`: the names of the conditions that a group meets, null where it meets none.

    One column for all of them, because great-expectations takes 20 ms for each column that it looks at.
    """
    names = (f"CASE WHEN {condition} THEN 'missing_{name}' END" for name, condition in conditions.items())
    return f"nullif(concat_ws(', ', {', '.join(names)}), '') AS missing"


def in_order(counted: str, *more: str) -> str:
    """The query for one row per row of the request: what was answered, and whether ranks and scores follow each other.

    Args:
        counted: what the number of recommendations is called.
        more: further aggregates over the recommendations of a row.
    """
    return f"""
        SELECT
            _campaign, row, count(*) AS {counted}, max(rank) AS last_rank,
            min(hash(request_id)) AS first_id, max(hash(request_id)) AS last_id,
            count_if(rank IS DISTINCT FROM CASE WHEN is_same THEN rank_before + 1 ELSE 1 END) AS out_of_place,
            {"".join(f"{aggregate}, " for aggregate in more)}
            count_if(NOT isfinite(score)) AS unscored, count_if(is_same AND score > score_before) AS rising
        FROM neighbours
        GROUP BY _campaign, row
    """


# No list holds an item twice where some six bits of the hashes differ between all its items: each such set of bits is a
# set in one word. Lists of ten pass in 93 of 100 cases, those of more than 64 never: they are judged by the items.
_VARIED: Final = " OR ".join(
    f"bit_count(bit_or(1::UBIGINT << (hash(item_id) >> {shift} & 63))) = count(*)" for shift in (0, 6, 12, 18)
)

# Few passes over the recommendations, whose files stand in the order of the request: expectations over every single
# recommendation would each read them once or twice, and some sort them.
_DERIVED: Final = {
    "groups": f"SELECT _campaign, campaign_id, user_group, {missing(_REQUIRED)} FROM recommendations GROUP BY ALL",
    "lists": in_order("items", f"{_VARIED} AS is_varied"),
    # Of those alone who ask for several lists, and of lists that may hold an item twice: mostly of few.
    "repeated": """
        WITH several AS (
            SELECT _campaign, subject, min(row) AS person FROM requests GROUP BY ALL HAVING count(*) > 1
        ),
        suspects AS MATERIALIZED (
            SELECT _campaign, row, may_repeat, coalesce(person, row) AS person
            FROM requests JOIN lists USING (_campaign, row) LEFT JOIN several USING (_campaign, subject)
            WHERE person IS NOT NULL OR NOT is_varied
        )
        SELECT _campaign, person, row, item_id, may_repeat
        FROM recommendations JOIN suspects USING (_campaign, row)
    """,
}


def alike(answers: str, counted: str, item: str) -> dict[str, str]:
    """Check → the query that is to find nothing, of checks that mean the same whatever was asked for.

    Args:
        answers: the table that `in_order` describes.
        counted: as there; requests have a column of that name, too.
        item: the column of the recommendations that names an item.
    """
    return {
        "one_campaign": (
            "SELECT campaign_id FROM groups JOIN campaigns USING (_campaign) WHERE campaign_id IS DISTINCT FROM id"
        ),
        "ranks_without_gaps": (
            f"SELECT row FROM {answers} WHERE out_of_place > 0 OR last_rank IS DISTINCT FROM {counted}"
        ),
        "rows_answered": (
            f"SELECT row FROM {answers} AS given FULL JOIN requests AS asked USING (_campaign, row) "
            f"WHERE asked.line IS NULL OR coalesce(given.{counted}, 0) <> asked.{counted} "
            "OR given.first_id <> hash(asked.request_id) OR given.last_id <> hash(asked.request_id)"
        ),
        "items_recommendable": (
            f"SELECT item_id FROM (SELECT DISTINCT _campaign, {item} AS item_id FROM recommendations) "
            "JOIN campaigns USING (_campaign) ANTI JOIN (FROM items WHERE is_enabled AND is_available) "
            "USING (catalogue, item_id)"
        ),
        "requests_distinct": "SELECT request_id FROM requests GROUP BY _campaign, request_id HAVING count(*) > 1",
        "has_recommendations": "SELECT _campaign FROM campaigns ANTI JOIN groups USING (_campaign)",
    }


_PROBLEMS: Final = alike("lists", "items", "item_id") | {
    "no_item_twice_in_a_list": "SELECT row FROM repeated GROUP BY _campaign, row, item_id HAVING count(*) > 1",
    "no_item_repeated": (
        "SELECT person FROM repeated GROUP BY _campaign, person, item_id "
        "HAVING max(row) FILTER (NOT may_repeat) > min(row)"
    ),
    "list_sizes_kept": "SELECT row FROM requests WHERE items > list_size",
    "scores_fall_with_rank": (
        "SELECT row FROM (FROM lists WHERE unscored > 0 OR rising > 0) JOIN requests USING (_campaign, row) "
        "WHERE unscored > 0 OR is_by_score"
    ),
}


@dataclass(frozen=True)
class Campaign:
    """A staged campaign as its checks see it.

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


def campaigns(
    staged: Sequence[Campaign],
    *,
    columns: Sequence[str],
    provider: str,
    max_fallback_share: float,
    validate: Validate = validate,
) -> dict[str, list[Finding]]:
    """Check staged campaigns of one environment.

    great-expectations takes most of a second however little there is to check, so it looks at all of them at once;
    where something is wrong with one, at the halves apart, and so on down to the culprit.

    Args:
        staged: the campaigns.
        columns: that the parts must have.
        provider: user_group of lists that are no fallback.
        max_fallback_share: limit of the share of fallback lists.
        validate: runs the checks.

    Returns:
        Key of a campaign → a finding for each of CAMPAIGN_CHECKS.
    """
    over = f"GROUP BY _campaign HAVING avg((user_group = 'fallback')::INT) > {float(max_fallback_share)}"
    problems = _PROBLEMS | {"fallback_share": f"SELECT _campaign FROM requests {over}"}
    groups = Expectation("ExpectColumnValuesToBeInSet", {"column": "user_group", "value_set": [provider, "fallback"]})
    asked = checks(CAMPAIGN_CHECKS, columns, user_groups_known=groups)
    return judge(staged, asked, _DERIVED | {"problems": found(problems)}, validate)


def judge(
    staged: Sequence[Campaign], checks: Sequence[Check], derived: Mapping[str, str], validate: Validate
) -> dict[str, list[Finding]]:
    """Check campaigns together, and where something is wrong, in halves; see `campaigns`."""
    if not staged:
        return {}
    findings = validate(_tables(staged), checks, derived)
    if len(staged) == 1 or all(finding.passed for finding in findings):
        return {campaign.key: findings for campaign in staged}
    half = len(staged) // 2
    return judge(staged[:half], checks, derived, validate) | judge(staged[half:], checks, derived, validate)


def _tables(staged: Sequence[Campaign]) -> dict[str, str]:
    """Table → query. `_campaign` numbers the campaigns; a catalogue that they share stands in `items` once."""
    catalogues = list(dict.fromkeys(each.items for each in staged))
    known = [
        (str(number), quoted(each.campaign_id), str(catalogues.index(each.items))) for number, each in enumerate(staged)
    ]
    return {
        "campaigns": f"SELECT * FROM (VALUES ({'), ('.join(map(', '.join, known))})) AS _(_campaign, id, catalogue)",
        "recommendations": _together((f"{number} AS _campaign", each.parts) for number, each in enumerate(staged)),
        "requests": _together((f"{number} AS _campaign", [each.requests]) for number, each in enumerate(staged)),
        "items": _together((f"{number} AS catalogue", [path]) for number, path in enumerate(catalogues)),
        # File by file, or one core alone would do it; no list stands in two files.
        "neighbours": " UNION ALL ".join(
            "SELECT *, row = lag(row) OVER () AS is_same, lag(rank) OVER () AS rank_before, "
            f"lag(score) OVER () AS score_before FROM ({_together([(f'{number} AS _campaign', [path])])})"
            for number, each in enumerate(staged)
            for path in each.parts
        ),
    }


def _together(files: Iterable[tuple[str, Sequence[Path]]]) -> str:
    """All rows of the files of each group, with the group's own column behind theirs."""
    return " UNION ALL ".join(
        f"SELECT *, {column} FROM {parquet([str(path) for path in paths])}" for column, paths in files
    )


def checks(meanings: Mapping[str, str], columns: Sequence[str], **of_groups: Expectation) -> list[Check]:
    """A check for each of these meanings.

    Args:
        meanings: check → what it means.
        columns: that the parts must have.
        of_groups: check → what it expects of the table `groups`; others expect that their query `found` nothing.
    """
    complete = Expectation("ExpectTableColumnsToMatchOrderedList", {"column_list": [*columns, "_campaign"]})
    present = Expectation("ExpectColumnValuesToBeNull", {"column": "missing"})
    expected = {name: ("groups", expectation) for name, expectation in of_groups.items()} | {
        "columns_complete": ("recommendations", complete),
        "required_values_present": ("groups", present),
    }
    return [
        Check(name, table, description, (expectation,), severity="warn" if name == "has_recommendations" else "error")
        for name, description in meanings.items()
        for table, expectation in [expected.get(name, ("problems", _none_found(name)))]
    ]


def found(problems: Mapping[str, str]) -> str:
    """The query for a row with the check's name for each row that its query finds.

    It is made a table, because an expectation would compute the query twice: for the rows, and for their number.
    """
    return " UNION ALL ".join(f"SELECT {quoted(check)} AS problem FROM ({query})" for check, query in problems.items())


def _none_found(check: str) -> Expectation:
    """The check's query `found` nothing."""
    query = f"SELECT problem FROM {{batch}} WHERE problem = {quoted(check)}"
    return Expectation("UnexpectedRowsExpectation", {"unexpected_rows_query": query})
