"""The algorithms against their definitions, written out densely."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recoflow.errors import ModelError
from recoflow.models.algorithms import als, baselines, kernels, least_squares, linear, similarity, spectral, train
from recoflow.models.algorithms.encoder import UserEncoder
from recoflow.settings.sections import Model
from recoflow_tests.models.conftest import matrix_of, random_matrix

pytestmark = pytest.mark.slow


def test_als_fold_in_solves_the_normal_equations() -> None:
    data = random_matrix(5)
    factors = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    encoder = UserEncoder("least_squares", 6, alpha=0.1, regularization=0.05, exponent=0.8)
    solved = least_squares.solve_users(data.matrix, factors, encoder)
    for user in (0, 10, 59):
        row = data.matrix[[user]]
        given_ = factors[row.indices].astype(np.float64)
        ridge = 0.05 * (row.nnz + 0.1 * 40) ** 0.8
        left = 0.1 * factors.T @ factors + given_.T @ (row.data[:, None] * given_) + ridge * np.eye(6)
        np.testing.assert_allclose(solved[user], np.linalg.solve(left, given_.T @ row.data), rtol=2e-3, atol=2e-4)


def test_rows_of_any_length_are_solved_alike_those_too_long_to_be_copied_too() -> None:
    rng = np.random.default_rng(2)
    too_many = kernels.NEAR // 64 + 5
    lengths = [0, 1, 3, 4, 7, too_many, 2, *rng.integers(0, 400, 2 * kernels.TOGETHER)]
    indptr = np.append(0, np.cumsum(lengths))
    indices = np.concatenate([np.sort(rng.permutation(too_many)[:length]) for length in lengths]).astype(np.int32)
    weights = rng.random(len(indices)).astype(np.float32)
    given_ = rng.standard_normal((too_many, 64)).astype(np.float32)
    gram, ridge = given_.T @ given_ / 1000, np.linspace(1, 9, len(lengths)).astype(np.float32)
    solved = np.zeros((len(lengths), 64), np.float32)
    kernels.conjugate_gradient(indptr, indices, weights, given_, gram, ridge, solved, 40)
    for row, found in enumerate(solved):
        entries = slice(indptr[row], indptr[row + 1])
        own = given_[indices[entries]].astype(np.float64)
        left = gram + ridge[row] * np.eye(64) + own.T @ (weights[entries, None] * own)
        np.testing.assert_allclose(found, np.linalg.solve(left, own.T @ weights[entries]), rtol=1e-3, atol=1e-4)


def test_als_sweeps_lower_the_loss_that_is_documented() -> None:
    data = random_matrix(6)
    losses = []
    for sweeps in (1, 3, 30):
        model = Model(algorithm="als", factors=4, iterations=sweeps, alpha=10, regularization=0.02, exponent=1)
        trained = als.fit_als(data, model, 3)
        scores = trained.score(np.arange(60)).astype(np.float64)
        dense = data.matrix.toarray()
        observed = (dense * (1 - scores) ** 2).sum()
        ridges = [
            ((dense > 0).sum(axis) + 0.1 * dense.shape[axis]) @ (factors.astype(np.float64) ** 2).sum(1)
            for axis, factors in ((1, trained.user_factors), (0, trained.item_factors))
        ]
        losses.append(observed + 0.1 * (scores**2).sum() + 0.02 * sum(ridges))
    assert losses[0] > losses[1] > losses[2]


def test_als_is_the_same_to_the_byte_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_matrix(6, users=2 * least_squares.BLOCK + 100)
    model = Model(algorithm="als", factors=8, iterations=3)
    many = als.fit_als(data, model, 3)
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0})
    np.testing.assert_array_equal(als.fit_als(data, model, 3).user_factors, many.user_factors)


def test_ease_is_its_closed_form() -> None:
    data = random_matrix(7)
    dense = data.matrix.toarray().astype(np.float64)
    used = dense.any(0)
    gram = dense[:, used].T @ dense[:, used]
    inverse = np.linalg.inv(gram + (0.5 * (dense[:, used] > 0).sum(0).mean() + 1) * np.eye(used.sum()))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    found = linear.ease(data, Model(algorithm="ease", regularization=0.5, neighbours=40), 0).similarity
    assert found is not None
    np.testing.assert_allclose(found.toarray()[np.ix_(used, used)], expected, rtol=1e-4, atol=1e-6)


def test_item_neighbours_are_cosines_of_columns() -> None:
    data = random_matrix(7)
    dense = data.matrix.toarray().astype(np.float64)
    lengths = np.maximum(np.linalg.norm(dense, axis=0), 1e-9)
    expected = dense.T @ dense / np.outer(lengths, lengths)
    np.fill_diagonal(expected, 0)
    found = linear.item_neighbours(data, Model(algorithm="item_neighbours", neighbours=40), 0).similarity
    assert found is not None
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-6)


def test_spectral_with_all_factors_and_neighbours_is_the_ridge_autoencoder() -> None:
    data = random_matrix(8, users=80, items=30)
    model = Model(algorithm="spectral", factors=15, regularization=0.2, exponent=0.4, neighbours=30)
    scores = spectral.fit_spectral(data, model, 1).score(np.arange(80))
    expected = _ridge_scores(data.matrix.toarray().astype(np.float64), 0.2, 0.4, exact=15)
    unseen = data.matrix.toarray() == 0
    np.testing.assert_allclose(scores[unseen], expected[unseen], atol=2e-3 * np.abs(expected).max())


def test_the_leading_singular_vectors_are_those_of_the_dense_decomposition() -> None:
    matrix = random_matrix(9).matrix
    singular, vectors = spectral.leading(matrix, 10, 1)
    _, expected, right = np.linalg.svd(matrix.toarray().astype(np.float64))
    np.testing.assert_allclose(singular, expected[:10], rtol=1e-3)
    np.testing.assert_allclose(np.abs(np.sum(vectors[:, 0] * right[0])), 1, rtol=1e-3)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(10), atol=1e-4)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_the_nearest_are_the_largest_and_ties_go_to_the_lower_column(seed: int, keep: int) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.integers(-3, 4, (12, 12)).astype(np.float32)
    found = similarity.nearest(matrix_of(dense.tolist()).matrix, keep).toarray()
    np.fill_diagonal(dense, 0)
    for row, kept in zip(dense, found, strict=True):
        stored = np.flatnonzero(row)
        best = stored[np.lexsort((stored, -row[stored]))][:keep]
        expected = np.zeros(12)
        expected[best] = row[best]
        np.testing.assert_array_equal(kept, expected)


def test_trending_follows_the_data_clock_and_newest_the_birth() -> None:
    data = matrix_of([[1, 0, 1], [1, 0, 1], [1, 1, 0]])
    hours = np.array([0, 900, 0, 900, 0, 1000], np.int64)
    data = replace(data, last_at=hours * 3_600_000_000)
    assert np.argmax(baselines.popular(data).item_factors) == 0
    assert np.argmax(baselines.trending(data).item_factors) == 1 or data.trend()[2] > data.trend()[1]
    assert data.trend()[0] < data.trend()[2]
    assert np.argsort(-baselines.newest(data).item_factors[:, 0]).tolist() == [2, 1, 0]


def test_nothing_to_learn_from_is_an_error_with_a_cure() -> None:
    with pytest.raises(ModelError, match="no positive weight"):
        train.train(matrix_of([[0, 0], [0, 0]]), Model(algorithm="als"), 1)


def _ridge_scores(dense: np.ndarray, ridge: float, exponent: float, exact: int) -> np.ndarray:
    """The documented formula with a full eigendecomposition; eigenvalues behind `exact` keep the linear part."""

    def power(sums: np.ndarray, by: float) -> np.ndarray:
        return np.where(sums > 0, np.maximum(sums, 1e-12) ** by, 0)

    shrink = power(dense.sum(0), -exponent)
    normalized = power(dense.sum(1), -exponent)[:, None] * dense * shrink
    normalized /= np.linalg.norm(normalized, 2)
    values, vectors = np.linalg.eigh(normalized.T @ normalized)
    values, vectors = values[::-1], vectors[:, ::-1]
    slope = 1 / (values[exact - 1] / 2 + ridge)
    filtered = np.where(np.arange(len(values)) < exact, values / (values + ridge), slope * values)
    inner = vectors @ np.diag(filtered) @ vectors.T
    # The sparse part has no diagonal; only unseen items are compared, which no diagonal reaches.
    history = dense / np.sqrt(np.maximum(dense.sum(1, keepdims=True), 1e-12))
    return (history * shrink) @ inner * power(dense.sum(0), exponent)


@pytest.mark.parametrize("algorithm", ["bpr", "lmf"])
def test_an_item_that_nobody_has_met_does_not_stand_before_all_others(algorithm: str) -> None:
    data = random_matrix(2)
    unknown = np.flatnonzero(data.popularity() == 0)
    scores = train.train(data, Model(algorithm=algorithm), 3).score(np.arange(60))  # type: ignore[arg-type]
    known_users = np.flatnonzero(np.diff(data.matrix.indptr) > 0)
    better = (scores[known_users][:, unknown].max(1)[:, None] < scores[known_users]).mean(1)
    assert better.mean() > 0.3


def test_ease_says_how_many_items_it_knows() -> None:
    scorer = linear.ease(random_matrix(2), Model(algorithm="ease"), 3, most_items=12)
    assert scorer.similarity is not None
    assert scorer.parameters["items"] == 12
    assert np.count_nonzero(np.diff(scorer.similarity.indptr)) == 12
