"""Cron lines: what makes one that the scheduler accepts, so that a wrong one is told by file, line and key.

What belongs here: syntax and limits of the five fields. What does not: when a line is due, which is the scheduler's.

Source: crontab(5), without its `@` words; names of months and days as there, in any case. Ranges may go over the end,
and beside them the scheduler knows `?` for any day, `L` for the last one of a month, `Mon#2` for the second Monday and
`L5` for the last Friday.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable
from typing import Final, NamedTuple


class _Field(NamedTuple):
    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()  # of `least` and those after it
    special: re.Pattern[str] | None = None  # what the whole field may be instead


_DAYS: Final = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_NTH_DAY: Final = rf"(([0-7]|{'|'.join(_DAYS)})#[1-5]|L[0-7])"
_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31, special=re.compile(r"\?")),
    _Field("month", 1, 12, ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")),
    _Field("day of the week", 0, 7, _DAYS, re.compile(rf"\?|{_NTH_DAY}(,{_NTH_DAY})*", re.IGNORECASE)),
)
_TERM: Final = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?", re.ASCII)
_LEAP_YEAR: Final = 2024


def check_cron(line: str) -> str:
    """The line as it is.

    Raises:
        ValueError: naming the field and what is wrong with it.
    """
    parts = line.split()
    if len(parts) != len(_FIELDS):
        raise ValueError("is not a cron line of five fields, e.g. '0 3 * * *'")
    fields = [_values(part, field) for part, field in zip(parts, _FIELDS, strict=True)]
    days, months = fields[2], fields[3]
    if not any(day <= calendar.monthrange(_LEAP_YEAR, month)[1] for day in days for month in months):
        raise ValueError(f"names a day that never comes: {parts[2]} in month {parts[3]}")
    return line


def _values(part: str, field: _Field) -> set[int]:
    if field.special and field.special.fullmatch(part):
        return set(range(field.least, field.most + 1))
    values: set[int] = set()
    for term in part.split(","):
        values.update(_range(term, field))
    return values


def _range(term: str, field: _Field) -> Iterable[int]:
    if term.upper() == "L" and field.name == "day of the month":
        return (28,)  # each month has a last day
    found = _TERM.fullmatch(term)
    if not found:
        raise ValueError(f"has the {field.name} '{term}', which is no number, range, step or list of them")
    step = int(found["step"] or 1)
    if step < 1:
        raise ValueError(f"has the {field.name} '{term}', whose step is 0")
    if found["first"] is None:
        return range(field.least, field.most + 1, step)
    first = _value(found["first"], term, field)
    last = _value(found["last"], term, field) if found["last"] else field.most if found["step"] else first
    if last < first:  # over midnight, the weekend, the end of the year: the scheduler understands that
        return (*range(first, field.most + 1), *range(field.least, last + 1))
    return range(first, last + 1, step)


def _value(text: str, term: str, field: _Field) -> int:
    if text.capitalize() in field.names:
        return field.names.index(text.capitalize()) + field.least
    if not text.isdigit() or not field.least <= int(text) <= field.most:
        raise ValueError(f"has the {field.name} '{term}', but {text} is not from {field.least} to {field.most}")
    return int(text)
