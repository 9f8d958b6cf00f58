from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from recoflow import schema
from recoflow.errors import SourceError
from recoflow.formats import froomle
from recoflow.schema import ParsedBatch
from recoflow.settings.environment import Environment

Deliver = Callable[..., ParsedBatch]

WHO_AND_WHEN = {"user_id": "u1", "device_id": "d1", "timestamp": 1777636800000}
FIELDS = {
    "page_type": "home",
    "item": {"action_item": "i1", "action_item_type": "article"},
    "list_name": "Relevant for you",
    "request_id": "12411511511",
    "interaction_type": "product_like",
    "checkpoint": "half",
    "campaign_id": "11211211",
}
NEEDS = {
    "page_visit": ["page_type"],
    "detail_pageview": ["page_type", "item"],
    "impression": ["list_name", "request_id", "item", "page_type"],
    "click_on_recommendation": ["list_name", "request_id", "item", "page_type"],
    "item_interaction": ["interaction_type", "item"],
    "start_subscription": [],
    "user_interaction": ["interaction_type"],
    "cancel_subscription": [],
    "checkpoint": ["item", "checkpoint"],
    "add_to_cart": ["item"],
    "remove_from_cart": ["item"],
    "batch_open": ["campaign_id"],
    "batch_impression": ["campaign_id", "list_name", "request_id", "item"],
    "batch_click_on_recommendation": ["campaign_id", "list_name", "request_id", "item"],
    "purchase": ["item"],
}


def minimal(kind: str, /, **more: Any) -> dict[str, Any]:
    event: dict[str, Any] = {"event_type": kind, **WHO_AND_WHEN}
    for name in NEEDS[kind]:
        value = FIELDS[name]
        event |= value if isinstance(value, dict) else {name: value}
    return event | more


def only_event(batch: ParsedBatch) -> dict[str, Any]:
    assert batch.rejects.to_dicts() == []
    (row,) = batch.events.to_dicts()
    return row


def only_reject(batch: ParsedBatch) -> tuple[str | None, str]:
    assert batch.events.height == 0
    (row,) = batch.rejects.to_dicts()
    assert row["message"]
    return row["field"], row["code"]


def test_the_table_of_types_has_all_fifteen() -> None:
    assert sorted(NEEDS) == sorted(schema.EVENT_TYPES) == sorted(froomle.REQUIRED)


@pytest.mark.parametrize("event_type", NEEDS)
def test_a_minimal_event_of_each_type_is_accepted(deliver: Deliver, event_type: str) -> None:
    row = only_event(deliver(minimal(event_type)))
    assert (row["event_type"], row["user_id"], row["device_id"]) == (event_type, "u1", "d1")
    assert (row["kind"], row["part"], row["properties"]) == ("event", 0, None)
    assert row["timestamp"] == datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(("event_type", "name"), [(kind, name) for kind, needed in NEEDS.items() for name in needed])
def test_an_event_without_a_field_that_its_type_needs_is_refused(deliver: Deliver, event_type: str, name: str) -> None:
    event = minimal(event_type)
    missing = "action_item" if name == "item" else name
    del event[missing]
    assert only_reject(deliver(event)) == (missing, "missing_field")


@pytest.mark.parametrize("event_type", [kind for kind, needed in NEEDS.items() if "item" in needed])
def test_the_item_type_is_needed_where_the_environment_has_no_default(
    deliver: Deliver, without_default: Environment, event_type: str
) -> None:
    event = minimal(event_type)
    del event["action_item_type"]
    assert only_event(deliver(event))["item_type"] == "article"
    assert only_reject(deliver(event, of=without_default)) == ("action_item_type", "missing_field")


def test_event_type_is_needed(deliver: Deliver) -> None:
    event = minimal("page_visit")
    assert only_reject(deliver(event | {"event_type": ""})) == ("event_type", "missing_field")


@pytest.mark.parametrize("event_type", ["Page_Visit", "page-visit", "pageview", "click"])
def test_an_unknown_event_type_is_refused(deliver: Deliver, event_type: str) -> None:
    assert only_reject(deliver(minimal("page_visit", event_type=event_type))) == ("event_type", "unknown_event_type")


def test_a_misspelt_event_type_is_answered_with_the_right_one(deliver: Deliver) -> None:
    (message,) = deliver(minimal("page_visit", event_type="page_vist")).rejects["message"]
    assert "did you mean 'page_visit'?" in message


