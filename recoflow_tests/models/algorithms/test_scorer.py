from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from recoflow.models.algorithms import blend, scorer, train
from recoflow.models.algorithms.scorer import Scorer
from recoflow.settings.sections import Model
from recoflow_tests.models.conftest import random_matrix

pytestmark = pytest.mark.slow

EVERYONE = np.arange(60)
PERSONAL = ("als", "bpr", "lmf", "item_neighbours", "ease", "spectral", "blend")


def small(algorithm: str) -> Model:
    return Model(algorithm=algorithm, factors=None if algorithm in {"ease", "item_neighbours", "blend"} else 8)  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", [*PERSONAL, *sorted(train.IMPERSONAL)])
def test_every_model_is_finite_repeatable_and_tells_items_apart(algorithm: str) -> None:
    data = random_matrix(1)
    first, second = (train.train(data, small(algorithm), 7) for _ in range(2))
    assert first.is_finite()
    assert not first.is_constant()
    np.testing.assert_array_equal(first.score(EVERYONE), second.score(EVERYONE))


@pytest.mark.parametrize("algorithm", PERSONAL)
def test_a_user_or_an_item_without_entries_scores_nothing(algorithm: str) -> None:
    scores = train.train(random_matrix(1), small(algorithm), 7).score(EVERYONE)
    assert not scores[3].any()
    if algorithm not in {"bpr", "lmf"}:  # whose scores are mostly below 0; see test_algorithms
        np.testing.assert_allclose(scores[:, 5], 0, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["als", "item_neighbours", "ease", "spectral", "blend", "popular", "newest"])
def test_a_user_who_comes_back_with_the_same_history_gets_the_same_scores(algorithm: str) -> None:
    data = random_matrix(2)
    trained = train.train(data, small(algorithm), 7)
    known = np.flatnonzero(np.diff(data.matrix.indptr))
    again = trained.fold_in(data.matrix)
    np.testing.assert_allclose(again.score(known), trained.score(known), atol=1e-4)


def test_fold_in_changes_no_item_and_needs_no_known_user() -> None:
    data = random_matrix(2)
    trained = train.train(data, small("spectral"), 7)
    folded = trained.fold_in(data.matrix[[10, 11]])
    assert folded.item_factors is trained.item_factors
    np.testing.assert_allclose(folded.score(np.arange(2)), trained.score(np.array([10, 11])), atol=1e-5)


def test_a_sum_of_models_scores_the_weighted_sum() -> None:
    data = random_matrix(4)
    parts = [train.train(data, small(name), 7) for name in ("als", "spectral", "ease", "popular")]
    total = scorer.combine(parts, [0.5, 2, 3, 0.1])
    expected = sum(w * part.score(EVERYONE) for w, part in zip([0.5, 2, 3, 0.1], parts, strict=True))
    np.testing.assert_allclose(total.score(EVERYONE), expected, rtol=1e-4, atol=1e-5)


def test_a_blend_puts_its_components_on_one_scale_first() -> None:
    data = random_matrix(4)
    part = train.train(data, small("als"), 7)
    louder = dataclasses.replace(part, user_factors=part.user_factors * 1000)
    quiet = blend.add([part, part], [0.5, 0.5]).score(EVERYONE)
    np.testing.assert_allclose(blend.add([part, louder], [0.5, 0.5]).score(EVERYONE), quiet, rtol=1e-3, atol=1e-4)


def test_a_constant_and_a_poisoned_model_are_seen() -> None:
    ones = np.ones((4, 2), np.float32)
    assert Scorer(ones, np.ones((9, 2), np.float32)).is_constant()
    assert not Scorer(ones, np.full((9, 2), np.nan, np.float32)).is_finite()
