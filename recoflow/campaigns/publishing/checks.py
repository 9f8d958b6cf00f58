"""The checks of staged campaigns, which say what people see beside them, of lists and of audiences alike.

What belongs here: which checks a campaign gets, and what they are told of it. What does not: the checks themselves (see
`quality` and `experiments`), and the audit, which shares nothing with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from recoflow.campaigns.audiences import staged_audiences
from recoflow.campaigns.audiences.staged_audiences import StagedAudiences
from recoflow.campaigns.lists import experiments
from recoflow.campaigns.publishing import plausibility
from recoflow.campaigns.staging import staged
from recoflow.campaigns.staging.staged import StagedLists
from recoflow.quality import audience_suite, gx_suites
from recoflow.quality.finding import Finding
from recoflow.quality.gx_runner import Validate
from recoflow.settings.environment import Environment

Answered = StagedLists | StagedAudiences
CHECKS: Final = gx_suites.CAMPAIGN_CHECKS | experiments.CHECKS | plausibility.CHECKS
WARN: Final = (*experiments.CHECKS, *plausibility.WARN)  # those that never block


def check_staged(answered: Mapping[str, tuple[Answered, Environment]], validate: Validate) -> dict[str, list[Finding]]:
    """Check staged campaigns, together where they must look alike.

    Args:
        answered: campaign's key → what is staged, and the environment as it was answered in.
        validate: runs the checks of tables.

    Returns:
        Key → a finding for each of CHECKS. What does not apply has passed and says so.
    """
    seen = {
        key: gx_suites.Campaign(key, result.campaign_id, result.parts, result.requests, result.items)
        for key, (result, _) in answered.items()
    }
    of_audiences = [seen[key] for key, (result, _) in answered.items() if isinstance(result, StagedAudiences)]
    findings = audience_suite.audiences(of_audiences, columns=staged_audiences.PARTS.names(), validate=validate)
    of_lists: dict[tuple[tuple[str, ...], str, float], list[gx_suites.Campaign]] = {}
    for key, (result, environment) in answered.items():
        if isinstance(result, StagedLists):
            alike = result.information_fields, environment.campaigns.provider, environment.quality.max_fallback_share
            of_lists.setdefault(alike, []).append(seen[key])
    for (information_fields, provider, max_fallback_share), campaigns in of_lists.items():
        findings |= gx_suites.check_campaign_tables(
            campaigns,
            columns=staged.part_columns(information_fields).names(),
            provider=provider,
            max_fallback_share=max_fallback_share,
            validate=validate,
        )
    return {key: [*findings[key], *_judged(*each)] for key, each in answered.items()}


def _judged(result: Answered, environment: Environment) -> list[Finding]:
    """Whether the experiments of lists are balanced, and whether the request and the settings can be meant."""
    if isinstance(result, StagedLists):
        arms = pl.read_parquet(result.requests, columns=["user_id", "device_id", "version"])
        balance = experiments.balance(arms, environment.campaigns, result.suspended)
        return [balance, *plausibility.check_plausibility(result, environment.quality)]
    message = "not applicable: the request is for audiences"
    return [Finding(name, passed=True, message=message) for name in experiments.CHECKS | plausibility.CHECKS]
