from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recoflow.campaigns import filename
from recoflow.campaigns.rejection import RequestRejectedError

WHEN = datetime(2020, 2, 2, 20, 22, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    "name",
    [
        "lorem_weekly_mail_2020-02-02T20:22:02Z.csv",
        "lorem_weekly_mail_2020-02-02T20%3A22%3A02Z.csv",
        "lorem_weekly_mail_2020-02-02T20%3a22%3a02z.CSV",
        "lorem_weekly_mail_2020-02-02T202202Z.csv",
        "lorem_weekly_mail_2020-02-02_20-22-02.csv.gz",
        "lorem_weekly_mail_20200202T202202Z.csv",
    ],
)
def test_every_spelling_of_the_date_gives_the_same_campaign_and_time(name: str) -> None:
    parsed = filename.parse(name, "lorem")
    assert (parsed.campaign, parsed.date, parsed.stem + parsed.suffix) == ("weekly_mail", WHEN, name)


def test_a_date_without_a_time_is_midnight() -> None:
    assert filename.parse("weekly-2020-02-02.csv", "lorem").date == datetime(2020, 2, 2, tzinfo=UTC)


def test_the_last_date_of_the_name_counts() -> None:
    assert filename.parse("recap_of_2019-12-31_2020-02-02.csv", "lorem").date == datetime(2020, 2, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("lorem_weekly_mail.csv", "name_without_date"),
        ("lorem_2020-13-45.csv", "name_without_date"),
        ("lorem_120200202345.csv", "name_without_date"),
        ("lorem_2020-02-02.txt", "name_not_csv"),
        ("lorem_2020-02-02.csv.zip", "name_not_csv"),
        ("lorem\n2020-02-02.csv", "name_unsafe"),
        ("../lorem_2020-02-02.csv", "name_unsafe"),
        ("lorem\u202e2020-02-02.csv", "name_unsafe"),
        ("lor\udce9m_2020-02-02.csv", "name_unsafe"),
        (".lorem_2020-02-02.csv", "name_unsafe"),
        ("é" * 100 + "_2020-02-02.csv", "name_unsafe"),
        ("", "name_unsafe"),
    ],
)
def test_other_names_are_refused_with_a_reason(name: str, code: str) -> None:
    with pytest.raises(RequestRejectedError) as refused:
        filename.parse(name, "lorem")
    assert refused.value.rejection.code == code


@settings(deadline=None)
@given(name=st.text(st.characters(codec=None), max_size=300), revision=st.integers(1, 999))
def test_keys_are_safe_for_a_partition_whatever_the_name(name: str, revision: int) -> None:
    key = filename.campaign_key("lorem", name, "ab" * 32, revision)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}", key)


def test_keys_tell_names_contents_environments_and_revisions_apart() -> None:
    keys = {
        filename.campaign_key(environment, name, sha256, revision)
        for environment in ("lorem", "ipsum")
        for name in ("a:b_2020-02-02.csv", "a-b_2020-02-02.csv", "a-b_2020-02-02.csv.gz")
        for sha256 in ("0", "1")
        for revision in (1, 2)
    }
    assert len(keys) == 24


def test_the_key_can_be_read() -> None:
    key = filename.campaign_key("lorem", "lorem_weekly_mail_2020-02-02T20:22:02Z.csv", "0", 2)
    assert re.fullmatch(r"lorem_weekly_mail_2020-02-02T20-22-02Z\.[0-9a-f]{12}\.r2", key)


def test_side_files_stand_beside_the_response() -> None:
    name = "lorem_weekly_mail_2020-02-02T20:22:02Z.csv.gz"
    assert filename.errors_name(name) == "lorem_weekly_mail_2020-02-02T20:22:02Z.errors.csv"
    assert filename.manifest_name(name) == "lorem_weekly_mail_2020-02-02T20:22:02Z.manifest.json"


@settings(deadline=None)
@given(name=st.text(st.characters(codec=None), max_size=300))
def test_side_files_have_safe_names_whatever_the_request_is_called(name: str) -> None:
    safe = filename.errors_name(name)
    assert 0 < len(safe.encode("utf-8")) <= filename.MAX_BYTES + len(".errors.csv")
    assert not set(safe) & set("/\\\n\r\0")
    assert not safe.startswith(".")