@pytest.mark.parametrize("name", ["user_id", "device_id"])
@pytest.mark.parametrize(
    "value", ["anonymous", "not available", "logged out", "null", "undefined", "Anonymous", "NULL", "", "  "]
)
def test_a_value_that_names_nobody_counts_as_absent(deliver: Deliver, name: str, value: str) -> None:
    other = {"user_id": "device_id", "device_id": "user_id"}[name]
    row = only_event(deliver(minimal("page_visit", **{name: value})))
    assert row[name] is None
    assert row[other] is not None
    assert only_reject(deliver(minimal("page_visit", user_id=value, device_id=value))) == (
        "user_id",
        "missing_identity",
    )


def test_an_id_that_only_resembles_nobody_is_somebody(deliver: Deliver) -> None:
    assert only_event(deliver(minimal("page_visit", user_id="anonymous-7")))["user_id"] == "anonymous-7"


@pytest.mark.parametrize("name", ["user_id", "device_id"])
def test_one_identity_is_enough(deliver: Deliver, name: str) -> None:
    event = minimal("page_visit")
    del event[name]
    assert only_event(deliver(event))[name] is None


@pytest.mark.parametrize("channel", [*schema.CHANNELS, "kiosk"])
def test_known_channels_and_the_environments_own_are_accepted(deliver: Deliver, channel: str) -> None:
    assert only_event(deliver(minimal("page_visit", channel=channel)))["channel"] == channel


@pytest.mark.parametrize("page_type", [*schema.PAGE_TYPES, "quiz"])
def test_known_page_types_and_the_environments_own_are_accepted(deliver: Deliver, page_type: str) -> None:
    assert only_event(deliver(minimal("page_visit", page_type=page_type)))["page_type"] == page_type


@pytest.mark.parametrize(("name", "value"), [("channel", "tv"), ("channel", "WWW"), ("page_type", "landing")])
def test_values_outside_of_a_vocabulary_are_refused(deliver: Deliver, name: str, value: str) -> None:
    assert only_reject(deliver(minimal("page_visit", **{name: value}))) == (name, f"unknown_{name}")


def test_item_id_and_item_type_are_aliases(deliver: Deliver) -> None:
    event = {"event_type": "purchase", **WHO_AND_WHEN, "item_id": "i1", "item_type": "shoe"}
    row = only_event(deliver(event))
    assert (row["item_id"], row["item_type"]) == ("i1", "shoe")
    plain = {"event_type": "purchase", **WHO_AND_WHEN, "action_item": "i1", "action_item_type": "shoe"}
    assert only_event(deliver(plain))["content_hash"] == row["content_hash"]


def test_two_names_of_one_field_must_agree(deliver: Deliver) -> None:
    assert only_event(deliver(minimal("purchase", item_id="i1")))["item_id"] == "i1"
    assert only_reject(deliver(minimal("purchase", item_id="i2"))) == ("action_item", "conflicting_alias")


@pytest.mark.parametrize(
    "name",
    [
        "request_id",
        "campaign_id",
        "list_name",
        "user_group",
        "version",
        "session_id",
        "interaction_type",
        "currency",
        "order_id",
        "subscription_type",
        "checkpoint",
        "referrer",
    ],
)
def test_texts_keep_their_column(deliver: Deliver, name: str) -> None:
    row = only_event(deliver(minimal("page_visit", **{name: "Ünïcode, with a comma"})))
    assert row[name] == "Ünïcode, with a comma"
    assert row["properties"] is None


@pytest.mark.parametrize("value", [7, 1.5, True, ["a"], {"a": 1}])
@pytest.mark.parametrize("name", ["user_id", "action_item", "request_id", "event_id", "channel", "environment"])
def test_a_text_that_is_none_is_refused(environment: Environment, now: datetime, name: str, value: object) -> None:
    body = json.dumps({"events": [minimal("purchase", **{name: value})]}).encode()
    assert only_reject(froomle.from_api(body, environment, now)) == (name, "wrong_type")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (2, 2.0),
        (2.5, 2.5),
        ("2.50", 2.5),
        (" 3 ", 3.0),
        ("-1", -1.0),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("", None),
        (0, 0.0),
    ],
)
@pytest.mark.parametrize("name", ["quantity", "price", "discount"])
def test_numbers_are_kept_as_numbers(deliver: Deliver, name: str, value: object, number: float | None) -> None:
    assert only_event(deliver(minimal("purchase", **{name: value})))[name] == number


@pytest.mark.parametrize(
    ("value", "code"),
    [("free", "not_a_number"), ("1,50", "not_a_number"), ("nan", "not_a_number"), ("inf", "not_a_number"),
     ("1e999", "out_of_range"), (True, "wrong_type"), ([1], "wrong_type")],
)  # fmt: skip
def test_a_number_that_is_none_is_refused(deliver: Deliver, value: object, code: str) -> None:
    assert only_reject(deliver(minimal("purchase", price=value))) == ("price", code)


