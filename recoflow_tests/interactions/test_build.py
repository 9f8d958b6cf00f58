from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from recoflow import schema
from recoflow.interactions import build
from recoflow.settings.environment import Environment
from recoflow.settings.sections import Events, Sftp

SFTP = Sftp(username="lorem", private_key=Path("key"), known_hosts=Path("known_hosts"))


def _environment(**events: object) -> Environment:
    return Environment(name="lorem", sftp=SFTP, events=Events(**events))


def test_weights_are_summed_per_subject_and_item_and_halve_with_age(filled):
    connection = filled.events(
        {"user_id": "ann"},
        {"user_id": "ann", "days": 10, "event_type": "purchase"},
        {"user_id": "bob", "days": 20},
    )
    environment = _environment(weights={"detail_pageview": 1, "purchase": 5}, half_life_days=10)

    rows = build.interactions(connection, environment, filled.as_of)

    assert rows.select("subject", "item_id", "weight", "events").rows() == [
        ("u:ann", "i", 3.5, 2),
        ("u:bob", "i", 0.25, 1),
    ]
    assert rows["first_at"].to_list()[0] == filled.as_of - timedelta(days=10)
    assert rows["last_at"].to_list()[0] == filled.as_of
    assert rows.schema == schema.INTERACTIONS


def test_without_a_half_life_nothing_decays(filled):
    connection = filled.events({"user_id": "ann", "days": 3000})

    rows = build.interactions(connection, _environment(half_life_days=None), filled.as_of)

    assert rows["weight"].to_list() == [1.0]


def test_events_before_the_log_in_belong_to_the_user_of_the_device(filled):
    connection = filled.events(
        {"device_id": "own", "days": 2},
        {"device_id": "own", "user_id": "ann", "days": 1},
        {"device_id": "shared", "user_id": "ann", "item_id": "j"},
        {"device_id": "shared", "user_id": "bob", "item_id": "j"},
        {"device_id": "shared", "item_id": "j"},
    )

    rows = build.interactions(connection, _environment(), filled.as_of)

    assert rows.select("subject", "item_id", "events").rows() == [
        ("d:shared", "j", 1),
        ("u:ann", "i", 2),
        ("u:ann", "j", 1),
        ("u:bob", "j", 1),
    ]


def test_the_types_of_what_happened_are_kept_as_bits(filled):
    connection = filled.events(
        {"user_id": "ann"},
        {"user_id": "ann", "event_type": "purchase"},
        {"user_id": "ann", "item_id": "j", "event_type": "add_to_cart"},
    )

    rows = build.interactions(connection, _environment(consumed=("add_to_cart",)), filled.as_of)

    bits = [("i", ["detail_pageview", "purchase"]), ("j", ["add_to_cart"])]
    expected = [(item, schema.event_type_bits(names)) for item, names in bits]
    assert rows.select("item_id", "event_types").rows() == expected


def test_types_that_only_a_configuration_names_are_counted_and_do_not_train(filled):
    connection = filled.events({"user_id": "ann", "event_type": "impression"}, {"user_id": "bob"})
    configurations = {"unseen": {"consumed": ["impression"]}}
    environment = Environment(name="lorem", sftp=SFTP, campaigns={"configurations": configurations})

    rows = build.interactions(connection, environment, filled.as_of)

    impression = schema.event_type_bits(["impression"])
    assert rows.select("subject", "weight", "event_types").rows()[0] == ("u:ann", 0.0, impression)


def test_a_consumed_type_without_a_weight_is_there_and_does_not_train(filled):
    connection = filled.events({"user_id": "ann"}, {"user_id": "bob", "event_type": "page_visit"})

    rows = build.interactions(connection, _environment(weights={}, consumed=("detail_pageview",)), filled.as_of)

    seen = schema.event_type_bits(["detail_pageview"])
    assert rows.select("subject", "weight", "event_types").rows() == [("u:ann", 0.0, seen)]


def test_weights_may_sum_to_less_than_nothing(filled):
    connection = filled.events({"user_id": "ann", "event_type": "remove_from_cart"})

    assert build.interactions(connection, _environment(), filled.as_of)["weight"].to_list() == [-1.0]


def test_events_without_an_item_without_anybody_and_of_the_future_are_left_out(filled):
    connection = filled.events(
        {"user_id": "ann", "item_id": None}, {"item_id": "j"}, {"user_id": "ann", "days": -0.5}, {"user_id": "cid"}
    )

    rows = build.interactions(connection, _environment(), filled.as_of)

    assert rows.select("subject", "item_id").rows() == [("u:cid", "i")]


@pytest.mark.parametrize("wrong", ["ann\0", "a\0nn", "a" * 500])
def test_an_id_that_no_model_can_hold_does_not_stop_the_others(filled, wrong):
    """numpy would take "ann" and "ann\\0" for one subject twice, and no bundle of them could be saved."""
    connection = filled.events(
        {"user_id": "ann"}, {"user_id": wrong}, {"device_id": wrong}, {"user_id": "ann", "item_id": wrong + "a"}
    )

    rows = build.interactions(connection, _environment(), filled.as_of)

    assert rows.select("subject", "item_id").rows() == [("u:ann", "i")]


def test_an_empty_lake_gives_no_interactions(filled):
    rows = build.interactions(filled.events(), _environment(), filled.as_of)

    assert rows.is_empty()
    assert rows.schema == schema.INTERACTIONS


def test_the_order_of_events_does_not_change_a_bit(filled, new):
    rows = [
        {"user_id": f"u{n % 7}", "item_id": f"i{n % 3}", "days": (n * 7919 % 1000) / 13, "event_type": "purchase"}
        for n in range(2000)
    ]
    forth = build.interactions(filled.events(*rows), _environment(), filled.as_of)

    with new() as other:
        back = build.interactions(other.events(*reversed(rows)), _environment(), filled.as_of)

    assert forth.equals(back)
    assert forth["subject"].is_sorted()
    exact = sum(5 * 0.5 ** (row["days"] / 30) for row in rows)
    assert forth["weight"].sum() == pytest.approx(exact, rel=1e-9)
