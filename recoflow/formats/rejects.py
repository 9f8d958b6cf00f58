"""Why one event is refused: the stable codes, each with its meaning, and the exception that carries one.

What belongs here: the vocabulary of refusal. What does not: the rules that refuse; they live with their dialect.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Final

CODES: Final[Mapping[str, str]] = {
    # The text of the event
    "not_json": "the text is not JSON",
    "json_comment": "the text has comments, which JSON does not know",
    "json_trailing_comma": "the text has a comma before a closing bracket, which JSON does not know",
    "json_not_finite": "the text has NaN or Infinity, or a number too large for a double",
    "json_truncated": "the text ends in the middle of an event",
    "not_utf8": "the text is not UTF-8, or escapes half a character",
    "not_an_object": "the text is JSON but no object",
    "too_deep": "objects or lists are nested too deep",
    "too_long": "the event is longer than recoflow reads",
    "wrong_field_count": "the CSV row has more or fewer fields than the header",
    "bad_quoting": "the CSV row's quotes do not match",
    "second_header": "the CSV row repeats the header",
    # Its fields
    "missing_field": "a field that this kind of event needs is absent, empty or null",
    "missing_identity": "neither user_id nor device_id says who it was",
    "empty_value": "a value that may be absent but not empty is empty",
    "wrong_type": "a value is of another type than the field's",
    "not_a_number": "a text in the place of a number is not one",
    "out_of_range": "a number is outside of what the field can mean",
    "unknown_event_type": "the kind of event is none of the known ones",
    "unknown_channel": "the channel is not known to the environment",
    "unknown_page_type": "the page type is not known to the environment",
    "conflicting_alias": "two names of one field carry different values",
    "other_environment": "the event names another environment than the one where it arrived",
    "bad_fields": "Metarank's fields are not a list of name and value, or a value is of no known type",
    "empty_ranking": "a ranking shows no items",
    "ranking_too_large": "the items of a ranking, each with the ranking's fields, are more than recoflow reads",
    # Its time
    "timestamp_unreadable": "the timestamp is neither a whole number nor ISO 8601",
    "timestamp_no_zone": "the timestamp has no time zone",
    "timestamp_date_only": "the timestamp is a date without a time",
    "timestamp_fraction": "the timestamp is a number with a fraction",
    "timestamp_seconds": "the timestamp is in seconds where milliseconds are read",
    "timestamp_unit": "the timestamp is in micro- or nanoseconds",
    "timestamp_too_early": "the timestamp lies before the year 2000",
    "timestamp_in_future": "the timestamp lies more than a day ahead",
}


class EventError(Exception):
    """One event cannot be accepted. Never leaves `recoflow.formats`: it becomes a row of `schema.REJECTS`.

    Args:
        code: one of `CODES`.
        field: the field at fault, None when the whole event is unreadable.
        message: for people; names the culprit and the cure.
    """

    def __init__(self, code: str, field: str | None, message: str) -> None:
        if code not in CODES:
            raise ValueError(f"'{code}' is not in rejects.CODES")
        self.code = code
        self.field = field
        self.message = message
        super().__init__(message)


def unknown_value(code: str, field: str, value: str, known: Iterable[str]) -> EventError:
    """A value outside of a vocabulary, with the nearest known one as the cure."""
    names = sorted(known)
    close = difflib.get_close_matches(shortened(value).lower(), names, n=1)
    cure = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(names)}"
    return EventError(code, field, f"{field}: '{shortened(value)}' is not known; {cure}")


def shortened(value: object, length: int = 60) -> str:
    """A value as it may stand in a message."""
    text = str(value)
    return text if len(text) <= length else text[: length - 1] + "…"
