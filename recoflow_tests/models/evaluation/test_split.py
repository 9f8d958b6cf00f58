from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recoflow.models.evaluation import split
from recoflow_tests.models.conftest import NOW, interactions


@pytest.mark.parametrize("kind", ["temporal", "leave_last_out", "random"])
def test_every_pair_lands_on_exactly_one_side(world: pl.DataFrame, kind: split.Kind) -> None:
    parts = split.split(world, kind, 0.1, 7)
    assert parts.train.height + parts.test.height == world.height
    assert parts.leaks() == 0
    assert parts.test.height > 0


def test_a_temporal_split_has_one_point_in_time_and_about_the_wanted_share(world: pl.DataFrame) -> None:
    parts = split.split(world, "temporal", 0.2, 7)
    assert parts.train["first_at"].max() < parts.at <= parts.test["first_at"].min()
    assert parts.test.height / world.height == pytest.approx(0.2, abs=0.01)


def test_leave_last_out_takes_the_last_pair_of_each_subject_with_two_or_more() -> None:
    rows = [("u:a", "i1", 1), ("u:a", "i2", 3), ("u:a", "i3", 2), ("u:b", "i1", 5)]
    events = pl.DataFrame(
        {
            "subject": [row[0] for row in rows],
            "item_id": [row[1] for row in rows],
            "weight": [1.0] * 4,
            "at": [NOW + timedelta(hours=row[2]) for row in rows],
        }
    )
    parts = split.split(interactions(events), "leave_last_out", 0.1, 7)
    assert parts.test.select("subject", "item_id").rows() == [("u:a", "i2")]


def test_pairs_without_positive_weight_are_on_neither_side(world: pl.DataFrame) -> None:
    mixed = world.with_columns(pl.when(pl.int_range(pl.len()) % 3 == 0).then(-1.0).otherwise("weight").alias("weight"))
    parts = split.split(mixed, "temporal", 0.1, 7)
    assert min(parts.train["weight"].min(), parts.test["weight"].min()) > 0


def test_a_leak_is_counted(world: pl.DataFrame) -> None:
    parts = split.split(world, "temporal", 0.1, 7)
    leaking = split.Split(parts.kind, pl.concat([parts.train, parts.test.head(3)]), parts.test, parts.at)
    assert leaking.leaks() >= 3


def test_where_all_happens_at_one_moment_another_split_is_taken(world: pl.DataFrame) -> None:
    at_once = world.with_columns(pl.lit(NOW).cast(world.schema["first_at"]).alias("first_at"))
    parts = split.usable(at_once, "temporal", 0.1, 7)
    assert parts.kind == "leave_last_out"
    assert parts.warm_users() >= split.MIN_USERS


@given(st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_the_random_split_depends_on_the_seed_alone_not_on_the_order_of_rows(seed: int) -> None:
    rows = 40
    events = pl.DataFrame(
        {
            "subject": [f"u:{row % 4}" for row in range(rows)],
            "item_id": [f"i{row:02}" for row in range(rows)],
            "weight": [1.0] * rows,
            "at": [NOW] * rows,
        }
    )
    frame = interactions(events)
    first = split.split(frame, "random", 0.3, seed)
    second = split.split(frame.sample(fraction=1, shuffle=True, seed=seed), "random", 0.3, seed)
    assert first.test.equals(second.test)
