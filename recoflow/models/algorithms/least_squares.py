"""Weighted ridge regression of one side's factors against the other's: half-steps of ALS, and users folded in.

What does not belong here: training (see `als`).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from scipy import sparse

from recoflow.compute.thread_pool import thread_pool
from recoflow.models.algorithms.encoder import UserEncoder
from recoflow.models.algorithms.matrix import Matrix

STEPS_FROM_NOTHING: Final = 12
BLOCK: Final = 2048


def solve_users(history: sparse.csr_matrix, item_factors: Matrix, encoder: UserEncoder) -> Matrix:
    """User factors for histories of confidences, the items' factors being given, float32 [users × f].

    The users' last word in a training, too: known and new users of one history get one list.
    """
    factors = np.zeros((history.shape[0], item_factors.shape[1]), np.float32)
    half_sweep(history, factors, np.ascontiguousarray(item_factors), encoder, STEPS_FROM_NOTHING)
    return factors


def half_sweep(entries: sparse.csr_matrix, solved: Matrix, given: Matrix, encoder: UserEncoder, steps: int) -> None:
    """Improve `solved`, one vector per row of `entries`, in place; rows without entries become zero."""
    from recoflow.models.algorithms import kernels  # noqa: PLC0415 - numba is heavy

    lengths = np.diff(entries.indptr)
    ridge = (encoder.regularization * (lengths + encoder.alpha * entries.shape[1]) ** encoder.exponent).astype("f4")
    solved[lengths == 0] = 0
    # Blocks are independent, so any number of threads gives the same bytes.
    with thread_pool() as threads:
        weighted = np.float32(encoder.alpha) * gram(given, threads)

        def improve(start: int) -> None:
            rows, bounds = slice(start, start + BLOCK), entries.indptr[start : start + BLOCK + 1]
            kernels.conjugate_gradient(
                bounds, entries.indices, entries.data, given, weighted, ridge[rows], solved[rows], steps
            )

        list(threads.map(improve, range(0, len(solved), BLOCK)))


def gram(factors: Matrix, threads: ThreadPoolExecutor) -> Matrix:
    """Σ_r y_r y_rᵀ over the rows, float32 [f × f], the blocks added in their order."""

    def of_block(start: int) -> Matrix:
        block = factors[start : start + BLOCK]
        return np.asarray(block.T @ block)

    total = np.zeros((factors.shape[1], factors.shape[1]), np.float32)
    for part in threads.map(of_block, range(0, len(factors), BLOCK)):
        total += part
    return total
