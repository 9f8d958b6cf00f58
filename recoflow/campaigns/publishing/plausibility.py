"""What a campaign's counts say about its request and its settings: whether they can be meant as they are.

What belongs here: checks of what was answered as it was asked for, and is hardly what anybody wanted. What does not:
whether lists are right (see `violations`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from recoflow import schema
from recoflow.quality.finding import Finding

if TYPE_CHECKING:
    from recoflow.campaigns.staging.staged import StagedLists
    from recoflow.settings.sections import Quality

KNOWN: Final = "users_known"
FILLED: Final = "information_filled"
CHECKS: Final = {
    KNOWN: "The model in service knows enough of the people in the request.",
    FILLED: "No information field is empty in too many rows.",
}
WARN: Final = (FILLED,)
LEAST_MODEL: Final = 1000  # people that a model must know for strangers to be a fault, not a beginning
LEAST_PEOPLE: Final = 5  # fewer may well be a test with made-up people


def check_plausibility(staged: StagedLists, quality: Quality) -> list[Finding]:
    """A finding for each of CHECKS."""
    return [_known(staged, quality.min_known_share), _filled(staged, quality.max_empty_information_share)]


def _known(staged: StagedLists, least: float) -> Finding:
    """Strangers get lists like anybody else, so that nothing else shows that the ids are none that events have."""
    people, known = staged.counts.people, staged.counts.people_known
    is_serious = staged.model_people >= LEAST_MODEL and people >= LEAST_PEOPLE
    metadata = {"people": people, "known": known, "people_of_the_model": staged.model_people, "limit": least}
    if known >= least * people:
        return Finding(KNOWN, passed=True, message=CHECKS[KNOWN], metadata=metadata)
    message = (
        f"The model knows {known:,} of the {people:,} people in the request, fewer than {least:.0%}. Compare the ids "
        "with those of the events: spreadsheets round long numbers and drop leading zeros. If these people are new, "
        "lower quality.min_known_share."
    )
    return Finding(KNOWN, passed=False, message=message, severity="error" if is_serious else "warn", metadata=metadata)


def _filled(staged: StagedLists, most: float) -> Finding:
    """`because_of` is left out: it is empty wherever nothing led to an item."""
    rows, empty = staged.counts.items, staged.counts.empty_information
    wrong = {name: cells for name, cells in empty.items() if name != schema.BECAUSE_OF and cells > most * rows}
    metadata = {"rows": rows, "empty": empty, "limit": most}
    if not wrong:
        return Finding(FILLED, passed=True, message=CHECKS[FILLED], severity="warn", metadata=metadata)
    shown = ", ".join(f"'{name}' in {cells:,}" for name, cells in wrong.items())
    message = (
        f"Information fields are empty: {shown} of {rows:,} rows. Compare campaigns.information_fields with the "
        "attributes that items are sent with, or raise quality.max_empty_information_share."
    )
    return Finding(FILLED, passed=False, message=message, severity="warn", metadata=metadata)
