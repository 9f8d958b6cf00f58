from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from recoflow import schema
from recoflow.models.algorithms import matrix, train, warm_start
from recoflow.models.algorithms.matrix import UserItems
from recoflow.models.algorithms.scorer import Scorer
from recoflow.models.algorithms.warm_start import WarmStart
from recoflow.models.evaluation import evaluate, split
from recoflow.models.store.bundle import Bundle
from recoflow.models.training import evaluation_run, pipeline
from recoflow.settings.sections import Model
from recoflow_tests.models.conftest import NOW, environment, tasteful

pytestmark = pytest.mark.slow

ALS = Model(algorithm="als", factors=16, iterations=9)
NOBODY, NOTHING = pl.DataFrame(schema=schema.IDENTITY), pl.DataFrame(schema=schema.ITEMS)


def start_of(scorer: Scorer, data: UserItems, algorithm: str = "als") -> WarmStart:
    model = {"algorithm": algorithm, "parameters": scorer.parameters, "course": scorer.course}
    return WarmStart("v1", data.items, scorer.item_factors, model, scorer.encoders)


@pytest.fixture(scope="module")
def parts() -> tuple[UserItems, UserItems, UserItems]:
    """Yesterday's matrix, today's with 5 % more, and what is to be predicted, all of today's users."""
    outer = split.split(tasteful(3, pairs=9000), "random", 0.2, 1)
    inner = split.split(outer.train, "temporal", 0.05, 1)
    today = matrix.from_interactions(outer.train)
    return (
        matrix.from_interactions(inner.train),
        today,
        matrix.from_interactions(outer.test, subjects=today.subjects, items=today.items),
    )


def ndcg(scorer: Scorer, today: UserItems, test: UserItems) -> float:
    return evaluate.evaluate(scorer, today.matrix, test.matrix, 10, 1).values["ndcg"]


def test_a_third_of_the_sweeps_reaches_the_quality_of_a_cold_training(
    parts: tuple[UserItems, UserItems, UserItems],
) -> None:
    yesterday, today, test = parts
    start = start_of(train.train(yesterday, ALS, 5), yesterday)
    cold, warmed = train.train(today, ALS, 5), train.train(today, ALS, 5, [start])
    assert warmed.course["sweeps"] * 3 <= cold.course["sweeps"]
    assert warmed.course["sweeps_saved"] == cold.course["sweeps"] - warmed.course["sweeps"]
    assert warmed.course["started_from"] == "v1"
    assert ndcg(warmed, today, test) > ndcg(cold, today, test) * 0.98
    again = train.train(today, ALS, 5, [start])
    np.testing.assert_array_equal(again.item_factors, warmed.item_factors)


def test_more_sweeps_follow_while_the_objective_is_worse_than_the_starts(
    parts: tuple[UserItems, UserItems, UserItems],
) -> None:
    yesterday, today, _ = parts
    good = train.train(yesterday, ALS, 5)
    start = start_of(replace(good, course={**good.course, "objective": 0.0}), yesterday)
    assert train.train(today, ALS, 5, [start]).course["sweeps_saved"] == 0


@pytest.mark.parametrize(
    ("changed", "course"),
    [({"alpha": 3.0}, {}), ({"factors": 8}, {}), ({}, {"sweeps_since_cold": warm_start.LINEAGE * 9})],
)
def test_other_settings_and_long_lineages_start_cold(
    parts: tuple[UserItems, UserItems, UserItems], changed: dict[str, float], course: dict[str, int]
) -> None:
    yesterday, today, _ = parts
    old = train.train(yesterday, ALS, 5)
    start = start_of(replace(old, course=old.course | course), yesterday)
    model = ALS.model_copy(update=changed)
    again = train.train(today, model, 5, [start])
    np.testing.assert_array_equal(again.item_factors, train.train(today, model, 5).item_factors)
    assert "started_from" not in again.course


def test_where_the_model_in_service_does_not_fit_the_hold_outs_factors_are_continued(
    parts: tuple[UserItems, UserItems, UserItems],
) -> None:
    yesterday, today, test = parts
    trained = train.train(yesterday, ALS, 5)
    old = start_of(replace(trained, course=trained.course | {"sweeps_since_cold": warm_start.LINEAGE * 9}), yesterday)
    on_hold_out = evaluation_run.start_of_hold_out(trained, "als", yesterday.items)
    continued = train.train(today, ALS, 5, [old, on_hold_out])
    assert continued.course["started_from"] == evaluation_run.HOLD_OUT
    assert ndcg(continued, today, test) > ndcg(train.train(today, ALS, 5), today, test) * 0.98


def test_factors_follow_their_ids_and_new_ids_begin_at_zero() -> None:
    factors = np.array([[1, 1], [2, 2]], np.float32)
    start = WarmStart("v1", np.array(["b", "d"]), factors, {}, ())
    assert start.factors_of(np.array(["a", "b", "c", "d", "e"]))[:, 0].tolist() == [0, 1, 0, 2, 0]


def test_the_als_of_a_blend_continues_and_other_parts_do_not(parts: tuple[UserItems, UserItems, UserItems]) -> None:
    yesterday, today, _ = parts
    components = {name: Model(algorithm=name) for name in ("ease", "spectral")} | {"mine": ALS}
    model = Model(algorithm="blend", components=components, weights={"ease": 1, "spectral": 1, "mine": 2})
    old = train.train(yesterday, model, 5)
    start = start_of(old, yesterday, "blend")
    part = start.component("mine")
    assert part is not None
    np.testing.assert_array_equal(part.factors, train.train(yesterday, ALS, 5).item_factors)
    assert start.component("ease") is None
    assert train.train(today, model, 5, [start]).course["mine"]["started_from"] == "v1"


def test_a_nightly_training_continues_and_its_manifest_says_from_what() -> None:
    def night(frame: pl.DataFrame, champion: Bundle | None, days: int) -> Bundle:
        trained = pipeline.train_environment(
            frame,
            NOTHING,
            NOBODY,
            environment(models={"als": {"algorithm": "als", "regularization": 0.002, "alpha": 30}}),
            champion,
            NOW + timedelta(days=days),
            {},
        )
        assert trained.bundle is not None
        return trained.bundle

    world = tasteful(5)
    first = night(world.head(5000), None, 0)
    second, same = night(world, first, 1), night(world, first, 1)
    course = first.manifest["model"]["course"]
    assert course["started_from"] == evaluation_run.HOLD_OUT
    assert course["sweeps"] + course["sweeps_saved"] == 7
    assert course["sweeps_since_cold"] == 7 + course["sweeps"]
    course = second.manifest["model"]["course"]
    assert course["started_from"] == first.version
    assert course["sweeps_saved"] >= 1
    assert same.version == second.version
    assert night(world, None, 1).version != second.version


def test_where_many_interactions_are_with_new_items_the_hold_outs_factors_are_no_start() -> None:
    world = tasteful(5).sort("first_at")
    newest = world.tail(300).with_columns(item_id=pl.lit("new-") + pl.col("item_id"))
    trained = pipeline.train_environment(
        pl.concat([world.head(-300), newest]),
        NOTHING,
        NOBODY,
        environment(models={"als": {"algorithm": "als", "regularization": 0.002, "alpha": 30}}),
        None,
        NOW,
        {},
    )
    assert trained.bundle is not None
    assert trained.bundle.manifest["model"]["course"]["sweeps"] == 7
    assert "started_from" not in trained.bundle.manifest["model"]["course"]