@pytest.mark.parametrize(("value", "rank"), [(1, 1), ("2", 2), (3.0, 3), ("4.0", 4), (0, 0), ("", None)])
def test_a_rank_is_a_whole_number(deliver: Deliver, value: object, rank: int | None) -> None:
    assert only_event(deliver(minimal("purchase", rank=value)))["rank"] == rank


@pytest.mark.parametrize("value", [-1, 1.5, "2.5", 10**12])
def test_a_rank_that_is_no_position_is_refused(deliver: Deliver, value: object) -> None:
    assert only_reject(deliver(minimal("purchase", rank=value))) == ("rank", "out_of_range")


def test_other_fields_are_kept_in_properties(deliver: Deliver) -> None:
    row = only_event(deliver(minimal("page_visit", zone="sport", brand="ä\"'\\")))
    assert json.loads(row["properties"]) == {"zone": "sport", "brand": "ä\"'\\"}
    assert list(json.loads(row["properties"])) == ["brand", "zone"]


def test_other_fields_keep_their_json_types(environment: Environment, now: datetime) -> None:
    others = {"a": 1, "b": 1.5, "c": True, "d": [1, "x"], "e": {"z": 1, "y": None}, "f": "", "g": None}
    body = json.dumps({"events": [minimal("page_visit", **others)]}).encode()
    del others["g"]  # null says nothing, as an empty cell does
    assert json.loads(only_event(froomle.from_api(body, environment, now))["properties"]) == others


def test_an_event_may_name_its_own_environment_and_no_other(deliver: Deliver) -> None:
    row = only_event(deliver(minimal("page_visit", environment="lorem")))
    assert row["properties"] is None
    assert only_reject(deliver(minimal("page_visit", environment="ipsum"))) == ("environment", "other_environment")


@pytest.mark.parametrize(
    "value",
    [
        1777636800,
        1777636800000,
        "1777636800",
        "1777636800000",
        1777636800000.0,
        "2026-05-01T12:00:00Z",
        "2026-05-01T12:00Z",
        "2026-05-01T14:00:00+02:00",
        "2026-05-01T07:30:00.000-04:30",
        "2026-05-01T12:00:00+00",
        "2026-05-01T12:00:00,000Z",
        " 2026-05-01T12:00:00Z ",
        "2026-05-01t12:00:00z",
    ],
)
def test_every_form_of_a_time_is_read(deliver: Deliver, value: object) -> None:
    row = only_event(deliver(minimal("page_visit", timestamp=value)))
    assert row["timestamp"] == datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_fractions_of_a_second_are_kept_to_the_microsecond(deliver: Deliver) -> None:
    row = only_event(deliver(minimal("page_visit", timestamp="2026-05-01T12:00:00.123456789Z")))
    assert row["timestamp"] == datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "code", "hint"),
    [
        ("2026-05-01T12:00:00", "timestamp_no_zone", "append Z"),
        ("2026-05-01 12:00:00", "timestamp_no_zone", "append Z"),
        ("2026-05-01 12:00:00Z", "timestamp_unreadable", "has a T"),
        ("2026-05-01", "timestamp_date_only", "without a time"),
        ("1st of May", "timestamp_unreadable", "milliseconds"),
        ("2026-02-30T12:00:00Z", "timestamp_unreadable", "milliseconds"),
        ("2026-05-01T25:00:00Z", "timestamp_unreadable", "milliseconds"),
        ("2026-05-01T12:00:60Z", "timestamp_unreadable", "milliseconds"),
        ("2026-05-01T12:00:00+25:00", "timestamp_unreadable", "milliseconds"),
        (1777636800.5, "timestamp_fraction", "no whole number"),
        ("1777636800.5", "timestamp_fraction", "no whole number"),
        ("1.7776368e9", "timestamp_fraction", "no whole number"),
        (1777636800000000, "timestamp_unit", "microseconds"),
        ("1777636800000000000", "timestamp_unit", "nanoseconds"),
        (0, "timestamp_too_early", "before the year 2000"),
        (-5, "timestamp_too_early", "before the year 2000"),
        (946684799999, "timestamp_too_early", "before the year 2000"),
        ("1999-12-31T23:59:59Z", "timestamp_too_early", "before the year 2000"),
        ("2026-05-03T12:00:01Z", "timestamp_in_future", "one day ahead"),
        (1777809601, "timestamp_in_future", "one day ahead"),
        (99999999999999, "timestamp_in_future", "one day ahead"),
        (True, "timestamp_unreadable", "milliseconds"),
        ([1], "timestamp_unreadable", "milliseconds"),
    ],
)
def test_a_time_that_cannot_be_is_refused_with_its_likely_cause(
    deliver: Deliver, value: object, code: str, hint: str
) -> None:
    batch = deliver(minimal("page_visit", timestamp=value))
    assert only_reject(batch) == ("timestamp", code)
    assert hint in batch.rejects["message"][0]


