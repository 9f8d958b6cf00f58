from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from recoflow.schema import ParsedBatch
from recoflow.settings.environment import Environment

ReadBytes = Callable[..., ParsedBatch]
Reject = tuple[str | None, str]

SHARED = {"id": "e1", "timestamp": "1777636800000"}
EVENTS: dict[str, dict[str, Any]] = {
    "item": {**SHARED, "item": "p1", "fields": [{"name": "title", "value": "Nice jeans"}]},
    "user": {**SHARED, "user": "u1", "fields": [{"name": "age", "value": 33}]},
    "ranking": {
        **SHARED,
        "user": "u1",
        "session": "s1",
        "fields": [{"name": "query", "value": "jeans"}],
        "items": [{"id": "p3", "relevancy": 2.0}, {"id": "p1", "relevancy": 1.0}, {"id": "p2"}],
    },
    "interaction": {
        **SHARED,
        "ranking": "r1",
        "user": "u1",
        "session": "s1",
        "type": "click",
        "item": "p1",
        "fields": [{"name": "count", "value": 2}],
    },
}


@pytest.fixture(params=["current", "seed page"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def send(read_bytes: ReadBytes, dialect: str) -> Callable[..., ParsedBatch]:
    """Read one event of a kind with changes; a change to None removes the key."""

    def read(kind: str, /, *, of: Environment | None = None, **changes: Any) -> ParsedBatch:
        event = {**EVENTS[kind], **changes}
        if dialect == "current" or kind == "user":  # the seed page has no user events
            event = {"event": kind, **event}
        event = {key: value for key, value in event.items() if value is not None}
        return read_bytes("stream.jsonl", json.dumps(event).encode(), **({} if of is None else {"of": of}))

    return read


Send = Callable[..., ParsedBatch]


def reject_of(batch: ParsedBatch) -> Reject:
    assert batch.events.height == batch.updates.height == 0
    (row,) = batch.rejects.to_dicts()
    return row["field"], row["code"]


def test_a_ranking_becomes_one_impression_per_item(send: Send) -> None:
    batch = send("ranking")
    assert batch.read == 1
    rows = batch.events.select(
        "kind", "event_id", "part", "rank", "event_type", "item_id", "relevancy", "request_id", "user_id", "session_id"
    ).rows()
    same = ("impression", "e1", "u1", "s1")
    expected = [(1, "p3", 2.0), (2, "p1", 1.0), (3, "p2", None)]
    assert rows == [
        ("ranking", "e1", part, part, same[0], item, relevancy, same[1], same[2], same[3])
        for part, item, relevancy in expected
    ]
    assert batch.events["properties"].to_list() == ['{"query":"jeans"}'] * 3
    assert batch.events["timestamp"].unique().to_list() == [datetime(2026, 5, 1, 12, tzinfo=UTC)]
    assert batch.events["content_hash"].n_unique() == 1
    assert batch.events["item_type"].unique().to_list() == ["article"]


def test_both_dialects_of_a_ranking_have_one_content(read_bytes: ReadBytes) -> None:
    seed = EVENTS["ranking"]
    items = [
        {"id": item["id"], "fields": [{"name": "relevancy", "value": item["relevancy"]}] if "relevancy" in item else []}
        for item in seed["items"]
    ]
    current = {"event": "ranking", **seed, "items": items}
    first, second = (read_bytes("a.jsonl", json.dumps(event).encode()).events for event in (seed, current))
    assert first.equals(second)


def test_an_interaction_becomes_one_row(send: Send) -> None:
    (row,) = send("interaction").events.to_dicts()
    assert (row["kind"], row["part"], row["event_id"], row["event_type"]) == (
        "interaction",
        0,
        "e1",
        "click_on_recommendation",
    )
    assert (row["item_id"], row["item_type"], row["interaction_type"], row["request_id"]) == (
        "p1",
        "article",
        "click",
        "r1",
    )
    assert (row["user_id"], row["session_id"], row["properties"]) == ("u1", "s1", '{"count":2}')


@pytest.mark.parametrize(
    ("interaction", "link", "event_type"),
    [
        ("click", "r1", "click_on_recommendation"),
        ("click", None, "detail_pageview"),
        ("purchase", None, "purchase"),
        ("purchase", "r1", "purchase"),
        ("add_to_cart", None, "add_to_cart"),
        ("cart", None, "add_to_cart"),
        ("share", None, "item_interaction"),
        ("impression", "r1", "impression"),
        ("like", None, "add_to_cart"),  # as the environment configures it
    ],
)
def test_an_interactions_type_decides_on_the_event_type(
    send: Send, interaction: str, link: str | None, event_type: str
) -> None:
    (row,) = send("interaction", type=interaction, ranking=link).events.to_dicts()
    assert (row["event_type"], row["interaction_type"], row["request_id"]) == (event_type, interaction, link)


@pytest.mark.parametrize("link", ["ranking", "impression", "impression_id"])
def test_each_name_of_the_link_is_read(send: Send, link: str) -> None:
    batch = send("interaction", **{"ranking": None, link: "r9"})
    assert batch.events["request_id"].to_list() == ["r9"]


def test_links_must_agree(send: Send) -> None:
    assert reject_of(send("interaction", impression="r2")) == ("ranking", "conflicting_alias")
    assert send("interaction", impression="r1").events.height == 1


@pytest.mark.parametrize("kind", ["item", "user"])
def test_items_and_users_become_updates(send: Send, kind: str) -> None:
    (row,) = send(kind).updates.to_dicts()
    entity, fields = {"item": ("p1", '{"title":"Nice jeans"}'), "user": ("u1", '{"age":33}')}[kind]
    assert (row["entity"], row["entity_id"], row["operation"], row["event_id"]) == (kind, entity, "upsert", "e1")
    assert row["fields"] == fields


@pytest.mark.parametrize(("name", "kind"), [("metadata", "item"), ("impression", "ranking")])
def test_older_names_of_events_are_read(read_bytes: ReadBytes, name: str, kind: str) -> None:
    batch = read_bytes("a.jsonl", json.dumps({"event": name, **EVENTS[kind]}).encode())
    assert batch.rejects.height == 0


@pytest.mark.parametrize("name", ["Item", "purchase", "", 7, None])
def test_another_name_of_an_event_is_refused(read_bytes: ReadBytes, name: object) -> None:
    batch = read_bytes("a.jsonl", json.dumps({"event": name, **EVENTS["item"]}).encode())
    assert reject_of(batch) == ("event", "unknown_event_type")


@pytest.mark.parametrize(
    ("keys", "table"),
    [
        ({"type": "click", "item": "p1"}, "events"),
        ({"impression": "r1", "item": "p1", "type": "click", "items": []}, "events"),
        ({"items": [{"id": "p1"}], "item": "p2"}, "events"),
        ({"item": "p1"}, "updates"),
    ],
)
def test_without_a_name_the_set_of_keys_decides(read_bytes: ReadBytes, keys: dict[str, Any], table: str) -> None:
    batch = read_bytes("a.jsonl", json.dumps({**SHARED, **keys}).encode())
    assert getattr(batch, table).height == 1


def test_a_link_alone_makes_an_interaction_that_lacks_its_type(read_bytes: ReadBytes) -> None:
    batch = read_bytes("a.jsonl", json.dumps({**SHARED, "item": "p1", "ranking": "r1"}).encode())
    assert reject_of(batch) == ("type", "missing_field")


def test_keys_that_say_nothing_are_refused(read_bytes: ReadBytes) -> None:
    good = json.dumps({**SHARED, "item": "p1"})
    batch = read_bytes("a.jsonl", f"{good}\n{json.dumps(SHARED)}".encode())
    assert batch.rejects["code"].to_list() == ["unknown_event_type"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("item", "id"),
        ("user", "user"),
        ("ranking", "id"),
        ("interaction", "item"),
        ("item", "timestamp"),
    ],
)
def test_what_an_event_needs_is_missed(send: Send, kind: str, name: str) -> None:
    assert reject_of(send(kind, **{name: None})) == (name, "missing_field")


def test_an_interaction_needs_a_type(read_bytes: ReadBytes) -> None:
    event = {"event": "interaction", **EVENTS["interaction"]}
    del event["type"]
    assert reject_of(read_bytes("a.jsonl", json.dumps(event).encode())) == ("type", "missing_field")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("item", "id"),
        ("item", "item"),
        ("user", "user"),
        ("ranking", "user"),
        ("ranking", "session"),
        ("interaction", "item"),
        ("interaction", "type"),
        ("interaction", "ranking"),
        ("interaction", "user"),
    ],
)
@pytest.mark.parametrize(
    ("value", "code"), [("", "empty_value"), ("  ", "empty_value"), (42, "wrong_type"), (True, "wrong_type")]
)
def test_ids_are_texts_that_are_not_empty(send: Send, kind: str, name: str, value: object, code: str) -> None:
    assert reject_of(send(kind, **{name: value})) == (name, code)


