from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from recoflow.models.algorithms import scorer, train
from recoflow.models.algorithms.matrix import UserItems
from recoflow.models.algorithms.scorer import Scorer
from recoflow.models.store import explain
from recoflow.models.store.explain import Explainer
from recoflow.settings.sections import Model
from recoflow_tests.models.conftest import matrix_of, random_matrix

ITEMS = 40
KNOWN = np.array([user for user in range(60) if user != 3])
EVERYTHING = np.tile(np.arange(ITEMS), (len(KNOWN), 1))
MODELS = {
    "als of more factors than entries": Model(algorithm="als", factors=16),
    "als of fewer factors than entries": Model(algorithm="als", factors=3),
    "als with an exponent": Model(algorithm="als", factors=8, exponent=0.5, alpha=5, regularization=0.1),
    "ease": Model(algorithm="ease"),
    "item_neighbours": Model(algorithm="item_neighbours"),
    "spectral": Model(algorithm="spectral", factors=6),
}


@pytest.fixture(scope="module")
def data() -> UserItems:
    return random_matrix(3)


@pytest.fixture(scope="module")
def trained(data: UserItems) -> dict[str, Scorer]:
    made = {name: train.train(data, model, 7) for name, model in MODELS.items()}
    parts = [made["als with an exponent"], made["spectral"], made["ease"], train.train(data, Model(algorithm="als"), 7)]
    made["blend"] = scorer.combine(parts, [0.7, 2.0, 1.5, 0.2])
    made["blend of factors alone"] = scorer.combine([parts[0], parts[3]], [0.5, 2.0])
    return made


def by_definition(model: Scorer, weights: sparse.csr_matrix) -> np.ndarray:
    """What item j of a history adds to the score of item i, one system per person in float64: [users × j × i]."""
    users, items = weights.shape
    added = np.zeros((users, items, items))
    confidences = model.confidence.apply(weights).toarray().astype(np.float64)
    for user, row in enumerate(confidences):
        history = np.flatnonzero(row)
        if not len(history):
            continue
        damped = row / np.sqrt(row.sum())
        column = projected = 0
        for encoder in model.encoders:
            factors = model.item_factors[:, column : column + encoder.columns].astype(np.float64)
            if encoder.kind == "linear":
                vectors = damped[:, None] * model.projection[:, projected : projected + encoder.columns]
                projected += encoder.columns
            else:
                ridge = encoder.regularization * (len(history) + encoder.alpha * items) ** encoder.exponent
                system = encoder.alpha * factors.T @ factors + ridge * np.eye(encoder.columns)
                system += (factors * row[:, None]).T @ factors
                vectors = np.linalg.solve(system, (row[:, None] * factors).T).T
            added[user] += encoder.weight * vectors @ factors.T
            column += encoder.columns
        if model.similarity is not None:
            added[user] += damped[:, None] * model.similarity.toarray()
    return added


@pytest.mark.parametrize("name", [*MODELS, "blend", "blend of factors alone"])
def test_contributions_are_those_of_the_definition_and_add_up_to_the_score(name, trained, data):
    model = trained[name]
    history, added = Explainer(model, data.matrix).contributions(KNOWN, EVERYTHING)
    expected = by_definition(model, data.matrix)[KNOWN]
    scale = np.abs(expected).max()
    there = np.zeros_like(expected)
    for row, user in enumerate(KNOWN):
        length = data.matrix[[user]].nnz
        np.testing.assert_array_equal(history[row, :length], data.matrix[[user]].indices)
        assert not added[row, length:].any()
        there[row, history[row, :length]] = added[row, :length]
    np.testing.assert_allclose(there, expected, atol=1e-5 * scale)
    # Least-squares users of a model are found by a dozen steps of conjugate gradient, not exactly.
    scores = model.score(KNOWN)
    np.testing.assert_allclose(added.sum(1), scores, atol=1e-3 * np.abs(scores).max())


