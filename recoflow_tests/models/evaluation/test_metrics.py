from __future__ import annotations

import math

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from recoflow.models.algorithms.scorer import Scorer
from recoflow.models.evaluation import evaluate, metrics

pytestmark = pytest.mark.slow


def test_a_worked_example_of_each_metric() -> None:
    # Ranks 1 and 4 hit, two of three relevant items: DCG = 1/log2 2 + 1/log2 5, IDCG = 1/log2 2 + 1/log2 3 + 1/log2 4.
    hits = np.array([[True, False, False, True]])
    relevant = np.array([3])
    assert metrics.recall(hits, relevant) == pytest.approx([2 / 3])
    assert metrics.hit_rate(hits) == pytest.approx([1])
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert metrics.ndcg(hits, relevant) == pytest.approx([(1 + 1 / math.log2(5)) / ideal])
    assert metrics.average_precision(hits, relevant) == pytest.approx([(1 / 1 + 2 / 4) / 3])


def test_the_best_list_of_k_has_ndcg_and_map_of_one_though_more_items_are_relevant() -> None:
    hits = np.ones((1, 3), np.bool_)
    assert metrics.ndcg(hits, np.array([10])) == pytest.approx([1])
    assert metrics.average_precision(hits, np.array([10])) == pytest.approx([1])


def test_coverage_counts_items_once_and_no_empty_places() -> None:
    assert metrics.coverage(np.array([[0, 1], [1, -1]], np.int32), 8) == 0.25


def test_gini_is_zero_when_all_items_are_shown_alike_and_near_one_when_one_takes_all() -> None:
    assert metrics.gini(np.array([[0, 1], [2, 3]], np.int32), 4) == pytest.approx(0)
    assert metrics.gini(np.array([[0], [0]], np.int32), 100) == pytest.approx(0.99)


def test_novelty_is_the_bits_of_surprise() -> None:
    lists = np.array([[0, 1], [1, -1]], np.int32)
    assert metrics.novelty(lists, np.array([4.0, 1.0]), users=8) == pytest.approx([(1 + 3) / 2, 3])


def test_personalization_is_the_mean_share_of_a_list_that_another_person_does_not_have() -> None:
    lists = np.array([[0, 1], [0, 2], [3, 4]], np.int32)
    assert metrics.personalization(lists, 8) == pytest.approx(1 - (0.5 + 0 + 0) / 3)
    assert metrics.personalization(np.array([[3, 1], [1, 3]], np.int32), 8) == 0
    assert metrics.personalization(lists[:1], 8) == 1


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_metrics_agree_with_loops_over_the_definitions(data: st.DataObject) -> None:
    k = data.draw(st.integers(1, 6))
    users = data.draw(st.integers(1, 5))
    hits = np.array(
        data.draw(st.lists(st.lists(st.booleans(), min_size=k, max_size=k), min_size=users, max_size=users))
    )
    spare = data.draw(st.lists(st.integers(0, 4), min_size=users, max_size=users))
    relevant = np.maximum(hits.sum(1) + spare, 1)
    reference = [_by_loops(row.tolist(), int(count)) for row, count in zip(hits, relevant, strict=True)]
    ours = zip(
        metrics.recall(hits, relevant),
        metrics.ndcg(hits, relevant),
        metrics.average_precision(hits, relevant),
        strict=True,
    )
    for mine, theirs in zip(ours, reference, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-9)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_metrics_agree_with_trec_eval_on_whole_evaluations(seed: int) -> None:
    """TREC's own program, as pytrec_eval wraps it; its MAP divides by all relevant items, ours by those that fit."""
    rng = np.random.default_rng(seed)
    users, items, k = (int(rng.integers(low, high)) for low, high in ((1, 8), (12, 40), (1, 12)))
    train = rng.random((users, items)) < 0.2
    test = (rng.random((users, items)) < rng.random()) & ~train
    train[:, 0], test[:, 0] = True, False
    scores = rng.permuted(np.arange(users * items, dtype=np.float32).reshape(users, items))
    theirs = _by_trec_eval(scores, train, test, k)
    ours = evaluate.evaluate(Scorer(scores, np.eye(items, dtype=np.float32)), csr_matrix(train), csr_matrix(test), k, 1)
    assert ours.users == len(theirs)
    for name, values in _transposed(theirs).items():
        assert ours.values[name] == pytest.approx(np.mean(values), abs=1e-9), name


def _by_trec_eval(scores: np.ndarray, train: np.ndarray, test: np.ndarray, k: int) -> list[dict[str, float]]:
    judged = np.flatnonzero(test.any(1)).tolist()
    relevant = {f"u{user}": {f"i{item}": 1 for item in np.flatnonzero(test[user])} for user in judged}
    lists = {
        f"u{user}": {f"i{item}": float(scores[user, item]) for item in np.flatnonzero(~train[user])} for user in judged
    }
    measures = {f"{name}.{k}" for name in ("recall", "ndcg_cut", "map_cut", "success")}
    found = pytrec_eval.RelevanceEvaluator(relevant, measures).evaluate(lists)
    return [
        {
            "recall": of[f"recall_{k}"],
            "ndcg": of[f"ndcg_cut_{k}"],
            "map": of[f"map_cut_{k}"] * len(relevant[user]) / min(k, len(relevant[user])),
            "hit_rate": of[f"success_{k}"],
        }
        for user, of in found.items()
    ]


def _transposed(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def test_the_interval_holds_the_mean_and_narrows_with_more_users() -> None:
    rng = np.random.default_rng(1)
    few, many = rng.random(50), rng.random(5000)
    assert metrics.interval(few, 3)[0] < few.mean() < metrics.interval(few, 3)[1]
    assert np.ptp(metrics.interval(many, 3)) < np.ptp(metrics.interval(few, 3)) / 5
    assert metrics.interval(few, 3) == metrics.interval(few, 3)


def _by_loops(row: list[bool], relevant: int) -> tuple[float, float, float]:
    gain = precision = found = 0.0
    for rank, is_hit in enumerate(row, start=1):
        if is_hit:
            found += 1
            gain += 1 / math.log2(rank + 1)
            precision += found / rank
    reachable = min(len(row), relevant)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, reachable + 1))
    return found / relevant, gain / ideal, precision / reachable