@pytest.mark.parametrize(
    ("kind", "name"), [("ranking", "user"), ("ranking", "session"), ("interaction", "user"), ("interaction", "session")]
)
def test_visitor_and_session_are_optional(send: Send, kind: str, name: str) -> None:
    batch = send(kind, **{name: None})
    assert batch.events[f"{name}_id"].unique().to_list() == [None]


def test_an_anonymous_user_is_nobody(send: Send) -> None:
    assert send("interaction", user="anonymous").events["user_id"].to_list() == [None]


@pytest.mark.parametrize("value", ["1777636800000", 1777636800000, "2026-05-01T12:00:00Z", "2026-05-01T20:00+08:00"])
def test_times_in_milliseconds_and_iso_are_read(send: Send, value: object) -> None:
    batch = send("item", timestamp=value)
    assert batch.updates["timestamp"].to_list() == [datetime(2026, 5, 1, 12, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("1777636800", "timestamp_seconds"),
        (1777636800, "timestamp_seconds"),
        (1777636800000000, "timestamp_unit"),
        (5, "timestamp_too_early"),
        ("99999999999999", "timestamp_in_future"),
        ("2026-05-01T12:00:00", "timestamp_no_zone"),
        ("2026-05-01", "timestamp_date_only"),
        (1777636800000.5, "timestamp_fraction"),
        ("foo", "timestamp_unreadable"),
        ("", "timestamp_unreadable"),
        (True, "timestamp_unreadable"),
    ],
)
def test_other_times_are_refused(send: Send, value: object, code: str) -> None:
    assert reject_of(send("item", timestamp=value)) == ("timestamp", code)


