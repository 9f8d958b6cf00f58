"""Reading one field of an event: texts, numbers, and the name of the environment.

What belongs here: rules that more than one dialect shares. What does not: which fields a dialect has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from recoflow.sources import canonical
from recoflow.sources.rejects import EventError, shortened

BLANK: Final = " \t\r\n"
NO_IDENTITY: Final = ("anonymous", "not available", "logged out", "null", "undefined")  # [R] in any case of letters

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def is_nobody(text: str) -> bool:
    """Whether an id stands for nobody, whatever blanks are around it."""
    return text.strip(BLANK).lower() in NO_IDENTITY


def named_text(event: Mapping[str, object], name: str) -> str | None:
    """The text under `name`, without blanks around it; None when it is absent, null or blank [R].

    Raises:
        EventError: wrong_type.
    """
    value = event.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        shown = shortened(canonical.json_text(value))
        raise EventError("wrong_type", name, f"{name}: {shown} is no text; put it in quotes")
    return value.strip(BLANK) or None


def number(event: Mapping[str, object], name: str) -> float | None:
    """The number under `name`, also from its text; None when it is absent, null or blank.

    Raises:
        EventError: wrong_type, not_a_number or out_of_range.
    """
    value = event.get(name)
    if value is None or (isinstance(value, str) and not value.strip(BLANK)):
        return None
    return parsed_number(value, name)


def parsed_number(value: object, field: str) -> float:
    """A finite number from a JSON number or its text.

    Raises:
        EventError: wrong_type, not_a_number or out_of_range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise EventError("wrong_type", field, f"{field}: {shortened(canonical.json_text(value))} is no number")
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip(BLANK)):
        cure = "write digits and a point, e.g. 12.50"
        raise EventError("not_a_number", field, f"{field}: '{shortened(value)}' is no number; {cure}")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise EventError("out_of_range", field, f"{field}: {shortened(value)} is too large for a number")
    return found + 0.0  # -0.0 is 0.0


def check_environment(named: str | None, field: str, own: str) -> None:
    """Refuse what names another environment than the one where it arrived.

    Raises:
        EventError: other_environment.
    """
    if named is not None and named != own:
        raise EventError(
            "other_environment",
            field,
            f"{field}: '{shortened(named)}' is not '{own}', where this arrived; send it to its own environment",
        )
