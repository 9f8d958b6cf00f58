"""Each check made of shares, by rows that pass it and rows that do not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from recoflow.event_quality import event_checks, tracking
from recoflow_tests.event_quality.conftest import at, environment, event, item

LISTED = {"request_id": "r1", "list_name": "Top", "user_group": "recoflow", "rank": 1}
IMPRESSION = event("impression", 0, **LISTED)
CLICK = event("click_on_recommendation", 30, **LISTED)
VIEW = event("detail_pageview", 32, page_type="article_detail")
GIVEN = {"request_id": "r1", "list_name": "Top", "item_id": "article-1", "user_group": "recoflow"}
RANKING = {"kind": "ranking", "page_type": None, "request_id": "k1"}
METARANK = [
    event("impression", 0, **RANKING, event_id="k1", part=1),
    event("impression", 0, **RANKING, event_id="k1", part=2, item_id="article-2"),
]


def metarank_click(**fields: object) -> dict[str, object]:
    return event("click_on_recommendation", 20, **RANKING | {"kind": "interaction"} | fields)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("check", "events", "tables", "wrong"),
    [
        ("anonymous_traffic_clicks", [CLICK], {}, 0),
        ("anonymous_traffic_clicks", [CLICK | {"user_group": "Anonymous"}], {}, 1),
        ("anonymous_traffic_clicks", [event("batch_click_on_recommendation", user_group="blacklist")], {}, 1),
        ("anonymous_traffic_clicks", [VIEW | {"user_group": "anonymous"}], {}, 0),
        ("anonymous_traffic_pageviews", [VIEW, CLICK | {"user_group": "anonymous"}], {}, 0),
        ("anonymous_traffic_pageviews", [VIEW, event("page_visit", user_group="anonymous")], {}, 1),
        ("anonymous_traffic_requests", [CLICK], {"responses": [GIVEN | {"published_at": at()}]}, 0),
        (
            "anonymous_traffic_requests",
            [CLICK],
            {"responses": [GIVEN | {"published_at": at(), "user_group": "anonymous"}] * 3},
            1,
        ),
        ("clicks_without_preceding_impression", [IMPRESSION, CLICK], {}, 0),
        ("clicks_without_preceding_impression", [CLICK], {}, 1),
        ("clicks_without_preceding_impression", [IMPRESSION | {"timestamp": at(31)}, CLICK], {}, 1),
        ("clicks_without_preceding_impression", [IMPRESSION, CLICK | {"timestamp": at(120)}], {}, 0),
        ("clicks_without_preceding_impression", [IMPRESSION, CLICK | {"timestamp": at(121)}], {}, 1),
        *(
            ("clicks_without_preceding_impression", [IMPRESSION | {name: "other"}, CLICK], {}, 1)
            for name in ("user_id", "item_id", "request_id", "list_name", "page_type", "user_group")
        ),
        ("clicks_without_preceding_impression", [*METARANK, metarank_click()], {}, 0),
        ("clicks_without_following_pageview", [CLICK, VIEW], {}, 0),
        ("clicks_without_following_pageview", [CLICK, VIEW | {"timestamp": at(29)}], {}, 1),
        ("clicks_without_following_pageview", [CLICK, VIEW | {"timestamp": at(151)}], {}, 1),
        ("clicks_without_following_pageview", [CLICK, VIEW | {"user_id": "bob"}], {}, 1),
        ("clicks_without_following_pageview", [CLICK, VIEW | {"item_id": "article-2"}], {}, 1),
        ("clicks_without_following_pageview", [*METARANK, metarank_click()], {}, 0),
        ("clicks_without_preceding_recommendation", [CLICK], {}, 0),
        ("clicks_without_preceding_recommendation", [CLICK], {"responses": [GIVEN | {"published_at": at()}]}, 0),
        *(
            (
                "clicks_without_preceding_recommendation",
                [CLICK],
                {"responses": [GIVEN | {"published_at": at(), name: "x"}]},
                1,
            )
            for name in ("request_id", "list_name", "item_id")
        ),
        ("clicks_without_preceding_recommendation", [CLICK], {"responses": [GIVEN | {"published_at": at(31)}]}, 0),
        ("clicks_join_rankings", [*METARANK, metarank_click()], {}, 0),
        ("clicks_join_rankings", [*METARANK, metarank_click(request_id="k9")], {}, 1),
        ("clicks_join_rankings", [*METARANK, metarank_click(request_id=None)], {}, 0),
        ("clicks_join_rankings", [CLICK], {"responses": [GIVEN | {"published_at": at()}]}, 0),
        ("clicked_items_in_ranking", [*METARANK, metarank_click(item_id="article-2")], {}, 0),
        ("clicked_items_in_ranking", [*METARANK, metarank_click(item_id="article-3")], {}, 1),
        ("clicked_items_in_ranking", [*METARANK, metarank_click(request_id="k9", item_id="article-3")], {}, 0),
        ("interacted_items_known", [VIEW], {"items": [item("article-1")]}, 0),
        ("interacted_items_known", [VIEW], {"items": [item("article-2")]}, 1),
        ("interacted_items_known", [IMPRESSION], {}, 0),
        ("interaction_types_weighted", [VIEW, IMPRESSION, event("checkpoint")], {}, 0),
        ("interaction_types_weighted", [VIEW, event("start_subscription")], {}, 1),
        ("interaction_types_weighted", [VIEW, event("start_subscription", item_id=None)], {}, 0),
        ("events_unique", [VIEW, VIEW | {"timestamp": at(33)}, VIEW | {"user_id": "bob"}], {}, 0),
        ("events_unique", [VIEW, VIEW, VIEW], {}, 2),
        ("events_unique", METARANK, {}, 0),
        ("timestamps_in_range", [VIEW | {"received_at": at(32) - timedelta(minutes=4)}], {}, 0),
        ("timestamps_in_range", [VIEW | {"received_at": at(32) - timedelta(minutes=6)}], {}, 1),
        ("timestamps_in_range", [VIEW | {"received_at": at() + timedelta(days=3651)}], {}, 1),
        ("devices_of_one_user", [event("page_visit", device_id="d"), event("page_visit", device_id="d")], {}, 0),
        (
            "devices_of_one_user",
            [event("page_visit", device_id="d"), event("page_visit", device_id="d", user_id="bob")],
            {},
            1,
        ),
    ],
)
def test_a_check_counts_what_is_wrong(judged, check, events, tables, wrong):
    assert judged(event_checks.check_events, events, **tables)[check].metadata["wrong"] == wrong


def test_every_check_of_the_list_is_tried_above():
    cases = test_a_check_counts_what_is_wrong.pytestmark[0].args[1]
    for outcome in (lambda wrong: wrong == 0, lambda wrong: wrong > 0):
        assert {case[0] for case in cases if outcome(case[3])} == {check.name for check in tracking.CHECKS}


def test_a_click_is_joined_across_the_devices_log_in(judged):
    anonymous = IMPRESSION | {"user_id": None, "device_id": "phone"}
    found = judged(event_checks.check_events, [anonymous, CLICK | {"device_id": "phone"}])
    assert found["clicks_without_preceding_impression"].metadata["wrong"] == 0


def test_a_share_passes_up_to_its_limit_and_says_what_to_do_beyond(judged):
    events = [IMPRESSION, *(CLICK | {"timestamp": at(seconds)} for seconds in (10, 20, 30, 500))]
    settings = environment({"max_unattributed_share": 0.25})
    finding = judged(event_checks.check_events, events, settings=settings)["clicks_without_preceding_impression"]
    assert finding.passed
    assert finding.metadata == {"looked_at": 4, "wrong": 1, "share": 0.25, "limit": 0.25, "examples": ["e004"]}


def test_a_failed_check_warns_with_examples_and_names_no_person(judged):
    person = {"user_id": "ann-4711", "device_id": "ann-4711"}
    events = [CLICK | person | {"timestamp": at(n)} for n in range(9)]
    events.append(event("page_visit", device_id="ann-4711"))
    found = judged(event_checks.check_events, events)
    finding = found["clicks_without_preceding_impression"]
    assert not finding.passed
    assert finding.severity == "warn"
    assert "9 of 9 (100.0%) clicks follow no impression; 5.0% are tolerated. Send an impression" in finding.message
    assert finding.metadata["examples"] == ["e000", "e001", "e002", "e003", "e004"]
    assert not any("ann-4711" in f"{each.message} {each.metadata}" for each in found.values())
