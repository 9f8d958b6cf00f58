"""Checks of one form: of the rows that a query looks at, no more than a share may be wrong.

What belongs here: the form and its finding. What does not: the queries (see `tracking`, `event_checks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import duckdb

from recoflow.quality.finding import Finding

EXAMPLES: Final = 5


@dataclass(frozen=True)
class ShareCheck:
    """A check that tolerates a share.

    Args:
        name: stable snake_case.
        description: what is so when the check passes, and whose check it is: [F], [M] or [R] as in docs/spec/events.md.
        query: gives `example` (text that helps to find the row; never a person's id) and `is_wrong` for each row.
        limit: name of the threshold in `environment.Quality`.
        wrong: what the wrong rows are, for the message: "12 of 40 clicks (30 %) {wrong}".
        cure: what to do about them.
    """

    name: str
    description: str
    query: str
    limit: str
    wrong: str
    cure: str


def check_ratio(
    connection: duckdb.DuckDBPyConnection, check: ShareCheck, limit: float, values: Mapping[str, Any]
) -> Finding:
    """Count, and show the first wrong examples in their order.

    Args:
        connection: has what the query reads.
        check: to make.
        limit: the share that is tolerated.
        values: bound to those `$names` that the query has.

    Returns:
        A finding that passes when nothing was looked at; its metadata has looked_at, wrong, share, limit, examples.
    """
    query = f"""
    WITH judged AS ({check.query})
    SELECT count(*), count(*) FILTER (is_wrong), list_sort(list(DISTINCT example) FILTER (is_wrong))[:{EXAMPLES}]
    FROM judged
    """
    bound = {name: value for name, value in values.items() if f"${name}" in check.query}
    [(looked_at, wrong, examples)] = connection.execute(query, bound or None).fetchall()
    share = wrong / looked_at if looked_at else 0.0
    metadata = {"looked_at": looked_at, "wrong": wrong, "share": share, "limit": limit, "examples": examples or []}
    passed = share <= limit
    message = f"{wrong} of {looked_at} ({share:.1%}) {check.wrong}; {limit:.1%} are tolerated"
    if not passed:
        message += f". {check.cure}. For example: {', '.join(map(str, examples))}"
    return Finding(check.name, passed=passed, message=message, severity="warn", metadata=metadata)