def test_a_time_that_is_null_is_missing(read_bytes: ReadBytes) -> None:
    event = {"event": "item", **EVENTS["item"], "timestamp": None}
    assert reject_of(read_bytes("a.jsonl", json.dumps(event).encode())) == ("timestamp", "missing_field")


@pytest.mark.parametrize("value", [True, 1, 1.5, "x", "", ["a", "b"], [1, 2.5], [], 9007199254740993])
def test_every_type_of_a_fields_value_is_kept(send: Send, value: object) -> None:
    batch = send("item", fields=[{"name": "f", "value": value}])
    assert json.loads(batch.updates["fields"][0]) == {"f": value}


@pytest.mark.parametrize(
    "fields",
    [
        {"title": "x"},
        "x",
        [{"name": "f", "value": None}],
        [{"name": "f", "value": {"a": 1}}],
        [{"name": "f", "value": [True]}],
        [{"name": "f", "value": ["a", None]}],
        [{"name": "f", "value": ["a", 1]}],
        [{"name": "f", "value": [[1]]}],
        [{"name": "f"}],
        [{"value": 1}],
        [{"name": 1, "value": 1}],
        ["f"],
    ],
)
def test_fields_of_another_shape_are_refused(send: Send, fields: object) -> None:
    assert reject_of(send("item", fields=fields)) == ("fields", "bad_fields")


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_no_json(read_bytes: ReadBytes, literal: str) -> None:
    text = json.dumps({"event": "item", **EVENTS["item"]}).replace('"Nice jeans"', literal)
    assert reject_of(read_bytes("a.jsonl", text.encode())) == (None, "json_not_finite")


@pytest.mark.parametrize("fields", [None, []])
@pytest.mark.parametrize("kind", ["item", "ranking", "interaction"])
def test_no_fields_are_no_error(send: Send, kind: str, fields: list[Any] | None) -> None:
    assert send(kind, fields=fields).rejects.height == 0


def test_null_fields_are_empty(read_bytes: ReadBytes) -> None:
    batch = read_bytes("a.jsonl", json.dumps({"event": "item", **EVENTS["item"], "fields": None}).encode())
    assert batch.updates["fields"].to_list() == ["{}"]


def test_of_two_fields_with_one_name_the_last_wins(send: Send) -> None:
    batch = send("item", fields=[{"name": "f", "value": 1}, {"name": "f", "value": 2}])
    assert batch.updates["fields"].to_list() == ['{"f":2}']


