"""Factors as integers against their own float64 products."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recoflow.ranking.quantization import LARGEST, PANEL, integers, margin, panels, unpacked

ROWS = {
    "normal": lambda random, shape: random.standard_normal(shape),
    "all columns alike": lambda random, shape: np.ones(shape) * random.standard_normal((shape[0], 1)),
    "one column alone": lambda random, shape: np.eye(shape[1])[random.integers(0, shape[1], shape[0])],
    "one column nearly alone": lambda random, shape: np.eye(shape[1])[0] + 1e-5 * random.standard_normal(shape),
    "far apart": lambda random, shape: random.standard_normal(shape) * 10.0 ** random.integers(-30, 30, (shape[0], 1)),
}


def norms(rows):
    return np.sqrt(np.einsum("ij,ij->i", rows, rows))


def shorts(rows):
    return rows.view(np.int16).astype(np.int64)


@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(ROWS)), st.integers(1, 300))
def test_products_of_integers_are_as_near_to_those_of_factors_as_their_margin_says(seed, kind, columns):
    random = np.random.default_rng(seed)
    users, items = ROWS[kind](random, (20, columns)), ROWS[kind](random, (30, columns))
    found = shorts(integers(users, norms(users))) @ shorts(integers(items, norms(items))).T
    cosines = (users / norms(users)[:, None]) @ (items / norms(items)[:, None]).T
    assert np.abs(found - LARGEST**2 * cosines).max() <= margin(columns)
    assert np.abs(found).max() < 2**31


@pytest.mark.parametrize("columns", [64, 256])
def test_the_margin_is_a_small_share_of_the_largest_product(columns):
    assert margin(columns) < 0.001 * LARGEST**2


def test_a_row_of_zeros_gives_integers_of_zero():
    assert integers(np.zeros((1, 3)), np.zeros(1)).tolist() == [[0, 0]]


@pytest.mark.parametrize("count", [0, 1, PANEL, 3 * PANEL + 5])
def test_rows_are_found_again_in_their_panels(count):
    rows = np.random.default_rng(count).integers(-(2**31), 2**31, (count, 7), dtype=np.int32)
    packed = panels(rows)
    assert packed.shape == (-(-count // PANEL), 7, PANEL)
    assert (unpacked(packed, np.arange(count)) == rows).all()
    assert (packed.sum(dtype=np.int64)) == rows.sum(dtype=np.int64)
