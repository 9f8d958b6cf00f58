from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recoflow.errors import ModelError
from recoflow.models.algorithms import matrix
from recoflow_tests.models.conftest import NOW, catalogue, interactions


def frame(*rows: tuple[str, str, float, int]) -> pl.DataFrame:
    events = pl.DataFrame(
        {
            "subject": [row[0] for row in rows],
            "item_id": [row[1] for row in rows],
            "weight": [row[2] for row in rows],
            "at": [NOW - timedelta(days=row[3]) for row in rows],
        }
    )
    return interactions(events)


def test_rows_and_columns_are_sorted_and_weights_without_sign_are_left_out() -> None:
    data = matrix.from_interactions(
        frame(("u:b", "y", 2, 0), ("u:a", "z", 1, 0), ("u:a", "x", 3, 0), ("u:c", "x", 0, 0))
    )
    assert data.subjects.tolist() == ["u:a", "u:b"]
    assert data.items.tolist() == ["x", "y", "z"]
    np.testing.assert_array_equal(data.matrix.toarray(), [[3, 0, 1], [0, 2, 0]])


@given(st.lists(st.text(st.sampled_from("u:é€𝄞~\x01 ") | st.characters(codec="ascii", exclude_characters="\0"))))
@settings(max_examples=100, deadline=None)
def test_ids_of_an_array_are_the_strings_that_it_was_made_of(texts: list[str]) -> None:
    found = matrix.texts_of(matrix.ids_of(pl.Series(texts, dtype=pl.String)))
    assert (found.dtype, found.to_list()) == (pl.String, texts)


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("vwxyz")), unique=True), st.randoms())
@settings(max_examples=40, deadline=None)
def test_the_matrix_does_not_depend_on_the_order_of_rows_nor_on_being_numbered(
    pairs: list[tuple[str, str]], random: Random
) -> None:
    rows = [(subject, item, float(number + 1), number) for number, (subject, item) in enumerate(pairs)]
    made = matrix.from_interactions(matrix.numbered_pairs(frame(*rows)))
    random.shuffle(rows)
    other = matrix.from_interactions(frame(*rows))
    expected = {(subject, item): weight for subject, item, weight, _ in rows}
    assert made.subjects.tolist() == sorted({subject for subject, _ in pairs})
    assert made.items.tolist() == sorted({item for _, item in pairs})
    for data in (made, other):
        entries = data.matrix.tocoo()
        places = zip(data.subjects[entries.row].tolist(), data.items[entries.col].tolist(), strict=True)
        assert dict(zip(places, entries.data.tolist(), strict=True)) == expected
    for name in ("last_at", "born_at"):
        np.testing.assert_array_equal(getattr(made, name), getattr(other, name))


def test_given_ids_decide_the_shape_and_others_are_dropped() -> None:
    data = matrix.from_interactions(
        frame(("u:a", "x", 1, 0), ("u:b", "y", 1, 0)), subjects=np.array(["u:a", "u:z"]), items=np.array(["w", "x"])
    )
    np.testing.assert_array_equal(data.matrix.toarray(), [[0, 1], [0, 0]])


def test_a_pair_that_stands_twice_is_refused() -> None:
    once = frame(("u:a", "x", 1, 0))
    with pytest.raises(ModelError, match="pair twice"):
        matrix.from_interactions(pl.concat([once, once]))


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused(weight: float) -> None:
    with pytest.raises(ModelError, match="not finite"):
        matrix.from_interactions(frame(("u:a", "x", weight, 0)))


@pytest.mark.parametrize("name", ["subject", "item_id"])
@pytest.mark.parametrize("make", [matrix.numbered_pairs, matrix.from_interactions])
def test_an_id_that_is_missing_is_refused_by_table_and_column(
    name: str, make: Callable[[pl.DataFrame], object]
) -> None:
    rows = frame(("u:a", "x", 1, 0), ("u:b", "y", 1, 0))
    damaged = rows.with_columns(pl.when(pl.int_range(pl.len()) > 0).then(pl.col(name)))
    with pytest.raises(ModelError, match=f"interactions: {name}: is missing in 1 of 2 rows. Materialize inter"):
        make(damaged)


def test_no_interactions_give_an_empty_matrix() -> None:
    assert matrix.from_interactions(frame(("u:a", "x", -1, 0))).shape == (0, 0)


def test_popularity_counts_subjects_and_trend_halves_with_every_half_life() -> None:
    data = matrix.from_interactions(frame(("u:a", "x", 9, 0), ("u:b", "x", 1, 7), ("u:a", "y", 1, 14)))
    assert data.popularity().tolist() == [2, 1]
    assert data.trend(7).tolist() == pytest.approx([1.5, 0.25])


def test_an_item_is_born_when_published_or_else_when_first_interacted_with() -> None:
    published = NOW - timedelta(days=100)
    data = matrix.from_interactions(
        frame(("u:a", "x", 1, 3), ("u:a", "y", 1, 2)), catalogue=catalogue("x", "unseen", published_at=published)
    )
    assert data.born_at.tolist() == [published.timestamp() * 1e6, (NOW - timedelta(days=2)).timestamp() * 1e6]


def test_confidence_does_not_depend_on_the_unit_of_weights_and_equal_weights_become_one() -> None:
    data = matrix.from_interactions(frame(("u:a", "x", 1, 0), ("u:a", "y", 5, 0), ("u:b", "x", 2, 0))).matrix
    ours = matrix.Confidence.of(data).apply(data)
    scaled = matrix.Confidence.of(data * 1000).apply(data * 1000)
    np.testing.assert_allclose(ours.data, scaled.data, rtol=1e-5)
    assert ours.data.mean() == pytest.approx(1)
    equal = data.sign() * 7
    np.testing.assert_allclose(matrix.Confidence.of(equal).apply(equal).data, 1, rtol=1e-6)
