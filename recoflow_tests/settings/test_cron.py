"""Cron lines are refused by us, by name, before the scheduler refuses them and all environments with them."""

from __future__ import annotations

import re

import pytest
from dagster._utils.schedules import is_valid_cron_schedule
from hypothesis import given
from hypothesis import strategies as st

from recoflow.settings import cron


def terms(least: int, most: int, *names: str) -> st.SearchStrategy[str]:
    """One of a field's terms: mostly right, at times a number too far."""
    values = st.one_of(st.integers(least, most + 1).map(str), st.sampled_from([str(least), *names]))
    spans = st.one_of(st.just("*"), values, st.builds("{}-{}".format, values, values))
    return st.one_of(spans, st.builds("{}/{}".format, spans, st.integers(0, most)))


FIELDS = (terms(0, 59), terms(0, 23), terms(1, 31), terms(1, 12, "jan", "Dec"), terms(0, 7, "mon", "SUN"))
LINES = st.tuples(*(st.lists(field, min_size=1, max_size=2).map(",".join) for field in FIELDS)).map(" ".join)


def problem_of(line: str) -> str | None:
    try:
        cron.check_cron(line)
    except ValueError as error:
        return str(error)
    return None


@given(LINES)
def test_a_line_is_accepted_when_the_scheduler_accepts_it_and_it_is_ever_due(line: str) -> None:
    problem = problem_of(line)
    assert (problem is None) == is_valid_cron_schedule(line) or "never comes" in str(problem)


@pytest.mark.parametrize(
    "line",
    [
        "0 3 * * *",
        "*/5 * * * *",
        "0,30 6-22/2 1,15 * *",
        "15 4 * * Sun",
        "0 6 * jan-MAR mon-fri",
        "0 0 29 2 *",
        "5/15 * * * 7",
        "0 22-6 * * sat-sun",
        "*/90 * * * *",
        "0 0 L * *",
        "0 0 1,l 2 *",
        "0 0 ? * ?",
        "0 0 * * Mon#2",
        "0 0 * * 1#1,tue#2",
        "0 0 * * L5",
        "0 0 * * l0,Mon#1",
    ],
)
def test_a_line_that_crontab_understands_is_accepted(line: str) -> None:
    assert cron.check_cron(line) == line
    assert is_valid_cron_schedule(line)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("0 3 * *", "five fields"),
        ("@daily", "five fields"),
        ("60 3 * * *", "the minute '60', but 60 is not from 0 to 59"),
        ("0 24 * * *", "the hour '24', but 24 is not from 0 to 23"),
        ("0 3 0 * *", "the day of the month '0', but 0 is not from 1 to 31"),
        ("0 3 * 13 *", "the month '13', but 13 is not from 1 to 12"),
        ("0 3 * * 8", "the day of the week '8', but 8 is not from 0 to 7"),
        ("0 3 * * someday", "but someday is not from 0 to 7"),
        ("0 three * * *", "the hour 'three'"),
        ("0 3, * * *", "the hour ''"),
        ("*/0 * * * *", "the minute '*/0', whose step is 0"),
        ("0 3 30 2 *", "a day that never comes: 30 in month 2"),
        ("0 3 31 4,6 *", "a day that never comes"),
        ("0 L * * *", "but L is not from 0 to 23"),
        ("? 0 * * *", "the minute '?'"),
        ("0 0 * * mon,tue#2", "the day of the week 'tue#2'"),
        ("0 0 * * mon#6", "the day of the week 'mon#6'"),
        ("0 3 -1 * *", "no number, range, step or list"),
    ],
)
def test_a_line_that_is_wrong_is_told_by_its_field(line: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        cron.check_cron(line)
