"""What is expected of staged audiences: the checks of campaigns, as far as they mean something for audiences.

What belongs here: checks as values. What does not: those of lists, and how campaigns are checked together
(`gx_suites`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from recoflow.quality.finding import Finding
from recoflow.quality.gx_runner import Validate, validate
from recoflow.quality.gx_suites import CAMPAIGN_CHECKS, Campaign, alike, checks, found, in_order, judge, missing

MEANINGS: Final = {  # of those of CAMPAIGN_CHECKS that apply
    "columns_complete": "The columns are those of the response, in its order, then those of the checks.",
    "required_values_present": "No required value is missing, and everybody has one id.",
    "one_campaign": "Everybody is of this campaign.",
    "ranks_without_gaps": "The ranks of each audience are 1, 2, … N.",
    "no_item_twice_in_a_list": "No audience holds anybody twice.",
    "items_recommendable": "Every item that somebody was chosen for is in the catalogue, enabled and available.",
    "rows_answered": "Everybody belongs to a row of the request, and every row got the counted people.",
    "requests_distinct": "Every row of the request has an identifier of its own.",
    "list_sizes_kept": "No audience is larger than asked for.",
    "scores_fall_with_rank": "Scores are finite and never rise with the rank.",
    "has_recommendations": "The campaign chooses somebody.",
}
_REQUIRED: Final = {
    name: f"count({name}) < count(*)"
    for name in ("campaign_id", "request_id", "item_id", "rank", "subject", "best_item", "score")
} | {"id": "count_if((user_id IS NULL) = (device_id IS NULL)) > 0"}

_DERIVED: Final = {
    "groups": f"SELECT _campaign, campaign_id, {missing(_REQUIRED)} FROM recommendations GROUP BY ALL",
    "audiences": in_order("people", "count(DISTINCT subject) AS subjects"),
    "problems": found(
        alike("audiences", "people", "best_item")
        | {
            "no_item_twice_in_a_list": "SELECT row FROM audiences WHERE subjects <> people",
            "list_sizes_kept": "SELECT row FROM requests WHERE people > audience_size",
            "scores_fall_with_rank": "SELECT row FROM audiences WHERE unscored > 0 OR rising > 0",
        }
    ),
}


def audiences(
    staged: Sequence[Campaign], *, columns: Sequence[str], validate: Validate = validate
) -> dict[str, list[Finding]]:
    """Check staged audiences of one environment, together as `gx_suites.campaigns` does.

    Args:
        staged: the campaigns; their parts hold people.
        columns: that the parts must have.
        validate: runs the checks.

    Returns:
        Key of a campaign → a finding for each of CAMPAIGN_CHECKS; what does not apply has passed and says so.
    """
    others = [
        Finding(name, passed=True, message="not applicable: the request is for audiences")
        for name in CAMPAIGN_CHECKS
        if name not in MEANINGS
    ]
    judged = judge(staged, checks(MEANINGS, columns), _DERIVED, validate)
    return {key: [*findings, *others] for key, findings in judged.items()}
