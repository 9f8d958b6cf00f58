from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recoflow.models.algorithms.matrix import Matrix
from recoflow.models.algorithms.scorer import Scorer
from recoflow.models.evaluation import evaluate
from recoflow_tests.models.conftest import matrix_of


class Fixed:
    def __init__(self, scores: list[list[float]]) -> None:
        self.scores = np.array(scores, np.float32)

    def score(self, rows: np.ndarray) -> Matrix:
        return self.scores[rows]


def test_lists_leave_out_what_was_trained_on_and_break_ties_by_item() -> None:
    seen = matrix_of([[0, 1, 0, 0], [0, 0, 0, 0]]).matrix
    lists = evaluate.top_lists(Fixed([[1, 9, 1, 2], [0, 0, 0, 0]]), seen, np.array([0, 1]), 3)
    assert lists.tolist() == [[3, 0, 2], [0, 1, 2]]


def test_a_list_is_short_where_nothing_is_left() -> None:
    seen = matrix_of([[1, 1, 0]]).matrix
    assert evaluate.top_lists(Fixed([[1, 2, 3]]), seen, np.array([0]), 3).tolist() == [[2, -1, -1]]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_lists_are_the_sorted_scores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, (6, 15)).astype(np.float32)
    seen = matrix_of((rng.random((6, 15)) < 0.3).astype(float).tolist()).matrix
    lists = evaluate.top_lists(Fixed(scores.tolist()), seen, np.arange(6), 4)
    for row in range(6):
        left = [column for column in range(15) if not seen[row, column]]
        expected = sorted(left, key=lambda column: (-scores[row, column], column))[:4]
        assert [column for column in lists[row] if column >= 0] == expected


def test_only_users_with_both_sides_are_judged_and_the_numbers_are_theirs() -> None:
    train = matrix_of([[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).matrix
    test = matrix_of([[0, 1, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]).matrix
    result = evaluate.evaluate(Fixed([[0, 3, 2, 1]] * 3), train, test, 2, 1)
    assert result.users == 2
    assert result.values["recall"] == 0.5
    assert result.values["hit_rate"] == 0.5
    assert result.ndcg.tolist() == [1, 0]
    assert result.values["coverage"] == 0.5


def test_no_judged_user_gives_zeros_not_an_error() -> None:
    empty = matrix_of([[0, 0]]).matrix
    result = evaluate.evaluate(Fixed([[1, 2]]), empty, empty, 10, 1)
    assert result.users == 0
    assert result.values["ndcg"] == 0


def test_random_scores_depend_on_seed_and_user_not_on_the_block() -> None:
    scores = evaluate.RandomScores(50, 3)
    together = scores.score(np.array([4, 9]))
    np.testing.assert_array_equal(scores.score(np.array([9]))[0], together[1])
    assert not np.array_equal(together[0], together[1])


def test_cold_warm_and_heavy_users_are_told_apart_and_each_kind_has_an_interval() -> None:
    train = np.zeros((10, 12))
    for user in range(10):
        train[user, : user + 1] = 1
    test = np.zeros((10, 12))
    test[:, 11] = 1
    scores = np.zeros((10, 12), np.float32)
    scores[8:, 11] = 1
    result = evaluate.evaluate(
        Fixed(scores.tolist()), matrix_of(train.tolist()).matrix, matrix_of(test.tolist()).matrix, 1, 1
    )
    assert result.segments == {
        "cold": evaluate.Segment(4, 0.0, (0.0, 0.0)),
        "warm": evaluate.Segment(4, 0.0, (0.0, 0.0)),
        "heavy": evaluate.Segment(2, 1.0, result.segments["heavy"].interval),
    }
    assert result.segments["heavy"].interval[1] == 1


def test_a_product_of_factors_scores_as_its_definition() -> None:
    rng = np.random.default_rng(1)
    users, items = rng.random((3, 2)).astype(np.float32), rng.random((5, 2)).astype(np.float32)
    assert Scorer(users, items).score(np.array([2]))[0, 4] == pytest.approx(users[2] @ items[4])


def test_of_many_people_a_seeded_sample_is_judged() -> None:
    rng = np.random.default_rng(0)
    train, test = (matrix_of((rng.random((50, 8)) < 0.9).astype(float).tolist()).matrix for _ in range(2))
    scores = Fixed(rng.random((50, 8)).tolist())
    some = evaluate.evaluate(scores, train, test, 3, 1, most=10)
    assert some.users == 10
    assert some.ndcg.tolist() == evaluate.evaluate(scores, train, test, 3, 1, most=10).ndcg.tolist()
    assert some.ndcg.tolist() != evaluate.evaluate(scores, train, test, 3, 2, most=10).ndcg.tolist()


def test_random_lists_of_many_items_spread_over_all_of_them() -> None:
    items, rows = 20 * evaluate.DRAWN, np.arange(40)
    scores = evaluate.RandomScores(items, 3).score(rows)
    lists = evaluate.top_lists(evaluate.RandomScores(items, 3), matrix_of([[0] * items] * 40).matrix, rows, 50)
    assert (scores.max(axis=1) > 0.99).all()
    assert all(len(set(each)) == len(each) for each in lists.tolist())
    assert len(np.unique(lists)) > 0.95 * lists.size
    assert np.ptp(np.bincount(lists.ravel() * 4 // items, minlength=4)) < 0.1 * lists.size
