from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recoflow.campaigns.lists import item_filters


@pytest.mark.parametrize(
    ("cell", "accepted"),
    [
        ("shoes", ("shoes",)),
        (" shoes", (" shoes",)),
        ("007", ("007",)),
        ('["shoes","hats"]', ("shoes", "hats")),
        ("[5, 5.0, 5.5, true]", ("5", "5", "5.5", "true")),
        ('{"a":1}', ('{"a":1}',)),
    ],
)
def test_a_filter_cell_is_a_value_or_an_array_of_values(cell, accepted):
    assert item_filters.values(cell) == accepted
    assert item_filters.is_list_of_values(cell)


@pytest.mark.parametrize("cell", ["[", "[]", "[null]", "[[1]]", '[{"a":1}]', "['a']", "[a]", "[" * 5000])
def test_what_only_begins_like_an_array_is_refused(cell):
    assert not item_filters.is_list_of_values(cell)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        ("", ""),
        ("x", "x"),
        (5, "5"),
        (5.0, "5"),
        (5.25, "5.25"),
        (True, "true"),
        (["é", 1], '["é", 1]'),
        ({"b": 1, "a": 2}, '{"a": 2, "b": 1}'),
    ],
)
def test_information_fields_are_text(value, shown):
    assert item_filters.field(value) == shown


def test_attribute_names_are_all_that_any_item_has(make):
    items = make.items([{"item_id": "a", "attributes": {"url": 1}}, {"item_id": "b", "attributes": {"title": 1}}])
    assert item_filters.attribute_names(items) == {"url", "title", "item_type"}


def test_disabled_and_unavailable_items_are_not_eligible(make):
    items = make.items(
        [{"item_id": "a"}, {"item_id": "b", "is_enabled": False}, {"item_id": "c", "is_available": False}]
    )
    assert item_filters.is_eligible(items).tolist() == [True, False, False]


def test_items_filter_on_their_type(make):
    items = make.items([{"item_id": "a"}, {"item_id": "b", "item_type": "video"}])
    mask = item_filters.ItemRules(items, ["item_type"]).mask({"item_type": [("video",)]}, None, make.now)
    assert mask.tolist() == [False, True]


@pytest.mark.parametrize("days", [800_000, 1e12, float("inf")])
def test_no_age_is_too_great(make, days):
    """800,000 days ago there was no year 1 yet."""
    items = make.items([{"item_id": "a", "published_at": make.now}, {"item_id": "b", "published_at": None}])
    assert item_filters.ItemRules(items, ()).mask({}, days, make.now).tolist() == [True, False]


def test_items_that_are_too_old_or_of_unknown_age_are_left_out(make):
    ages = {"a": 0, "b": 2, "c": 2.001, "d": None, "e": -1}
    items = make.items(
        [
            {"item_id": item, "published_at": None if age is None else make.now - timedelta(days=age)}
            for item, age in ages.items()
        ]
    )
    item_rules = item_filters.ItemRules(items, [])
    assert item_rules.mask({}, 2, make.now).tolist() == [True, True, False, False, True]
    assert item_rules.mask({}, None, make.now).all()


plain = st.sampled_from(["a", "b", "1", "true"]) | st.sampled_from([1, 1.0, True, 2.5, None])
attributes = st.fixed_dictionaries(
    {}, optional={"x": plain | st.lists(plain, max_size=3) | st.just({"a": 1}), "y": plain}
)
wanted = st.lists(st.sampled_from(["a", "b", "1", "true", "2.5", "z"]), min_size=1, max_size=3).map(tuple)


def meets(item: dict[str, object], attribute: str, accepted: tuple[str, ...]) -> bool:
    """The definition, item by item: one of the attribute's plain values, as JSON writes it, is accepted."""
    value = item.get(attribute)
    for element in value if isinstance(value, list) else [value]:
        if element is None or isinstance(element, dict):
            continue
        if (element if isinstance(element, str) else json.dumps(element).removesuffix(".0")) in accepted:
            return True
    return False


@settings(max_examples=100, deadline=None)
@given(
    items=st.lists(attributes, min_size=1, max_size=8),
    filters=st.dictionaries(st.sampled_from(["x", "y"]), st.lists(wanted, min_size=1, max_size=2)),
)
def test_masks_are_what_a_check_of_every_item_finds(make, items, filters):
    frame = make.items([{"item_id": f"{number:02}", "attributes": each} for number, each in enumerate(items)])
    mask = item_filters.ItemRules(frame, filters).mask(filters, None, make.now)
    expected = [all(meets(each, name, one) for name, sets in filters.items() for one in sets) for each in items]
    np.testing.assert_array_equal(mask, expected)
