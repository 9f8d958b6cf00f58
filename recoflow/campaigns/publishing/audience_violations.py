"""What can be wrong with staged audiences, as SQL over their files; see `violations`."""

from __future__ import annotations

from typing import Final

from recoflow.campaigns.publishing.violations import TORN, answers, common_violations, missing

CHECKS: Final = {
    "columns_complete": "The columns are those of the response, in its order, then those of the checks.",
    "required_values_present": "No required value is missing, and every user or device has one id.",
    "order_kept": "Audiences are in the order of the request, ranks are 1, 2, … N, scores are finite and never rise, "
    "equal ones are ordered by subject.",
    "rows_match": "Every audience is for its row of the request, not larger than asked for, and counted.",
    "request_ids_unique": "Every row of the request has an identifier of its own.",
    "items_recommendable": "Every item that somebody was chosen for is known, enabled and available.",
    "no_duplicate_users": "No audience holds a user or device twice.",
    "has_recommendations": "The campaign chooses somebody.",
}
OF_REQUESTS: Final = ("request_id", "audience_name", "item_id")

DERIVED: Final = {
    "groups": "SELECT _campaign, campaign_id, "
    + missing(
        {
            name: f"count({name}) < count(*)"
            for name in ("campaign_id", "request_id", "item_id", "rank", "subject", "best_item", "score")
        }
        | {"id": "count_if((user_id IS NULL) = (device_id IS NULL)) > 0"}
    )
    + " FROM recommendations GROUP BY ALL",
    "answers": answers(
        OF_REQUESTS,
        "count(DISTINCT subject) AS subjects",
        "bool_or(coalesce(row = row_before AND score = score_before AND subject <= subject_before, false)) AS is_mixed",
    ),
}

VIOLATIONS: Final = common_violations("people", "audience_size", "best_item", OF_REQUESTS) | {
    "order_kept": f"SELECT row FROM answers WHERE is_out_of_order OR is_rising OR is_mixed UNION ALL {TORN}",
    "no_duplicate_users": "SELECT row FROM answers WHERE subjects <> given",
}
