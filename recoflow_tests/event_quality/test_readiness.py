from __future__ import annotations

import polars as pl
import pytest

from recoflow import schema
from recoflow.event_quality import readiness
from recoflow.storage import sql
from recoflow_tests.event_quality.conftest import NOW, at, environment, event, fill

COMPLETE = {"request_id": "r", "list_name": "Top"}
MUSTS = [
    event("page_visit"),
    event("detail_pageview"),
    event("impression", **COMPLETE),
    event("click_on_recommendation", **COMPLETE),
]


@pytest.fixture
def table():
    def read(events):
        with sql.connect() as connection:
            fill(connection, environment(), events)
            return readiness.table(connection, environment(), NOW)

    return read


def row(found: pl.DataFrame, event_type: str) -> dict[str, object]:
    return found.row(by_predicate=pl.col("event_type") == event_type, named=True)


def test_every_event_type_has_its_row_in_the_order_of_the_priorities(table):
    found = table([])
    assert found.schema == readiness.TABLE
    assert sorted(found["event_type"]) == sorted(schema.EVENT_TYPES)
    assert found["event_type"][:4].to_list() == [
        "page_visit",
        "detail_pageview",
        "impression",
        "click_on_recommendation",
    ]
    assert found["state"].to_list() == ["missing"] * 4 + ["not sent"] * 11


def test_musts_that_come_well_attributed_are_ready(table):
    found = table(MUSTS)
    assert readiness.is_ready(found, with_placements=True)
    assert set(found["state"][:4]) == {"ready"}


def test_placements_need_impressions_and_clicks_that_nothing_else_needs(table):
    found = table(MUSTS[:2])
    assert readiness.is_ready(found, with_placements=False)
    assert not readiness.is_ready(found, with_placements=True)


def test_poor_attribution_names_the_field_that_is_missing_most(table):
    clicks = [event("click_on_recommendation", n, request_id="r", list_name=None if n else "Top") for n in range(4)]
    click = row(table(clicks), "click_on_recommendation")
    assert click["state"] == "poor attribution"
    assert (click["attributed"], click["weakest_field"]) == (0.25, "list_name")


def test_rates_and_shares_are_of_the_window(table):
    views = [
        event("page_visit", n, timestamp=at(days=days), user_id=user, device_id="d")
        for n, (days, user) in enumerate([(0, "ann"), (1, None), (2, None), (40, "ann")])
    ]
    visit = row(table(views), "page_visit")
    assert (visit["events"], visit["per_day"], visit["with_user"]) == (3, 1.5, pytest.approx(1 / 3))
    assert visit["last_at"] == at()


def test_a_type_that_was_seen_before_the_window_only_is_silent(table):
    found = table([event("page_visit"), event("detail_pageview", timestamp=at(days=40))])
    assert row(found, "detail_pageview")["state"] == "silent"
    assert row(found, "detail_pageview")["last_at"] == at(days=40)