@pytest.mark.parametrize("name", [*MODELS, "blend", "blend of factors alone"])
def test_the_reason_is_the_item_that_adds_most_but_never_the_item_itself(name, trained, data):
    model = trained[name]
    users = np.arange(60)
    items = np.tile(np.arange(ITEMS), 60)
    reasons = Explainer(model, data.matrix).reasons(users, np.full(60, ITEMS), items).reshape(60, ITEMS)
    expected = by_definition(model, data.matrix)
    expected[:, np.arange(ITEMS), np.arange(ITEMS)] = 0
    most, slack = expected.max(1), 1e-5 * np.abs(expected).max()
    named = np.take_along_axis(expected, np.maximum(reasons, 0)[:, None], 1)[:, 0]
    assert (reasons != np.arange(ITEMS)).all()
    assert (named[reasons >= 0] >= most[reasons >= 0] - slack).all()
    assert (most[reasons < 0] <= slack).all()
    assert (most[reasons >= 0] > -slack).all()
    assert (reasons[3] == -1).all()  # without a history
    assert (reasons >= 0).mean() > 0.2


def test_lists_of_any_length_in_any_order_get_the_reasons_that_they_would_get_alone(trained, data):
    explainer = Explainer(trained["blend"], data.matrix)
    rng = np.random.default_rng(1)
    users, lengths = rng.integers(0, 60, 200), rng.integers(0, 30, 200)
    items = rng.integers(0, ITEMS, lengths.sum())
    whole = explainer.reasons(users, lengths, items)
    alone = [
        explainer.reasons(users[[row]], lengths[[row]], some)
        for row, some in enumerate(np.split(items, np.cumsum(lengths)[:-1]))
    ]
    np.testing.assert_array_equal(whole, np.concatenate(alone))
    in_parts = Explainer(trained["blend"], data.matrix, piece=3, block_cells=500)
    np.testing.assert_array_equal(in_parts.reasons(users, lengths, items), whole)


def test_of_items_that_add_the_same_the_first_is_named_and_none_that_takes_away():
    data = matrix_of([[1, 1, 1, 0, 0], [0, 0, 1, 0, 1]])
    similar = np.zeros((5, 5), np.float32)
    similar[[0, 1, 2], 3] = 1, 2, 2
    similar[2, 4] = -1
    nothing = np.zeros((2, 0), np.float32), np.zeros((5, 0), np.float32)
    model = Scorer(*nothing, history=scorer.sqrt_normalized(data.matrix), similarity=sparse.csr_matrix(similar))
    reasons = Explainer(model, None).reasons(np.array([0, 1]), np.array([2, 1]), np.array([3, 4, 4]))
    assert reasons.tolist() == [1, -1, -1]


@pytest.mark.parametrize("algorithm", ["bpr", "lmf", "popular", "trending", "newest"])
def test_models_whose_users_their_history_does_not_determine_explain_nothing(algorithm, trained, data):
    model = train.train(data, Model(algorithm=algorithm, factors=4, iterations=2), 7)
    assert not explain.can_explain(model)
    with_it = scorer.combine([trained["als with an exponent"], model], [1, 1])
    assert explain.can_explain(with_it) == (algorithm in train.IMPERSONAL)


def test_what_everyone_gets_alike_is_part_of_a_score_and_no_reason(trained, data):
    near = trained["ease"]
    popular = train.train(data, Model(algorithm="popular"), 7)
    both = scorer.combine([near, popular], [1, 1])
    found, expected = (Explainer(model, None).contributions(KNOWN, EVERYTHING)[1] for model in (both, near))
    np.testing.assert_array_equal(found, expected)


def test_only_models_that_keep_no_history_need_weights(trained):
    names = {name for name, model in trained.items() if explain.needs_weights(model)}
    assert names == {name for name in trained if name.startswith("als") or name == "blend of factors alone"}
    with pytest.raises(ValueError, match="weights"):
        Explainer(trained["blend of factors alone"], None)
