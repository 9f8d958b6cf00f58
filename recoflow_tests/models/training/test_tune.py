from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from recoflow import schema
from recoflow.models.algorithms import matrix, train
from recoflow.models.evaluation import holdout
from recoflow.models.evaluation.holdout import HoldOut
from recoflow.models.training import tune
from recoflow.models.training.blend_weights import fit_weights
from recoflow.settings.sections import Model
from recoflow_tests.models.conftest import NOW, tasteful


@pytest.fixture(scope="module")
def hold() -> HoldOut:
    return holdout.hold_out(matrix.from_interactions(tasteful(3)), 5, is_temporal=False)


@pytest.mark.parametrize("is_temporal", [True, False])
def test_a_hold_out_parts_the_entries_and_judges_users_of_both_sides(is_temporal: bool) -> None:
    data = matrix.from_interactions(tasteful(3))
    hold = holdout.hold_out(data, 5, is_temporal=is_temporal)
    assert hold.data.matrix.nnz + hold.test.nnz == data.matrix.nnz
    assert hold.data.matrix.multiply(hold.test).nnz == 0
    assert hold.test.nnz / data.matrix.nnz == pytest.approx(0.2, abs=0.02)
    assert len(hold.data.last_at) == hold.data.matrix.nnz
    assert (np.diff(hold.test.indptr)[hold.judged] > 0).all()
    assert (np.diff(hold.data.matrix.indptr)[hold.judged] > 0).all()
    if is_temporal:
        rows = np.repeat(np.arange(data.shape[0]), np.diff(data.matrix.indptr))
        assert hold.data.last_at.max() < np.quantile(data.last_at, 0.81)
        assert len(rows) == len(data.last_at)


def test_a_large_matrix_is_thinned_to_whole_rows_with_their_times() -> None:
    data = matrix.from_interactions(tasteful(3))
    hold = holdout.hold_out(data, 5, is_temporal=False, max_users=50)
    assert hold.data.shape == (50, data.shape[1])
    places = np.searchsorted(data.subjects, hold.data.subjects)
    whole = data.matrix[places]
    np.testing.assert_array_equal((hold.data.matrix + hold.test).toarray(), whole.toarray())
    row, entry = 7, 0
    column = hold.data.matrix[[row]].indices[entry]
    original = data.matrix.indptr[places[row]] + data.matrix[[places[row]]].indices.tolist().index(column)
    assert hold.data.last_at[hold.data.matrix.indptr[row] + entry] == data.last_at[original]


def test_times_that_are_all_equal_fall_back_to_a_drawn_hold_out() -> None:
    frame = tasteful(3).with_columns(last_at="first_at")
    frame = frame.with_columns(first_at=frame["first_at"].max(), last_at=frame["first_at"].max())
    hold = holdout.hold_out(matrix.from_interactions(frame), 5, is_temporal=True)
    assert len(hold.judged) > 100


def test_where_people_come_once_the_latest_of_each_is_held_out_so_that_many_choose() -> None:
    frame = tasteful(3)
    visit = pl.col("subject").str.slice(2).cast(pl.Int64) * 3600 + pl.int_range(pl.len()).over("subject")
    times = (NOW - timedelta(days=60) + pl.duration(seconds=visit)).cast(schema.UTC_TIME)
    data = matrix.from_interactions(frame.with_columns(times.alias("first_at"), times.alias("last_at")))
    hold = holdout.hold_out(data, 5, is_temporal=True)
    assert len(hold.judged) > 200
    for row in hold.judged[:20]:
        begin, end = hold.data.matrix.indptr[row : row + 2]
        all_times = data.last_at[data.matrix.indptr[row] : data.matrix.indptr[row + 1]]
        assert sorted(hold.data.last_at[begin:end]) == sorted(all_times)[: end - begin]


def test_items_that_are_new_in_a_temporal_hold_out_are_no_matter_of_taste() -> None:
    frame = tasteful(3)
    late = frame["last_at"].quantile(0.9, "higher")
    fresh = frame.filter(pl.col("first_at") >= late).with_columns(pl.format("new-{}", "item_id").alias("item_id"))
    data = matrix.from_interactions(pl.concat([frame, fresh]))
    hold = holdout.hold_out(data, 5, is_temporal=True)
    assert not any(item.startswith("new-") for item in hold.data.items.tolist())
    assert hold.data.shape == hold.test.shape == (data.shape[0], len(hold.data.items))
    assert len(hold.data.born_at) == len(hold.data.items)


def test_what_the_environment_sets_is_kept_and_the_rest_is_chosen(hold: HoldOut) -> None:
    model = Model(algorithm="als", alpha=77, factors=8, iterations=tune.ALS_ITERATIONS)
    resolved = tune.resolve_settings(model, hold, 5, {})
    assert (resolved.alpha, resolved.factors, resolved.exponent) == (77, 8, None)
    assert resolved.regularization in dict(tune.TRIALS["als"])["regularization"]
    tried = [
        hold.ndcg(train.train(hold.data, model.model_copy(update={"regularization": value}), 5))
        for value in dict(tune.TRIALS["als"])["regularization"]
    ]
    assert hold.ndcg(train.train(hold.data, resolved, 5)) > max(tried) / (1 + 2.1 * tune.GAIN)


def test_a_blend_takes_components_that_were_chosen_before_and_is_no_worse_on_the_hold_out(hold: HoldOut) -> None:
    known = {"mine": tune.resolve_settings(Model(algorithm="als", factors=8), hold, 5, {})}
    resolved = tune.resolve_settings(Model(algorithm="blend"), hold, 5, known)
    assert resolved.components is not None
    assert resolved.weights is not None
    assert resolved.components["als"] == known["mine"]
    assert sum(resolved.weights.values()) == pytest.approx(1, abs=0.001)
    blended = hold.ndcg(train.train(hold.data, resolved, 5))
    parts = [hold.ndcg(train.train(hold.data, each, 5)) for each in resolved.components.values()]
    assert blended >= max(parts) - 0.02


def test_a_useless_component_gets_no_weight(hold: HoldOut) -> None:
    good = train.train(hold.data, Model(algorithm="als", factors=16), 5)
    noise = train.train(hold.data, Model(algorithm="newest"), 5)
    weights = fit_weights({"good": good, "noise": noise}, hold)
    assert weights["good"] > 0.6