@pytest.mark.parametrize(("relevancy", "kept"), [(2, 2.0), ("2.0", 2.0), (0, 0.0), (-1.5, -1.5)])
def test_relevancy_is_a_number_or_its_text(send: Send, relevancy: object, kept: float) -> None:
    assert send("ranking", items=[{"id": "p1", "relevancy": relevancy}]).events["relevancy"].to_list() == [kept]


@pytest.mark.parametrize(
    ("relevancy", "code"), [("high", "not_a_number"), ("", "not_a_number"), (True, "wrong_type"), ([1], "wrong_type")]
)
def test_other_relevancies_are_refused(send: Send, relevancy: object, code: str) -> None:
    batch = send("ranking", items=[{"id": "p1"}, {"id": "p2", "relevancy": relevancy}])
    assert reject_of(batch) == ("items[1].relevancy", code)


def test_relevancy_beside_the_items_wins_over_the_field(send: Send) -> None:
    item = {"id": "p1", "relevancy": 2.0, "fields": [{"name": "relevancy", "value": 3.0}]}
    assert send("ranking", items=[item]).events["relevancy"].to_list() == [2.0]


def test_a_null_relevancy_is_none(send: Send) -> None:
    assert send("ranking", items=[{"id": "p1", "relevancy": None}]).events["relevancy"].to_list() == [None]


@pytest.mark.parametrize("label", [3, "3"])
def test_labels_and_fields_of_shown_items_are_kept(send: Send, label: object) -> None:
    item = {"id": "p1", "label": label, "fields": [{"name": "badge", "value": "new"}]}
    (text,) = send("ranking", items=[item]).events["properties"]
    assert json.loads(text) == {"query": "jeans", "badge": "new", "label": 3.0}


@pytest.mark.parametrize(
    ("items", "field", "code"),
    [
        ([], "items", "empty_ranking"),
        ("p1", "items", "wrong_type"),
        (["p1", "p2"], "items[0]", "wrong_type"),
        ([{"id": "p1"}, {}], "items[1].id", "missing_field"),
        ([{"id": 7}], "items[0].id", "wrong_type"),
        ([{"id": " "}], "items[0].id", "empty_value"),
        ([{"id": "p1", "fields": {}}], "items[0].fields", "bad_fields"),
    ],
)
def test_a_ranking_shows_items_with_ids(send: Send, items: object, field: str, code: str) -> None:
    assert reject_of(send("ranking", items=items)) == (field, code)


def test_a_tenant_is_the_environment(send: Send) -> None:
    assert send("item", tenant="lorem").updates.height == 1
    assert reject_of(send("item", tenant="default")) == ("tenant", "other_environment")


def test_unknown_keys_are_ignored_and_counted(send: Send) -> None:
    item = {"id": "p1", "colour": "red", "fields": [{"name": "f", "value": 1, "unit": "kg"}]}
    batch = send("ranking", foo=1, bar=None, items=[item, item])
    assert batch.ignored_keys == {"foo": 1, "items[].colour": 2, "fields[].unit": 2}
    assert batch.rejects.height == 0


def test_keys_of_a_refused_event_are_not_counted(send: Send) -> None:
    assert send("item", foo=1, item="").ignored_keys == {}


def test_the_same_id_with_other_content_has_another_hash(send: Send) -> None:
    hashes = {
        send("ranking", **change).events["content_hash"][0]
        for change in (
            {},
            {"user": "u2"},
            {"items": EVENTS["ranking"]["items"][:2]},
            {"items": EVENTS["ranking"]["items"][::-1]},
            {"fields": []},
            {"timestamp": 1777636800001},
        )
    }
    assert len(hashes) == 6


@pytest.mark.fault("K1")
@pytest.mark.parametrize("name", ["availability", "is_available"])
@pytest.mark.parametrize("value", [True, False, 1, 0, "no", "Out of Stock", " FALSE ", "sold_out", "yes", "in stock"])
def test_availability_is_kept_as_it_was_sent_when_it_is_understood(send: Send, name: str, value: object) -> None:
    (fields,) = send("item", fields=[{"name": name, "value": value}]).updates["fields"]
    assert json.loads(fields) == {name: value}


@pytest.mark.fault("K1")
@pytest.mark.parametrize("value", ["maybe", "", 2, ["no"], "pre order"])
def test_availability_that_is_not_understood_is_refused_by_name(send: Send, value: object) -> None:
    batch = send("item", fields=[{"name": "availability", "value": value}])
    assert reject_of(batch) == ("fields: availability", "wrong_type")
    assert "send true or false" in batch.rejects["message"][0]
