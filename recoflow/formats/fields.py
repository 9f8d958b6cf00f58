"""Reading one field of an event: texts, numbers, and the name of the environment.

What belongs here: rules that more than one dialect shares. What does not: which fields a dialect has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from recoflow.formats import canonical
from recoflow.formats.rejects import EventError, shortened

BLANK: Final = " \t\r\n"
NO_IDENTITY: Final = ("anonymous", "not available", "logged out", "null", "undefined")  # [R] in any case of letters

AVAILABILITIES: Final = ("availability", "is_available")  # two names of one attribute
_YES = (
    *("true", "t", "yes", "y", "1", "1.0", "on", "available", "in stock", "in_stock", "in-stock", "instock"),
    *("http://schema.org/instock", "https://schema.org/instock"),
)
_NO = (
    *("false", "f", "no", "n", "0", "0.0", "off", "unavailable", "not available", "not_available", "discontinued"),
    *("out of stock", "out_of_stock", "out-of-stock", "outofstock", "sold out", "sold_out", "sold-out", "soldout"),
    *("http://schema.org/outofstock", "https://schema.org/outofstock"),
    *("http://schema.org/soldout", "https://schema.org/soldout"),
    *("http://schema.org/discontinued", "https://schema.org/discontinued"),
)
AVAILABLE: Final[Mapping[str, bool]] = {**dict.fromkeys(_YES, True), **dict.fromkeys(_NO, False)}  # in lower case [R]

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


def number(event: Mapping[str, object], name: str, example: str = "12.50") -> float | None:
    """The number under `name`, also from its text; None when it is absent, null or blank.

    Raises:
        EventError: wrong_type, not_a_number or out_of_range.
    """
    value = event.get(name)
    if value is None or (isinstance(value, str) and not value.strip(BLANK)):
        return None
    return parsed_number(value, name, example)


def availability(value: object, field: str) -> bool:
    """Whether an item is to be had, by a switch, its number or one of the words of `AVAILABLE`.

    Raises:
        EventError: wrong_type. What is not understood is never taken for available.
    """
    found = AVAILABLE.get(str(value).strip(BLANK).lower()) if isinstance(value, bool | int | float | str) else None
    if found is None:
        shown = shortened(canonical.json_text(value))
        raise EventError("wrong_type", field, f"{field}: {shown} is neither yes nor no; send true or false")
    return found


def parsed_number(value: object, field: str, example: str = "12.50") -> float:
    """A finite number from a JSON number or its text.

    Raises:
        EventError: wrong_type, not_a_number or out_of_range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise EventError("wrong_type", field, f"{field}: {shortened(canonical.json_text(value))} is no number")
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip(BLANK)):
        cure = f"write digits, e.g. {example}"
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
