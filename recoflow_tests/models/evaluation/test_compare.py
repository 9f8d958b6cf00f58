from __future__ import annotations

import dataclasses
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from recoflow import schema
from recoflow.models.evaluation import compare
from recoflow.models.store.bundle import Bundle
from recoflow.models.training import pipeline
from recoflow.models.training.pipeline import TrainingResult
from recoflow_tests.models.conftest import NOW, catalogue, environment

NOBODY = pl.DataFrame(schema=schema.IDENTITY)


@pytest.fixture
def trained(training: TrainingResult) -> Bundle:
    assert training.bundle is not None
    return training.bundle


@pytest.fixture(scope="module")
def popular(world: pl.DataFrame) -> Bundle:
    """Another model of the same world, a day later, with items that the first does not know."""
    models = {"models": {"popular": {"algorithm": "popular"}}}
    items = catalogue("a-first", "z-last")
    made = pipeline.train_environment(world, items, NOBODY, environment(**models), None, NOW + timedelta(days=1), {})
    assert made.bundle is not None
    return made.bundle


def test_a_bundle_is_wholly_like_itself(trained: Bundle) -> None:
    found = compare.overlap(trained, trained, 1)
    assert (found.users, found.k) == (len(trained.subjects), 10)
    assert (found.shared, found.same_first) == (1, 1)
    assert found.items[0] == found.items[1]


def test_overlap_is_that_of_lists_made_by_hand(trained: Bundle, popular: Bundle) -> None:
    found = compare.overlap(trained, popular, 1)
    shared, first = [], []
    for row in range(len(trained.subjects)):
        ours, theirs = (by_hand(each, row) for each in (trained, popular))
        shared.append(len(set(ours) & set(theirs)) / 10)
        first.append(ours[0] == theirs[0])
    assert found.shared == pytest.approx(np.mean(shared))
    assert found.same_first == pytest.approx(np.mean(first))
    assert 0 < found.shared < 0.9
    assert found.items[0] > found.items[1] >= 10


def by_hand(bundle: Bundle, row: int) -> list[str]:
    scores = bundle.scorer.score(np.array([row]))[0]
    seen = set(bundle.seen_indices[bundle.seen_indptr[row] : bundle.seen_indptr[row + 1]].tolist())
    order = [int(item) for item in np.argsort(-scores, kind="stable") if int(item) not in seen]
    return [bundle.items["item_id"][item] for item in order[:10]]


def test_a_sample_is_the_same_each_time(trained: Bundle, popular: Bundle) -> None:
    found = compare.overlap(trained, popular, 1, users=40)
    assert found.users == 40
    assert found == compare.overlap(trained, popular, 1, users=40)


def test_people_whom_only_one_knows_are_left_out(trained: Bundle) -> None:
    renamed = np.array([f"x:{number:04}" for number in range(len(trained.subjects))])
    stranger = dataclasses.replace(trained, subjects=renamed)
    assert compare.overlap(trained, stranger, 1).users == 0


def test_items_that_may_not_be_recommended_are_in_no_list(trained: Bundle, popular: Bundle) -> None:
    first = by_hand(popular, 0)[0]
    closed = popular.items.with_columns(is_enabled=pl.col("item_id") != first)
    found = compare.overlap(trained, dataclasses.replace(popular, items=closed), 1)
    assert found.shared < compare.overlap(trained, popular, 1).shared