@pytest.mark.parametrize("value", ["2000-01-01T00:00:00Z", "2026-05-03T12:00:00Z", 946684800, 946684800000])
def test_the_first_and_the_last_time_are_accepted(deliver: Deliver, value: object) -> None:
    only_event(deliver(minimal("page_visit", timestamp=value)))


def test_only_the_api_fills_in_the_time_of_receipt(deliver: Deliver, now: datetime, request: Any) -> None:
    event = minimal("page_visit")
    del event["timestamp"]
    batch = deliver(event)
    if request.node.callspec.params["deliver"] == "api":
        assert only_event(batch)["timestamp"] == now
    else:
        assert only_reject(batch) == ("timestamp", "missing_field")


def test_an_events_own_id_is_kept_and_does_not_change_its_content(deliver: Deliver) -> None:
    with_id, without = (only_event(deliver(minimal("page_visit", **more))) for more in ({"event_id": "e-1"}, {}))
    assert with_id["event_id"] == "e-1"
    assert with_id["content_hash"] == without["content_hash"]


def test_a_blank_id_is_none(deliver: Deliver) -> None:
    blank, without = (only_event(deliver(minimal("page_visit", **more))) for more in ({"event_id": " "}, {}))
    assert blank["event_id"] == without["event_id"]


def test_ids_are_the_same_by_every_way_in_and_for_ever(deliver: Deliver) -> None:
    event = minimal("impression", rank=3, price="12.5", zone="sport", channel="www")
    row = only_event(deliver(event))
    assert row["event_id"] == "1f76b2dd4e4f01beae077334df177843"
    assert row["content_hash"] == int(row["event_id"][:16], 16)
    backwards = dict(reversed(event.items()))
    assert only_event(deliver(backwards))["event_id"] == row["event_id"]


@pytest.mark.parametrize(
    "change", [{"user_id": "u2"}, {"rank": 4}, {"zone": "news"}, {"price": 1}, {"timestamp": 1777636801}]
)
def test_another_value_makes_another_event(deliver: Deliver, change: dict[str, Any]) -> None:
    event = minimal("impression", rank=3, zone="sport")
    assert only_event(deliver(event))["event_id"] != only_event(deliver(event | change))["event_id"]


def test_equal_events_without_time_in_one_request_are_one_and_in_two_requests_two(
    environment: Environment, now: datetime
) -> None:
    event = {"event_type": "page_visit", "user_id": "u1", "page_type": "home"}
    body = json.dumps({"events": [event, event]}).encode()
    first = froomle.from_api(body, environment, now).events
    later = froomle.from_api(body, environment, now.replace(second=1)).events
    assert first["event_id"].n_unique() == 1
    assert first["content_hash"][0] == later["content_hash"][0]
    assert first["event_id"][0] != later["event_id"][0]


def test_a_request_reports_each_bad_event_by_its_index(environment: Environment, now: datetime) -> None:
    events = [minimal("page_visit"), {"x": 1}, 7, minimal("page_visit", page_type="hom")]
    batch = froomle.from_api(json.dumps({"events": events}).encode(), environment, now)
    assert batch.read == 4
    assert batch.events.height == 1
    found = batch.rejects.select("file", "line", "field", "code", "raw").rows()
    assert [row[1:4] for row in found] == [
        (1, "event_type", "missing_field"),
        (2, None, "not_an_object"),
        (3, "page_type", "unknown_page_type"),
    ]
    assert found[0] == ("api", 1, "event_type", "missing_field", '{"x": 1}')


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"YOLO",
        b"[]",
        b'{"event": []}',
        b'{"events": {}}',
        b'{"events": [}',
        b'{"events": [{"a": "\xff"}]',
        b"[" * 10_000,
    ],
)
def test_a_body_that_is_no_list_of_events_is_an_error(environment: Environment, now: datetime, body: bytes) -> None:
    with pytest.raises(SourceError, match="request's body"):
        froomle.from_api(body, environment, now)


def test_no_events_are_no_error(environment: Environment, now: datetime) -> None:
    assert froomle.from_api(b'{"events": []}', environment, now).read == 0
