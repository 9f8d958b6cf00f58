"""The scoring core against its definition in float64, with which it shares no code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recoflow.errors import ModelError
from recoflow.ranking.reference import top_k_reference
from recoflow.ranking.top_k import prepare, top_k

FACTORS = {
    # small whole numbers: many equal scores, and exact in float32, so that ties must come out by index
    "ties": lambda random, rows, f: random.integers(-2, 3, (rows, f)),
    "mostly zero rows": lambda random, rows, f: random.integers(0, 2, (rows, f)) * (random.random((rows, 1)) < 0.3),
    "equal rows": lambda random, rows, f: np.tile(random.standard_normal((1, f)), (rows, 1)),
    "zipf-like lengths": lambda random, rows, f: random.standard_normal((rows, f)) / (1 + np.arange(rows))[:, None],
    "equal lengths": lambda random, rows, f: np.sign(random.standard_normal((rows, f))),
    "columns of different scales": lambda random, rows, f: random.standard_normal((rows, f)) * 10.0 ** -np.arange(f),
    "one row far longer than all others": lambda random, rows, f: (
        random.standard_normal((rows, f)) * np.where(np.arange(rows) == rows // 2, 1e6, 1.0)[:, None]
    ),
    "nearly equal rows": lambda random, rows, f: 1.0 + 1e-6 * random.standard_normal((rows, f)),
    "tiny": lambda random, rows, f: random.standard_normal((rows, f)) * 1e-30,
}


@st.composite
def searches(draw):
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    users, items = draw(st.integers(0, 60)), draw(st.one_of(st.integers(0, 80), st.integers(500, 1600)))
    factors = draw(st.integers(1, 24))
    kind = draw(st.sampled_from(sorted(FACTORS)))
    search = {
        "users": FACTORS[kind](random, users, factors).astype(np.float32),
        "items": FACTORS[kind](random, items, factors).astype(np.float32),
        "k": draw(st.integers(1, 50)),
    }
    options = {}
    if draw(st.booleans()) and items:
        sizes = (items * random.random(users) ** draw(st.integers(1, 6))).astype(np.int64)
        options["seen_indptr"] = np.append(0, np.cumsum(sizes))
        options["seen_indices"] = random.integers(0, items, sizes.sum(), dtype=np.int32)
    if draw(st.booleans()):
        options["masks"] = random.random((4, items)) < np.array([[0.0], [0.02], [0.5], [1.0]])
        options["mask_of"] = random.integers(-1, 4, users, dtype=np.int32)
    return search, options, draw(st.sampled_from([1, 2, None]))


@settings(max_examples=120, deadline=None)
@given(searches())
def test_answers_equal_the_reference(drawn):
    search, options, threads = drawn
    items, scores = top_k(search["users"], search["items"], search["k"], **options, threads=threads)
    best, best_scores = top_k_reference(search["users"], search["items"], search["k"], **options)
    assert (items == best).all()
    assert (scores == best_scores).all()
    assert items.dtype == np.int32
    assert scores.dtype == np.float32


@pytest.fixture
def factors():
    random = np.random.default_rng(7)
    users = random.standard_normal((3000, 16)).astype(np.float32)
    items = (random.standard_normal((2500, 16)) * random.pareto(2, (2500, 1))).astype(np.float32)
    return users, items


def test_users_of_several_blocks_get_what_the_reference_gives_them(factors):
    users, items = factors
    best, best_scores = top_k_reference(users, items, 10)
    answer = top_k(users, items, 10)
    assert (answer[0] == best).all()
    assert (answer[1] == best_scores).all()


def test_threads_blocks_and_a_prepared_index_never_change_a_byte(factors):
    users, items = factors
    index = prepare(items)
    whole = top_k(users, items, 10, threads=1)
    assert all((ours == theirs).all() for ours, theirs in zip(whole, top_k(users, index, 10, threads=3), strict=True))
    parts = [top_k(users[start : start + 700], index, 10) for start in range(0, len(users), 700)]
    assert (np.concatenate([items for items, _ in parts]) == whole[0]).all()
    assert (np.concatenate([scores for _, scores in parts]) == whole[1]).all()


def test_many_factors_which_leave_bounds_less_room_are_answered_exactly():
    random = np.random.default_rng(3)
    users, items = (random.standard_normal((rows, 301)).astype(np.float32) for rows in (70, 1100))
    best, best_scores = top_k_reference(users, items, 20)
    answer = top_k(users, items, 20)
    assert (answer[0] == best).all()
    assert (answer[1] == best_scores).all()


def test_an_index_that_knows_no_users_gives_the_same_answers(factors):
    users, items = (array[:500] for array in factors)
    assert (top_k(users, prepare(items), 10)[0] == top_k(users, prepare(items, users), 10)[0]).all()


def test_arguments_are_left_as_they_were(factors):
    users, items = (array[:100].copy() for array in factors)
    indptr, indices = np.arange(101), np.arange(99, -1, -1, dtype=np.int32)
    before = [array.copy() for array in (users, items, indptr, indices)]
    top_k(users, items, 5, seen_indptr=indptr, seen_indices=indices)
    assert all((ours == theirs).all() for ours, theirs in zip(before, (users, items, indptr, indices), strict=True))


def test_memory_mapped_and_column_major_factors_are_accepted(factors, tmp_path):
    users, items = factors
    np.save(tmp_path / "items.npy", items)
    mapped = np.load(tmp_path / "items.npy", mmap_mode="r")
    whole = top_k(users[:50], items, 10)
    assert (top_k(np.asfortranarray(users[:50]), mapped, 10)[0] == whole[0]).all()


def test_a_user_without_factors_gets_the_allowed_items_by_index():
    items = np.random.default_rng(1).standard_normal((30, 4)).astype(np.float32)
    seen = np.array([0, 2, 2], np.int32)
    answer, scores = top_k(np.zeros((1, 4), np.float32), items, 3, seen_indptr=np.array([0, 3]), seen_indices=seen)
    assert answer.tolist() == [[1, 3, 4]]
    assert scores.tolist() == [[0.0, 0.0, 0.0]]


def test_items_without_factors_come_before_items_that_the_user_dislikes():
    items = np.array([[-1.0], [0.0], [2.0], [0.0], [-2.0]], np.float32)
    answer, scores = top_k(np.ones((1, 1), np.float32), items, 4)
    assert answer.tolist() == [[2, 1, 3, 0]]
    assert scores.tolist() == [[2.0, 0.0, 0.0, -1.0]]


def test_lists_longer_than_the_catalogue_are_padded():
    answer, scores = top_k(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32), 4)
    assert answer.tolist() == [[0, 1, -1, -1]] * 2
    assert scores.tolist() == [[3.0, 3.0, -np.inf, -np.inf]] * 2


def test_a_user_who_consumed_everything_gets_an_empty_list():
    everything = np.arange(1000, dtype=np.int32)
    items = np.random.default_rng(1).standard_normal((1000, 4)).astype(np.float32)
    answer, scores = top_k(
        np.ones((2, 4), np.float32), items, 2, seen_indptr=np.array([0, 1000, 1000]), seen_indices=everything
    )
    assert answer[0].tolist() == [-1, -1]
    assert np.isneginf(scores[0]).all()
    assert (answer[1] >= 0).all()


def test_a_mask_that_allows_nothing_gives_an_empty_list():
    masks = np.array([[False, False], [False, True]])
    answer, _ = top_k(
        np.ones((3, 1), np.float32), np.ones((2, 1), np.float32), 1, masks=masks, mask_of=np.array([0, 1, -1], np.int32)
    )
    assert answer.tolist() == [[-1], [1], [0]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_factors_that_are_not_finite_are_refused(side, value):
    pair = [np.ones((5, 3), np.float32), np.ones((5, 3), np.float32)]
    pair[side][2, 1] = value
    with pytest.raises(ModelError, match="not a finite number"):
        top_k(*pair, 2)


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        ({"user_factors": np.ones((2, 4), np.float32)}, "user factors"),
        ({"user_factors": np.ones(3, np.float32)}, "user factors"),
        ({"user_factors": np.full((2, 3), 1e25, np.float32), "item_factors": np.full((2, 3), 1e25)}, "factors"),
        ({"k": 0}, "k"),
        ({"seen_indptr": np.array([0, 1]), "seen_indices": np.zeros(1, np.int32)}, "consumed items"),
        ({"seen_indptr": np.array([0, 1, 1]), "seen_indices": np.array([9], np.int32)}, "consumed items"),
        ({"seen_indptr": np.array([0, 1, 1])}, "consumed items"),
        ({"masks": np.ones((1, 7), bool), "mask_of": np.zeros(2, np.int32)}, "masks"),
        ({"masks": np.ones((1, 4), bool), "mask_of": np.ones(2, np.int32)}, "masks"),
        ({"masks": np.ones((1, 4), bool)}, "masks"),
    ],
)
def test_arguments_that_do_not_fit_each_other_are_refused(change, culprit):
    arguments = {"user_factors": np.ones((2, 3), np.float32), "item_factors": np.ones((4, 3), np.float32), "k": 2}
    with pytest.raises(ModelError) as raised:
        top_k(**(arguments | change))
    assert raised.value.culprit == culprit
