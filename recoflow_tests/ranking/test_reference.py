"""The reference itself, on cases that are small enough to be worked out by hand."""

from __future__ import annotations

import numpy as np

from recoflow.ranking.reference import top_k_reference

USERS = np.array([[1, 0], [0, 1], [0, 0]], np.float32)
ITEMS = np.array([[1, -1], [2, 0], [2, 3], [-1, 3]], np.float32)


def test_items_come_by_falling_score_and_equal_ones_by_index():
    items, scores = top_k_reference(USERS, ITEMS, 3)
    assert items.tolist() == [[1, 2, 0], [2, 3, 1], [0, 1, 2]]
    assert scores.tolist() == [[2, 2, 1], [3, 3, 0], [0, 0, 0]]


def test_consumed_and_filtered_items_are_left_out_and_short_lists_are_padded():
    items, scores = top_k_reference(
        USERS,
        ITEMS,
        2,
        seen_indptr=np.array([0, 1, 1, 1]),
        seen_indices=np.array([1], np.int32),
        masks=np.array([[True, True, True, False], [False, True, False, False]]),
        mask_of=np.array([0, 1, -1], np.int32),
    )
    assert items.tolist() == [[2, 0], [1, -1], [0, 1]]
    assert scores.tolist() == [[2, 1], [0, -np.inf], [0, 0]]
