from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recoflow import schema
from recoflow.interactions import catalogue

pytestmark = pytest.mark.slow


def _only(connection):
    return catalogue.fold(connection).row(0, named=True)


def test_no_updates_make_an_empty_catalogue(filled):
    assert catalogue.fold(filled.updates()).schema == schema.ITEMS
    assert catalogue.fold(filled.updates()).is_empty()


def test_an_id_that_no_model_can_hold_is_not_in_the_catalogue(filled):
    connection = filled.updates({"entity_id": "i\0"}, {"entity_id": "i"}, {"entity_id": "i" * 501})
    assert catalogue.fold(connection)["item_id"].to_list() == ["i"]


def test_the_latest_value_of_each_field_wins_and_absent_fields_stay(filled):
    item = _only(
        filled.updates(
            {"days": 1, "fields": {"title": "new", "tags": ["b"]}, "entity_type": "article"},
            {"days": 3, "fields": {"title": "old", "price": 1.50, "tags": ["a", "c"]}, "entity_type": None},
            {"days": 2, "fields": {"price": None}},
        )
    )

    assert item["attributes"] == '{"price":1.5,"tags":["b"],"title":"new"}'
    assert item["item_type"] == "article"
    assert item["updated_at"] == filled.as_of - timedelta(days=1)


def test_attributes_keep_any_name_and_any_text(filled):
    fields = {'a "quote"': "it's \\ é\n", "": 1, "nested": {"x": [1, None]}, "$.path": True}

    assert json.loads(_only(filled.updates({"fields": fields}))["attributes"]) == fields


def test_a_delete_disables_and_a_later_upsert_enables_again(filled):
    deleted = filled.updates({"days": 3, "fields": {"title": "A"}}, {"days": 2, "operation": "delete"})
    assert not _only(deleted)["is_enabled"]
    assert json.loads(_only(deleted)["attributes"]) == {"title": "A"}

    assert _only(filled.updates({"days": 1}))["is_enabled"]


def test_a_delete_wins_over_an_upsert_of_the_same_time(filled):
    item = _only(filled.updates({"operation": "delete", "content_hash": 1}, {"content_hash": 2}))

    assert not item["is_enabled"]


def test_an_item_that_was_only_deleted_is_known_and_disabled(filled):
    item = _only(filled.updates({"operation": "delete", "fields": "null"}))

    assert (item["is_enabled"], item["is_available"], item["attributes"]) == (False, True, "{}")


@pytest.mark.parametrize(
    ("availability", "expected"),
    [(False, False), ("false", False), ("False", False), (0, False), (True, True), ("x", False)],
)
def test_availability_false_makes_an_item_unavailable(filled, availability, expected):
    assert _only(filled.updates({"fields": {"availability": availability}}))["is_available"] is expected


@pytest.mark.fault("K1")
@pytest.mark.parametrize(
    "word", ["no", "N", " FALSE ", "out of stock", "out_of_stock", "Sold Out", "soldout", 0.0, "?"]
)
def test_what_does_not_say_yes_is_not_available(filled, word):
    assert not _only(filled.updates({"fields": {"availability": word}}))["is_available"]
    assert not _only(filled.updates({"days": 0, "fields": {"is_available": word}}))["is_available"]


@pytest.mark.fault("K1")
@pytest.mark.parametrize("word", ["yes", "Y", " TRUE ", "in stock", "In_Stock", 1, 1.0, "available"])
def test_every_spelling_of_yes_is_available(filled, word):
    assert _only(filled.updates({"fields": {"availability": word}}))["is_available"]


@pytest.mark.fault("K2")
@pytest.mark.parametrize(
    ("updates", "url"),
    [
        ([{"fields": {"uri": "a"}}], "a"),
        ([{"fields": {"url": "b"}}], "b"),
        ([{"fields": {"uri": "a", "url": "b"}}], "b"),
        ([{"days": 2, "fields": {"url": "old"}}, {"days": 1, "fields": {"uri": "new"}}], "new"),
        ([{"days": 1, "fields": {"url": "new"}}, {"days": 2, "fields": {"uri": "old"}}], "new"),
    ],
)
def test_uri_and_url_are_one_attribute(filled, updates, url):
    assert json.loads(_only(filled.updates(*updates))["attributes"]) == {"url": url}


def test_unavailable_lasts_until_availability_turns_true(filled):
    filled.updates({"days": 3, "fields": {"availability": False}})
    assert not _only(filled.updates({"days": 2, "fields": {"title": "A"}}))["is_available"]
    assert _only(filled.updates({"days": 1, "fields": {"availability": True}}))["is_available"]


@pytest.mark.parametrize(
    "written",
    [
        "2026-02-03T04:05:06Z",
        "2026-02-03T05:05:06+01:00",
        "2026-02-03 04:05:06",
        1770091506,
        1770091506000,
        "1770091506",
        "1770091506000",
    ],
)
def test_the_publication_time_is_read_as_iso_or_epoch(filled, written):
    item = _only(filled.updates({"fields": {"publication_datetime": written}}))

    assert item["published_at"] == datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


@pytest.mark.parametrize("written", ["soon", True, ["2026"], "", "1e400", 1e300])
def test_a_publication_time_that_is_none_leaves_it_open(filled, written):
    assert _only(filled.updates({"fields": {"publication_datetime": written}}))["published_at"] is None


def test_users_are_no_items(filled):
    assert catalogue.fold(filled.updates({"entity": "user"})).is_empty()


UPDATES = st.lists(
    st.fixed_dictionaries(
        {
            "entity_id": st.sampled_from("ab"),
            "operation": st.sampled_from(["upsert", "upsert", "delete"]),
            "days": st.integers(0, 2),
            "content_hash": st.integers(0, 2**64 - 1),
            "fields": st.dictionaries(st.sampled_from("xyz"), st.one_of(st.none(), st.integers(0, 3)), max_size=3),
        }
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda update: update["content_hash"],
)


@settings(max_examples=10, deadline=None)
@given(updates=UPDATES, random=st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter_and_python_agrees(new, updates, random):
    folded = []
    for rows in (updates, random.sample(updates, len(updates))):
        with new() as lake:
            folded.append(catalogue.fold(lake.updates(*rows)))

    assert folded[0].equals(folded[1])
    expected: dict[str, dict[str, int]] = {}
    enabled: dict[str, bool] = {}
    turn = lambda update: (-update["days"], update["operation"] == "delete", update["content_hash"])  # noqa: E731
    for update in sorted(updates, key=turn):
        enabled[update["entity_id"]] = update["operation"] == "upsert"
        item = expected.setdefault(update["entity_id"], {})
        if update["operation"] == "upsert":
            item |= {name: value for name, value in update["fields"].items() if value is not None}
    rows = folded[0].rows(named=True)
    assert {row["item_id"]: json.loads(row["attributes"]) for row in rows} == expected
    assert {row["item_id"]: row["is_enabled"] for row in rows} == enabled
