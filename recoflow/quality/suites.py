"""What is expected of each kind of table, written down as checks.

What belongs here: checks as values. What does not: running them (see `expectations`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recoflow.quality.expectations import Check, Expectation, validate
from recoflow.quality.finding import Finding
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
    "list_sizes_kept": "No list is longer than asked for.",
    "scores_fall_with_rank": "Scores are finite and never rise with the rank.",
    "fallback_share": "The share of fallback lists is within the environment's limit.",
    "has_recommendations": "The campaign recommends something.",
}

_ABOUT_REQUESTS: Final = ("list_sizes_kept", "fallback_share")
_REQUIRED: Final = ("user_group", "version", "campaign_id", "request_id", "list_name", "item_id", "rank", "score")


@dataclass(frozen=True)
class Campaign:
    """A staged campaign as its checks see it.

    Args:
        key: tells it from the others that are checked with it.
        campaign_id: that every recommendation must have.
        parts: the staged recommendations; at least one file.
        requests: the staged rows of the request.
        items: schema.ITEMS that may be recommended.
    """

    key: str
    campaign_id: str
    parts: tuple[Path, ...]
    requests: Path
    items: Path


def campaigns(
    staged: Sequence[Campaign], *, columns: Sequence[str], provider: str, max_fallback_share: float
) -> dict[str, list[Finding]]:
    """Check staged campaigns of one environment.

    great-expectations takes most of a second however little there is to check, so it looks at all of them at once;
    where something is wrong with one, at the halves apart, and so on down to the culprit.

    Args:
        staged: the campaigns.
        columns: that the parts must have.
        provider: user_group of lists that are no fallback.
        max_fallback_share: limit of the share of fallback lists.

    Returns:
        Key of a campaign → a finding for each of CAMPAIGN_CHECKS.
    """
    if not staged:
        return {}
    checks = _checks(columns, provider, max_fallback_share)

    def judge(some: Sequence[Campaign]) -> dict[str, list[Finding]]:
        findings = validate(_tables(some), checks)
        if len(some) == 1 or all(finding.passed for finding in findings):
            return {campaign.key: findings for campaign in some}
        half = len(some) // 2
        return judge(some[:half]) | judge(some[half:])

    return judge(staged)


def _tables(staged: Sequence[Campaign]) -> dict[str, str]:
    """Table → query. `_campaign` is the key; a catalogue that campaigns share stands in `items` once."""
    catalogues = list(dict.fromkeys(each.items for each in staged))
    known = [(quoted(each.key), quoted(each.campaign_id), str(catalogues.index(each.items))) for each in staged]
    return {
        "campaigns": f"SELECT * FROM (VALUES ({'), ('.join(map(', '.join, known))})) AS _(_campaign, id, catalogue)",
        "recommendations": _together((f"{quoted(each.key)} AS _campaign", each.parts) for each in staged),
        "requests": _together((f"{quoted(each.key)} AS _campaign", [each.requests]) for each in staged),
        "items": _together((f"{number} AS catalogue", [path]) for number, path in enumerate(catalogues)),
    }


def _together(files: Iterable[tuple[str, Sequence[Path]]]) -> str:
    """All rows of the files of each group, with the group's own column behind theirs."""
    return " UNION ALL ".join(
        f"SELECT *, {column} FROM {parquet([str(path) for path in paths])}" for column, paths in files
    )


def _checks(columns: Sequence[str], provider: str, max_fallback_share: float) -> list[Check]:
    expectations = {
        "columns_complete": [
            Expectation("ExpectTableColumnsToMatchOrderedList", {"column_list": [*columns, "_campaign"]})
        ],
        "required_values_present": [
            Expectation("ExpectColumnValuesToNotBeNull", {"column": name}) for name in _REQUIRED
        ],
        "one_campaign": [
            _no_rows(
                "SELECT campaign_id FROM {batch} JOIN campaigns USING (_campaign) WHERE campaign_id IS DISTINCT FROM id"
            )
        ],
        "user_groups_known": [
            Expectation("ExpectColumnValuesToBeInSet", {"column": "user_group", "value_set": [provider, "fallback"]})
        ],
        "ranks_without_gaps": [
            Expectation("ExpectCompoundColumnsToBeUnique", {"column_list": ["_campaign", "request_id", "rank"]}),
            _no_rows(
                "SELECT request_id FROM {batch} GROUP BY _campaign, request_id "
                "HAVING min(rank) <> 1 OR max(rank) <> count(*)"
            ),
        ],
        "no_item_twice_in_a_list": [
            Expectation("ExpectCompoundColumnsToBeUnique", {"column_list": ["_campaign", "request_id", "item_id"]})
        ],
        "no_item_repeated": [
            _no_rows(
                "SELECT subject, item_id FROM {batch} JOIN requests USING (_campaign, row) "
                "GROUP BY _campaign, subject, item_id HAVING max(row) FILTER (NOT may_repeat) > min(row)"
            )
        ],
        "items_recommendable": [
            _no_rows(
                "SELECT item_id FROM (FROM {batch} JOIN campaigns USING (_campaign)) "
                "ANTI JOIN (FROM items WHERE is_enabled AND is_available) USING (catalogue, item_id)"
            )
        ],
        "rows_answered": [
            _no_rows(
                "SELECT row FROM {batch} AS given FULL JOIN requests AS asked USING (_campaign, row) "
                "GROUP BY _campaign, row "
                "HAVING any_value(asked.line) IS NULL OR count(given.item_id) <> any_value(asked.items) "
                "OR count(*) FILTER (given.request_id <> asked.request_id) > 0"
            )
        ],
        "list_sizes_kept": [_no_rows("SELECT row FROM {batch} WHERE items > list_size")],
        "scores_fall_with_rank": [
            _no_rows(
                "SELECT row FROM {batch} WHERE NOT isfinite(score) UNION ALL SELECT row FROM (SELECT row, score, "
                "lag(score) OVER (PARTITION BY _campaign, row ORDER BY rank) AS above FROM {batch}) WHERE score > above"
            )
        ],
        "fallback_share": [
            _no_rows(
                "SELECT avg((user_group = 'fallback')::INT) AS share FROM {batch} GROUP BY _campaign "
                f"HAVING share > {float(max_fallback_share)}"
            )
        ],
        "has_recommendations": [_no_rows("SELECT _campaign FROM campaigns ANTI JOIN {batch} USING (_campaign)")],
    }
    return [
        Check(
            name,
            "requests" if name in _ABOUT_REQUESTS else "recommendations",
            description,
            tuple(expectations[name]),
            severity="warn" if name == "has_recommendations" else "error",
        )
        for name, description in CAMPAIGN_CHECKS.items()
    ]


def _no_rows(query: str) -> Expectation:
    return Expectation("UnexpectedRowsExpectation", {"unexpected_rows_query": query})
