"""Alternating least squares for implicit feedback, trained by the package implicit.

Hu, Koren & Volinsky 2008, "Collaborative Filtering for Implicit Feedback Datasets", ICDM; conjugate gradient: Takács
et al. 2011, "Applications of the conjugate gradient method for implicit feedback collaborative filtering", RecSys.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recoflow.environment import Model
from recoflow.models.matrix import UserItems
from recoflow.models.scorer import Scorer

ALPHA = 40.0
REGULARIZATION = 0.01
ITERATIONS = 15


def fit(data: UserItems, model: Model, seed: int) -> Scorer:
    """Train factors; the same data, settings and seed give the same bytes on any number of threads.

    Settings that are left out: factors grow with the data (16 to 256), alpha is 40 for a weight of mean size.
    """
    factors = model.factors or default_factors(data)
    alpha = model.alpha or ALPHA
    regularization = REGULARIZATION if model.regularization is None else model.regularization
    iterations = model.iterations or ITERATIONS
    matrix = confidence(data.matrix)
    # implicit threads over rows itself; BLAS threads under it slow it down, and it warns of them.
    from implicit.cpu.als import AlternatingLeastSquares  # noqa: PLC0415 - heavy
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    with threadpool_limits(1, "blas"):
        trained = AlternatingLeastSquares(
            factors=factors, alpha=alpha, regularization=regularization, iterations=iterations, random_state=seed
        )
        trained.fit(matrix, show_progress=False)
    # A row without entries keeps a trace of its random start: it must know nothing.
    trained.user_factors[np.diff(matrix.indptr) == 0] = 0
    trained.item_factors[data.popularity() == 0] = 0
    parameters = {
        "factors": factors,
        "alpha": alpha,
        "regularization": regularization,
        "iterations": iterations,
    }
    return Scorer(trained.user_factors, trained.item_factors, parameters)


def default_factors(data: UserItems) -> int:
    """About a factor per 100 rows of the smaller side, a power of 2 from 16 to 256."""
    return int(np.clip(2 ** np.round(np.log2(max(min(data.shape), 1) / 100)), 16, 256))


def confidence(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Weights on a scale of mean 1 with the long tail damped: log(1 + w / mean w), divided by its own mean."""
    if not matrix.nnz:
        return matrix
    damped = np.log1p(matrix.data / matrix.data.mean())
    return sparse.csr_matrix(
        ((damped / damped.mean()).astype(np.float32), matrix.indices, matrix.indptr), shape=matrix.shape
    )
