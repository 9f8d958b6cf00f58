from __future__ import annotations

from datetime import timedelta

import pytest

from recoflow.event_quality import event_checks
from recoflow_tests.event_quality.conftest import NOW, at, environment, event, item


def test_every_check_gives_a_finding_on_an_empty_lake_and_only_absence_fails(judged):
    found = judged(event_checks.check_events)
    assert list(found) == list(event_checks.CHECKS)
    failed = {name for name, finding in found.items() if not finding.passed}
    assert failed == {"event_kinds_present", "events_fresh", "attributes_exist"}


def test_events_that_are_old_or_later_than_now_are_not_judged(judged):
    old, future = event("page_visit", user_group="anonymous"), event("page_visit", user_group="anonymous")
    events = [old | {"timestamp": at(days=29)}, event("page_visit"), future | {"timestamp": NOW + timedelta(hours=1)}]
    assert judged(event_checks.check_events, events)["anonymous_traffic_pageviews"].metadata["looked_at"] == 1


def test_kinds_that_are_missing_are_named(judged):
    finding = judged(event_checks.check_events, [event("detail_pageview")])["event_kinds_present"]
    assert not finding.passed
    assert "Without items and impressions" in finding.message
    assert finding.metadata == {"items": 0, "impressions": 0, "interactions": 1}


def clicks(*ranks: int | None) -> list[dict[str, object]]:
    return [event("click_on_recommendation", n, rank=rank, request_id=f"r{n}") for n, rank in enumerate(ranks)]


@pytest.mark.parametrize(
    ("events", "passed"),
    [(clicks(*[1] * 10), False), (clicks(*[1] * 9), True), (clicks(*[1] * 9, 2), True), (clicks(*[None] * 20), True)],
)
def test_clicks_are_not_all_on_one_rank(judged, events, passed):
    assert judged(event_checks.check_events, events)["click_positions_spread"].passed is passed


def test_the_rank_of_a_click_is_that_of_its_impression_when_it_names_none(judged):
    shown = [event("impression", 0, rank=n % 3, request_id=f"r{n}") for n in range(12)]
    finding = judged(event_checks.check_events, [*shown, *clicks(*[None] * 12)])["click_positions_spread"]
    assert finding.metadata == {"clicks": 12, "clicks_by_rank": {"0": 4, "1": 4, "2": 4}}


def test_attributes_that_no_item_has_are_named(judged):
    settings = environment(
        campaigns={
            "information_fields": ["url", "teaser", "because_of"],
            "aliases": {"category": "categories"},
            "configurations": {"new": {"filters": {"category": "sports", "item_type": "article", "region": "be"}}},
        }
    )
    items = [item("article-1", '{"url":"u","categories":["sports"]}')]
    finding = judged(event_checks.check_events, settings=settings, items=items)["attributes_exist"]
    assert finding.metadata["missing"] == ["region", "teaser"]
    assert "region, teaser" in finding.message


@pytest.mark.parametrize(("values", "passed"), [(("sports", "culture"), True), (("sports", "a", "b"), False)])
def test_half_of_the_values_that_filters_name_occur(judged, values, passed):
    settings = environment(campaigns={"configurations": {"new": {"filters": {"categories": list(values)}}}})
    items = [item("a", '{"url":"u","categories":["sports","home"]}'), item("b", '{"url":"u","categories":"politics"}')]
    finding = judged(event_checks.check_events, settings=settings, items=items)["filter_values_used"]
    assert finding.passed is passed
    assert finding.metadata["unused"] == {"categories": sorted(set(values) - {"sports"})}


def days(**events_per_day: int) -> list[dict[str, object]]:
    """d1=3: three events, one day before the latest event's day."""
    return [
        event("page_visit", n, timestamp=at(n, days=int(name[1:])))
        for name, count in events_per_day.items()
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("events", "passed"),
    [
        (days(d0=1, d1=10, d8=10, d15=12), True),
        (days(d0=1, d1=4, d8=10, d15=10), False),
        (days(d0=1, d8=10, d15=10), False),
        (days(d0=1, d1=21, d8=10, d15=10), False),
        (days(d0=99, d1=10, d2=1, d8=10, d15=10), True),
        (days(d0=1, d1=1, d8=100), True),
        (days(d0=1, d1=1, d36=100, d43=100), True),
    ],
)
def test_a_day_has_about_as_many_events_as_that_weekday_before(judged, events, passed):
    assert judged(event_checks.check_events, events)["volume_as_usual"].passed is passed


def test_days_are_those_of_the_environments_time_zone(judged):
    evening = [
        event("page_visit", n, timestamp=at(days=day).replace(hour=23, minute=n)) for day in (1, 8, 15) for n in (1, 2)
    ]
    settings = environment(schedules={"timezone": "Europe/Brussels"})  # there it is past midnight
    finding = judged(event_checks.check_events, [*evening, event("page_visit")], settings=settings)["volume_as_usual"]
    assert finding.metadata["events"] == 0


@pytest.mark.parametrize(("hours", "passed"), [(24, True), (23, False)])
def test_the_latest_event_is_young_enough(judged, hours, passed):
    finding = judged(
        event_checks.check_events, [event("page_visit")], settings=environment({"max_silence_hours": hours})
    )
    assert finding["events_fresh"].passed is passed
    assert finding["events_fresh"].metadata["age_hours"] == 24
