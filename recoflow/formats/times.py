"""When an event happened: epoch numbers and ISO 8601 with a zone, refused with the likely cause.

What belongs here: the rules about one timestamp. What does not: which field carries it.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Final

from recoflow.formats.rejects import EventError, shortened

EARLIEST: Final = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
TOLERANCE: Final = timedelta(days=1)  # clocks of browsers and phones may run ahead by this much
SECONDS_BELOW: Final = 100_000_000_000  # as seconds the year 5138, as milliseconds 1973: no number is both in range
_NUMBERS_FROM: Final = 100_000_000  # a smaller number is a year or a mistake

_WHOLE = re.compile(r"([+-]?[0-9]{1,19})(?:\.0+)?")  # pandas writes a column with gaps as 1777636800000.0
_DECIMAL = re.compile(r"[+-]?[0-9]*[.,][0-9]*([eE][+-]?[0-9]+)?|[+-]?[0-9]+[eE][+-]?[0-9]+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?P<separator>.)([0-9]{2}:[0-9]{2})(:[0-9]{2})?([.,][0-9]{1,9})?"
    r"(?P<zone>Z|z|[+-][0-9]{2}:?[0-9]{2}|[+-][0-9]{2})?"
)
_UNITS = {"seconds": 1_000_000.0, "milliseconds": 1_000.0, "microseconds": 1.0, "nanoseconds": 0.001}
_MILLISECONDS_CURE = "send milliseconds since 1970 or ISO 8601 with a zone, e.g. 2026-05-01T12:00:00Z"


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime, exact."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def latest(received_at: datetime) -> int:
    """The last microsecond that an event received at this time may carry."""
    return micros(received_at + TOLERANCE)


def event_time(value: object, field: str, latest_micros: int, *, has_seconds: bool) -> int:
    """Microseconds since 1970 of an event's timestamp.

    Args:
        value: a JSON value or a CSV cell.
        field: name for messages.
        latest_micros: see `latest`.
        has_seconds: whether epoch seconds are read too, told from milliseconds by their size (Froomle), or are an
            error (Metarank).

    Raises:
        EventError: with one of the timestamp codes.
    """
    number = _whole_number(value, field)
    if number is None:
        moment = iso_time(value, field)
        _check_range(moment, None, field, latest_micros)
        return moment
    factor = 1_000_000 if has_seconds and abs(number) < SECONDS_BELOW else 1_000
    moment = number * factor
    _check_range(moment, number, field, latest_micros)
    return moment


def publication(value: object, field: str) -> int:
    """Microseconds since 1970 of when an item was published, which may be a day: UTC where no zone is named [R].

    Epoch numbers are seconds or milliseconds, told from each other by their size, of 1973 to 5138.

    Raises:
        EventError: with one of the timestamp codes.
    """
    number = _whole_number(value, field)
    if number is not None:
        if not _NUMBERS_FROM <= number < SECONDS_BELOW * 1000:
            raise _unreadable(value, field)
        return number * (1_000_000 if number < SECONDS_BELOW else 1_000)
    text = value.strip() if isinstance(value, str) else ""
    if _DATE.fullmatch(text):
        text += "T00:00Z"
    elif (match := _ISO.fullmatch(text)) and match["zone"] is None:
        text += "Z"
    return iso_time(text[:10] + text[10:].replace(" ", "T", 1), field) if text else iso_time(value, field)


def iso_time(value: object, field: str) -> int:
    """Microseconds since 1970 of ISO 8601 text with a zone, of any year; finer digits are cut off.

    Raises:
        EventError: timestamp_unreadable, timestamp_no_zone or timestamp_date_only.
    """
    if not isinstance(value, str):
        raise _unreadable(value, field)
    text = value.strip()
    if _DATE.fullmatch(text):
        raise EventError(
            "timestamp_date_only", field, f"{field}: '{text}' is a date without a time; {_MILLISECONDS_CURE}"
        )
    match = _ISO.fullmatch(text)
    if match is None or match["separator"] not in "Tt ":
        raise _unreadable(value, field)
    written = text.replace(" ", "T")
    if match["zone"] is None:
        cure = f"append Z when it is UTC, else the offset; send e.g. {written}Z"
        raise EventError("timestamp_no_zone", field, f"{field}: '{text}' has no time zone; {cure}")
    if match["separator"] == " ":
        problem = f"'{text}' has a space where ISO 8601 has a T between date and time; send {written}"
        raise EventError("timestamp_unreadable", field, f"{field}: {problem}")
    try:
        return micros(datetime.fromisoformat(text.upper()))
    except (ValueError, OverflowError):  # the shape is right, the day or the hour does not exist
        raise _unreadable(value, field) from None


def _whole_number(value: object, field: str) -> int | None:
    if isinstance(value, bool):
        raise _unreadable(value, field)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value) or value != math.floor(value):
            raise _fraction(value, field)
        return int(value)
    if isinstance(value, str):
        text = value.strip()
        if match := _WHOLE.fullmatch(text):
            return int(match[1])
        if _DECIMAL.fullmatch(text):
            raise _fraction(value, field)
    return None


def _check_range(moment: int, number: int | None, field: str, latest_micros: int) -> None:
    if EARLIEST <= moment <= latest_micros:
        return
    if number is not None:
        for unit, factor in _UNITS.items():
            if EARLIEST <= number * factor <= latest_micros:
                code = "timestamp_seconds" if unit == "seconds" else "timestamp_unit"
                raise EventError(
                    code, field, f"{field}: {number} is a time in {unit}, read as milliseconds; {_MILLISECONDS_CURE}"
                )
    shown = shortened(number if number is not None else _shown(moment))
    if moment < EARLIEST:
        raise EventError(
            "timestamp_too_early",
            field,
            f"{field}: {shown} lies before the year 2000; check the unit of the clock that made it, "
            f"then {_MILLISECONDS_CURE}",
        )
    raise EventError(
        "timestamp_in_future",
        field,
        f"{field}: {shown} lies more than one day ahead of its receipt; check the sender's clock and unit, "
        f"then {_MILLISECONDS_CURE}",
    )


def _shown(moment: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment)).isoformat()


def _unreadable(value: object, field: str) -> EventError:
    return EventError(
        "timestamp_unreadable", field, f"{field}: {shortened(repr(value))} is no time; {_MILLISECONDS_CURE}"
    )


def _fraction(value: object, field: str) -> EventError:
    return EventError(
        "timestamp_fraction", field, f"{field}: {shortened(value)} is no whole number; {_MILLISECONDS_CURE}"
    )
