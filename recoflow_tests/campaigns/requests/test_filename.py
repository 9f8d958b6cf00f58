from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recoflow.campaigns.requests import filename
from recoflow.campaigns.requests.rejection import RequestRejectedError

WHEN = datetime(2020, 2, 2, 20, 22, 2, tzinfo=UTC)
SIDES = (filename.errors_name, filename.manifest_name)


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
    parsed = filename.parse_filename(name, "lorem")
    assert (parsed.campaign, parsed.date, parsed.stem + parsed.suffix) == ("weekly_mail", WHEN, name)


def test_a_date_without_a_time_is_midnight() -> None:
    assert filename.parse_filename("weekly-2020-02-02.csv", "lorem").date == datetime(2020, 2, 2, tzinfo=UTC)


# What mail tools, schedulers and people write beside ISO 8601.
DAYS = ("%Y-%m-%d", "%Y_%m_%d", "%Y.%m.%d", "%Y%m%d")
MINUTES = ("T%H:%M", "_%H%M", "-%H-%M", "T%H%%3A%M", " %H.%M", "_%H_%M", "%%20%H%M", ".%H%M", "T%H%MZ")
SECONDS = ("T%H:%M:%SZ", "T%H%%3A%M%%3A%SZ", "_%H-%M-%S", "-%H%M%S", "T%H%M%S.123Z", " %H.%M.%S", "_%H_%M_%S")
whens = st.datetimes(datetime(1990, 1, 1), datetime(2099, 12, 31)).map(lambda when: when.replace(microsecond=0))  # noqa: DTZ001


@pytest.mark.fault("K12")
@given(when=whens, day=st.sampled_from(DAYS), end=st.sampled_from(("", "_final", "-v2", " (1)")))
def test_every_common_spelling_of_a_date_is_read(when: datetime, day: str, end: str) -> None:
    def read(form: str) -> datetime:
        return filename.parse_filename(f"lorem_mail_{when.strftime(form)}{end}.csv", "lorem").date.replace(tzinfo=None)

    assert read(day) == when.replace(hour=0, minute=0, second=0)
    assert {read(day + time) for time in MINUTES} == {when.replace(second=0)}
    assert {read(day + time) for time in SECONDS} == {when}
    assert read("%Y%m%d%H%M") == when.replace(second=0)
    assert {read("%Y%m%d%H%M%S"), read("%Y%m%d%H%M%S123")} == {when}


@pytest.mark.fault("K12")
@pytest.mark.parametrize("time", ["T25:00:00Z", "_99-99", "T24:00:00Z", "_2460", "996000", "T12:60", "_1234567"])
@pytest.mark.parametrize("day", ["2026-11-30", "2026_11_30", "20261130"])
def test_an_impossible_time_does_not_hide_the_date(day: str, time: str) -> None:
    if not (day.isdigit() and time.isdigit() and len(time) not in {4, 6}):
        assert filename.parse_filename(f"lorem_{day}{time}.csv", "lorem").date == datetime(2026, 11, 30, tzinfo=UTC)


@pytest.mark.fault("K12")
@given(st.integers(0, 10**19).map(str) | st.integers(1980 * 10**6, 2030 * 10**6).map(str))
def test_digits_are_a_date_only_where_all_of_them_are(digits: str) -> None:
    is_date = False
    if len(digits) in {8, 12, 14, 17} and digits[:2] in {"19", "20"}:
        with contextlib.suppress(ValueError):
            datetime.strptime(digits[:8], "%Y%m%d")  # noqa: DTZ007
            is_date = True
    with contextlib.nullcontext() if is_date else pytest.raises(RequestRejectedError, match="name_without_date"):
        filename.parse_filename(f"lorem_{digits}.csv", "lorem")


@pytest.mark.fault("K12")
@pytest.mark.parametrize(
    "date", ["2026-02-30", "2026-11_30", "1764482400", "1764482400000", "30-11-2026", "0020-02-02"]
)
def test_what_is_no_day_of_the_calendar_is_no_date(date: str) -> None:
    with pytest.raises(RequestRejectedError, match="does not contain the campaign's date"):
        filename.parse_filename(f"lorem_{date}.csv", "lorem")


@pytest.mark.fault("K11")
def test_the_name_that_the_refusal_of_another_proposes_is_accepted() -> None:
    with pytest.raises(RequestRejectedError) as refused:
        filename.parse_filename("lorem_weekly_mail.csv", "lorem")
    (proposed,) = re.findall(r"Name the file like (\S+)\.$", refused.value.rejection.message)
    assert filename.parse_filename(proposed, "lorem").date == WHEN


def test_the_last_date_of_the_name_counts() -> None:
    assert filename.parse_filename("recap_of_2019-12-31_2020-02-02.csv", "lorem").date == datetime(
        2020, 2, 2, tzinfo=UTC
    )


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
        filename.parse_filename(name, "lorem")
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
    assert filename.errors_name(name) == "lorem_weekly_mail_2020-02-02T20:22:02Z.csv.gz.errors.csv"
    assert filename.manifest_name(name) == "lorem_weekly_mail_2020-02-02T20:22:02Z.csv.gz.manifest.json"


@pytest.mark.fault("K6", "L7")
def test_requests_whose_names_differ_in_any_way_have_side_files_of_their_own() -> None:
    twins = ["x.csv", "x.csv.gz", "x.CSV", "X.csv", "x.csv.GZ"]
    assert len({side(f"{stem}_2020-02-02_{name}") for side in SIDES for stem in "ab" for name in twins}) == 20


@pytest.mark.fault("K6", "L7")
@pytest.mark.parametrize("ending", [".errors.csv", ".ERRORS.CSV", ".manifest.json"])
def test_a_request_that_is_named_like_a_side_file_is_refused_and_its_own_side_files_are_others(ending: str) -> None:
    name = f"lorem_2020-02-02.csv{ending}"
    with pytest.raises(RequestRejectedError) as refused:
        filename.parse_filename(name, "lorem")
    assert refused.value.rejection.code == "name_of_side_file"
    assert {side(name) for side in SIDES}.isdisjoint({name, *(side("lorem_2020-02-02.csv") for side in SIDES)})


@settings(deadline=None)
@given(name=st.text(st.characters(codec=None), max_size=300))
def test_side_files_have_safe_names_whatever_the_request_is_called(name: str) -> None:
    safe = filename.errors_name(name)
    assert 0 < len(safe.encode("utf-8")) <= filename.MAX_BYTES + len("requests..errors.csv")
    assert not set(safe) & set("/\\\n\r\0")
    assert not safe.startswith(".")
