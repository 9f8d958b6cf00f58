"""Sparse item–item matrices: products of columns, cut to the nearest of each item.

What belongs here: how such a matrix is computed in blocks and cut. What does not: which models use one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

BLOCK: Final = 2048


def of_columns(
    matrix: sparse.csr_matrix, keep: int, *, rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> sparse.csr_matrix:
    """diag(rows) · matrixᵀ matrix · diag(columns) without its diagonal, the `keep` largest of each row.

    Args:
        matrix: CSR float32 [users × items].
        keep: entries per row.
        rows: scale per row [items].
        columns: scale per column [items].

    Returns:
        CSR float32 [items × items]
    """
    transposed = matrix.T.tocsr()
    scaled = sparse.csr_matrix(matrix @ sparse.diags_array(columns), dtype=np.float32)
    blocks = []
    for start in range(0, transposed.shape[0], BLOCK):
        block = transposed[start : start + BLOCK]
        block = sparse.csr_matrix(sparse.diags_array(rows[start : start + BLOCK]) @ block, dtype=np.float32)
        blocks.append(nearest(block @ scaled, keep, first=start))
    return sparse.vstack(blocks, format="csr")


def nearest(block: sparse.csr_matrix, keep: int, *, first: int = 0) -> sparse.csr_matrix:
    """The `keep` largest entries of each row but that of the item itself; `first` is the item of the first row."""
    from recoflow.models.algorithms import kernels  # noqa: PLC0415 - numba is heavy

    block = sparse.csr_matrix(block, dtype=np.float32)
    block.sort_indices()
    own = np.repeat(np.arange(first, first + block.shape[0]), np.diff(block.indptr)) == block.indices
    block.data[own] = 0
    block.eliminate_zeros()
    lengths = np.empty(block.shape[0], np.int64)
    indices = np.empty((block.shape[0], keep), np.int32)
    data = np.empty((block.shape[0], keep), np.float32)
    kernels.largest_per_row(block.indptr, block.indices, block.data, keep, indices, data, lengths)
    is_kept = np.arange(keep) < lengths[:, None]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return sparse.csr_matrix((data[is_kept], indices[is_kept], indptr), shape=block.shape)
