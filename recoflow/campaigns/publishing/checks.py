"""The checks of staged campaigns, of lists and of audiences alike, as great-expectations runs and people see them.

What does not belong here: what can be wrong (`violations`, `plausibility`, `experiments`), and the publisher's gate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

from recoflow.campaigns.audiences import staged_audiences
from recoflow.campaigns.audiences.staged_audiences import StagedAudiences
from recoflow.campaigns.lists import experiments
from recoflow.campaigns.publishing import audience_violations, plausibility, violations
from recoflow.campaigns.publishing.violations import StagedTables
from recoflow.campaigns.staging import staged
from recoflow.campaigns.staging.staged import StagedLists
from recoflow.quality.finding import Finding
from recoflow.quality.gx_runner import Check, Expectation, Validate
from recoflow.settings.environment import Environment
from recoflow.storage.sql import quoted

Answered = StagedLists | StagedAudiences
CHECKS: Final = (
    violations.CHECKS
    | {"no_duplicate_users": audience_violations.CHECKS["no_duplicate_users"]}
    | experiments.CHECKS
    | plausibility.CHECKS
)
WARN: Final = (*experiments.CHECKS, *plausibility.WARN)  # those that never block


def check_staged(answered: Mapping[str, tuple[Answered, Environment]], validate: Validate) -> dict[str, list[Finding]]:
    """Check staged campaigns, together where they must look alike.

    Args:
        answered: campaign's key → what is staged, and the environment as it was answered in.
        validate: runs the checks of tables.

    Returns:
        Key → a finding for each of CHECKS. What does not apply has passed and says so.
    """
    audiences: list[StagedTables] = []
    lists: dict[tuple[tuple[str, ...], str, float], list[StagedTables]] = {}
    for key, (result, environment) in answered.items():
        tables = StagedTables(key, result.campaign_id, result.parts, result.requests, result.items)
        if isinstance(result, StagedAudiences):
            audiences.append(tables)
        else:
            alike = result.information_fields, environment.campaigns.provider, environment.quality.max_fallback_share
            lists.setdefault(alike, []).append(tables)
    findings = check_audiences(audiences, validate)
    for (information_fields, provider, max_fallback_share), campaigns in lists.items():
        columns = staged.part_columns(information_fields).names()
        findings |= check_lists(campaigns, columns, provider, max_fallback_share, validate)
    return {key: _complete(findings[key], *each) for key, each in answered.items()}


def check_lists(
    campaigns: Sequence[StagedTables],
    columns: Sequence[str],
    provider: str,
    max_fallback_share: float,
    validate: Validate,
) -> dict[str, list[Finding]]:
    """Check staged lists of one environment.

    Args:
        campaigns: what is staged.
        columns: that the parts must have.
        provider: user_group of lists that are no fallback.
        max_fallback_share: limit of the share of fallback lists.
        validate: runs the checks.

    Returns:
        Key of a campaign → a finding for each of `violations.CHECKS`.
    """
    over = f"GROUP BY _campaign HAVING avg((user_group = 'fallback')::INT) > {float(max_fallback_share)}"
    queries = violations.VIOLATIONS | {"fallback_share": f"SELECT NULL FROM requests {over}"}
    groups = Expectation("ExpectColumnValuesToBeInSet", {"column": "user_group", "value_set": [provider, "fallback"]})
    checks = _checks(violations.CHECKS, columns) | {
        "user_groups_known": _check("user_groups_known", violations.CHECKS["user_groups_known"], "groups", groups)
    }
    derived = violations.DERIVED | {"problems": _found(queries)}
    return _in_halves(campaigns, list(checks.values()), derived, ("row", "rank", "score"), validate)


def check_audiences(campaigns: Sequence[StagedTables], validate: Validate) -> dict[str, list[Finding]]:
    """Check staged audiences of one environment: key of a campaign → a finding for each of their CHECKS."""
    checks = _checks(audience_violations.CHECKS, staged_audiences.PARTS.names())
    derived = audience_violations.DERIVED | {"problems": _found(audience_violations.VIOLATIONS)}
    return _in_halves(campaigns, list(checks.values()), derived, ("row", "rank", "score", "subject"), validate)


def _complete(findings: Sequence[Finding], result: Answered, environment: Environment) -> list[Finding]:
    """With whether experiments are balanced, and whether request and settings can be meant; in the order of CHECKS."""
    more: list[Finding] = []
    if isinstance(result, StagedLists):
        arms = pl.read_parquet(result.requests, columns=["user_id", "device_id", "version"])
        more.append(experiments.balance(arms, environment.campaigns, result.suspended))
        more += plausibility.check_plausibility(result, environment.quality)
    known = {finding.check: finding for finding in (*findings, *more)}
    kind = "audiences" if isinstance(result, StagedAudiences) else "lists"
    message = f"not applicable: the request is for {kind}"
    return [known.get(check) or Finding(check, passed=True, message=message) for check in CHECKS]


def _in_halves(
    campaigns: Sequence[StagedTables],
    checks: Sequence[Check],
    derived: Mapping[str, str],
    ordered: tuple[str, ...],
    validate: Validate,
) -> dict[str, list[Finding]]:
    """Check campaigns together, and where something is wrong with one, in halves, down to the culprit.

    great-expectations takes most of a second however little there is to check.
    """
    if not campaigns:
        return {}
    findings = validate(violations.tables(campaigns, ordered), checks, derived)
    if len(campaigns) == 1 or all(finding.passed for finding in findings):
        return {campaign.key: findings for campaign in campaigns}
    half = len(campaigns) // 2
    return _in_halves(campaigns[:half], checks, derived, ordered, validate) | _in_halves(
        campaigns[half:], checks, derived, ordered, validate
    )


def _checks(meanings: Mapping[str, str], columns: Sequence[str]) -> dict[str, Check]:
    """A check for each of these meanings: that its query found nothing, but for two that expectations are made for."""
    complete = Expectation("ExpectTableColumnsToMatchOrderedList", {"column_list": [*columns, "_campaign"]})
    present = Expectation("ExpectColumnValuesToBeNull", {"column": "missing"})
    expected = {"columns_complete": ("recommendations", complete), "required_values_present": ("groups", present)}
    return {
        name: _check(name, meaning, *expected.get(name, ("problems", _none_found(name))))
        for name, meaning in meanings.items()
    }


def _check(name: str, meaning: str, table: str, expectation: Expectation) -> Check:
    return Check(name, table, meaning, (expectation,), severity="warn" if name == "has_recommendations" else "error")


def _none_found(check: str) -> Expectation:
    query = f"SELECT problem FROM {{batch}} WHERE problem = {quoted(check)}"
    return Expectation("UnexpectedRowsExpectation", {"unexpected_rows_query": query})


def _found(queries: Mapping[str, str]) -> str:
    """The query for a row with the check's name for each row that its query finds.

    It is made a table, because an expectation would compute the query twice: for the rows, and for their number.
    """
    return " UNION ALL ".join(f"SELECT {quoted(check)} AS problem FROM ({query})" for check, query in queries.items())
