"""What is expected of each kind of table, written down as checks.

What belongs here: checks as values. What does not: running them (see `expectations`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from recoflow.quality.expectations import Check, Expectation, validate
from recoflow.quality.finding import Finding

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


def campaign(
    parts: Sequence[Path],
    requests: Path,
    items: Path,
    *,
    columns: Sequence[str],
    campaign_id: str,
    provider: str,
    max_fallback_share: float,
) -> list[Finding]:
    """Check a staged campaign.

    Args:
        parts: the staged recommendations.
        requests: the staged rows of the request.
        items: schema.ITEMS of the model bundle.
        columns: that the parts must have.
        campaign_id: of this campaign.
        provider: user_group of lists that are no fallback.
        max_fallback_share: limit of the share of fallback lists.

    Returns:
        A finding for each of CAMPAIGN_CHECKS.
    """
    tables = {"recommendations": parts, "requests": [requests], "items": [items]}
    expectations = {
        "columns_complete": [Expectation("ExpectTableColumnsToMatchOrderedList", {"column_list": list(columns)})],
        "required_values_present": [
            Expectation("ExpectColumnValuesToNotBeNull", {"column": name}) for name in _REQUIRED
        ],
        "one_campaign": [_in_set("campaign_id", [campaign_id])],
        "user_groups_known": [_in_set("user_group", [provider, "fallback"])],
        "ranks_without_gaps": [
            Expectation("ExpectCompoundColumnsToBeUnique", {"column_list": ["request_id", "rank"]}),
            _no_rows(
                "SELECT request_id FROM {batch} GROUP BY request_id HAVING min(rank) <> 1 OR max(rank) <> count(*)"
            ),
        ],
        "no_item_twice_in_a_list": [
            Expectation("ExpectCompoundColumnsToBeUnique", {"column_list": ["request_id", "item_id"]})
        ],
        "no_item_repeated": [
            _no_rows(
                "SELECT subject, item_id FROM {batch} JOIN requests USING (row) GROUP BY subject, item_id "
                "HAVING max(row) FILTER (NOT may_repeat) > min(row)"
            )
        ],
        "items_recommendable": [
            _no_rows(
                "SELECT item_id FROM {batch} ANTI JOIN (FROM items WHERE is_enabled AND is_available) USING (item_id)"
            )
        ],
        "rows_answered": [
            _no_rows(
                "SELECT row FROM {batch} AS given FULL JOIN requests AS asked USING (row) GROUP BY row "
                "HAVING any_value(asked.line) IS NULL OR count(given.item_id) <> any_value(asked.items) "
                "OR count(*) FILTER (given.request_id <> asked.request_id) > 0"
            )
        ],
        "list_sizes_kept": [_no_rows("SELECT row FROM {batch} WHERE items > list_size")],
        "scores_fall_with_rank": [
            _no_rows(
                "SELECT row FROM {batch} WHERE NOT isfinite(score) UNION ALL SELECT row FROM (SELECT row, score, "
                "lag(score) OVER (PARTITION BY row ORDER BY rank) AS above FROM {batch}) WHERE score > above"
            )
        ],
        "fallback_share": [
            _no_rows(
                "SELECT avg((user_group = 'fallback')::INT) AS share FROM {batch} "
                f"HAVING share > {float(max_fallback_share)}"
            )
        ],
        "has_recommendations": [Expectation("ExpectTableRowCountToBeBetween", {"min_value": 1})],
    }
    checks = [
        Check(
            name,
            "requests" if name in _ABOUT_REQUESTS else "recommendations",
            description,
            tuple(expectations[name]),
            severity="warn" if name == "has_recommendations" else "error",
        )
        for name, description in CAMPAIGN_CHECKS.items()
    ]
    return validate(tables, checks)


def _in_set(column: str, values: Sequence[str]) -> Expectation:
    return Expectation("ExpectColumnValuesToBeInSet", {"column": column, "value_set": list(values)})


def _no_rows(query: str) -> Expectation:
    return Expectation("UnexpectedRowsExpectation", {"unexpected_rows_query": query})
