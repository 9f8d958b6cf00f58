"""The definition of `top_k` in numpy, without any cleverness: what the fast search must equal, bit by bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def top_k_reference(
    user_factors: NDArray[np.float32],
    item_factors: NDArray[np.float32],
    k: int,
    *,
    seen_indptr: NDArray[np.int64] | None = None,
    seen_indices: NDArray[np.int32] | None = None,
    masks: NDArray[np.bool_] | None = None,
    mask_of: NDArray[np.int32] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k best items of each user; arguments and result as those of `top_k.top_k`.

    It needs memory for a score of each user and item, and seconds where the search needs milliseconds.
    """
    users, items = len(user_factors), len(item_factors)
    scores = (user_factors.astype(np.float64) @ item_factors.astype(np.float64).T).astype(np.float32)
    best_items = np.full((users, k), -1, np.int32)
    best_scores = np.full((users, k), -np.inf, np.float32)
    for user in range(users):
        is_allowed = np.ones(items, np.bool_)
        if masks is not None and mask_of is not None and mask_of[user] >= 0:
            is_allowed &= masks[mask_of[user]]
        if seen_indptr is not None and seen_indices is not None:
            is_allowed[seen_indices[seen_indptr[user] : seen_indptr[user + 1]]] = False
        candidates = np.flatnonzero(is_allowed)
        order = np.lexsort((candidates, -scores[user, candidates]))  # by falling score, then by rising item index
        best = candidates[order][:k]
        best_items[user, : len(best)] = best
        best_scores[user, : len(best)] = scores[user, best]
    return best_items, best_scores
