"""Spectral filtering of the normalized user–item matrix: a linear autoencoder in closed form, no training loop.

With N = D_u^-a X D_i^-b (X the confidences, D the row and column sums, a = b the exponent) scaled to a largest singular
value of 1, and h(s) = s / (s + λ) on the eigenvalues s of NᵀN, which is the ridge regression of N on itself:

    score = X D_i^-b [ V (h(S) − c S) Vᵀ + c NᵀN ] D_i^b

The first f eigenvectors V are filtered exactly; the many small eigenvalues behind them keep h's linear part, c s, which
costs a sparse item–item matrix instead of vectors. With h an ideal low-pass filter this is GF-CF (Shen et al. 2021,
"How Powerful is Graph Convolution for Recommendation?", CIKM); the ridge is that of EASE and its kin (Steck 2019,
"Embarrassingly Shallow Autoencoders for Sparse Data", WWW); exponents other than ½: Park et al. 2025, "Why is
Normalization Necessary for Linear Recommenders?", SIGIR. Eigenvectors by randomized subspace iteration: Halko,
Martinsson & Tropp 2011, "Finding Structure with Randomness", SIAM Review.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recoflow.models.algorithms import similarity
from recoflow.models.algorithms.encoder import UserEncoder
from recoflow.models.algorithms.matrix import Matrix, UserItems
from recoflow.models.algorithms.scorer import Scorer, sqrt_normalized
from recoflow.settings.sections import Model

FACTORS: Final = 256
REGULARIZATION: Final = 0.3
EXPONENT: Final = 0.3
NEIGHBOURS: Final = 400
OVERSAMPLING: Final = 32
SWEEPS: Final = 2


def fit_spectral(data: UserItems, model: Model, seed: int) -> Scorer:
    """Filter the spectrum; settings that are left out are the constants above, with at most rows / 2 factors."""
    factors = min(model.factors or FACTORS, max(1, min(data.shape) // 2))
    ridge = REGULARIZATION if model.regularization is None else model.regularization
    exponent = EXPONENT if model.exponent is None else model.exponent
    neighbours = model.neighbours or NEIGHBOURS
    normalized, shrink = normalize(data.matrix, exponent)
    singular, vectors = leading(normalized, factors, seed)
    normalized = normalized / np.float32(singular[0])
    eigenvalues = (singular / singular[0]) ** 2
    slope = 1 / (eigenvalues[-1] / 2 + ridge)
    kept = eigenvalues / (eigenvalues + ridge) - slope * eigenvalues
    grow = np.divide(1, shrink, out=np.zeros_like(shrink), where=shrink > 0)
    projection = (shrink[:, None] * vectors * kept).astype(np.float32)
    item_factors = (grow[:, None] * vectors).astype(np.float32)
    parameters = {"factors": factors, "regularization": ridge, "exponent": exponent, "neighbours": neighbours}
    history = sqrt_normalized(data.matrix)
    return Scorer(
        user_factors=(history @ projection).astype(np.float32),
        item_factors=item_factors,
        parameters=parameters,
        encoders=(UserEncoder("linear", factors),),
        projection=projection,
        history=history,
        similarity=similarity.of_columns(normalized, neighbours, rows=slope * shrink, columns=grow),
    )


def normalize(matrix: sparse.csr_matrix, exponent: float) -> tuple[sparse.csr_matrix, NDArray[np.float64]]:
    """D_u^-a X D_i^-b as CSR float32, and the diagonal of D_i^-b [items] (0 for items without entries)."""
    shrink = [_power(np.asarray(matrix.sum(axis)).ravel(), -exponent) for axis in (1, 0)]
    normalized = sparse.diags_array(shrink[0]) @ matrix @ sparse.diags_array(shrink[1])
    return sparse.csr_matrix(normalized, dtype=np.float32), shrink[1]


def leading(matrix: sparse.csr_matrix, count: int, seed: int) -> tuple[NDArray[np.float64], Matrix]:
    """The largest singular values, descending [count], and their right vectors [items × count]."""
    width = min(count + OVERSAMPLING, *matrix.shape)
    basis = np.random.default_rng(seed).standard_normal((matrix.shape[1], width)).astype(np.float32)
    transposed = matrix.T.tocsr()
    for _ in range(SWEEPS + 1):
        basis = _orthonormal(transposed @ (matrix @ basis))
    image = matrix @ basis
    squares, rotation = np.linalg.eigh((image.T @ image).astype(np.float64))
    largest = np.argsort(-squares, kind="stable")[:count]
    singular = np.sqrt(np.maximum(squares[largest], 0))
    return singular, (basis @ rotation[:, largest].astype(np.float32)).astype(np.float32)


def _orthonormal(vectors: Matrix) -> Matrix:
    """A basis of the same space, by two whitenings: products of matrices only, where QR would wait for its threads.

    The second mends what float32 lost in the first (as CholeskyQR2: Fukaya et al. 2014, ScalA).
    """
    for _ in range(2):
        squares, rotation = np.linalg.eigh((vectors.T @ vectors).astype(np.float64))
        lengths = np.sqrt(np.maximum(squares, squares[-1] * 1e-12))
        vectors = vectors @ (rotation / np.maximum(lengths, 1e-30)).astype(np.float32)
    return vectors


def _power(sums: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    sums = sums.astype(np.float64)
    return np.power(sums, exponent, out=np.zeros_like(sums), where=sums > 0)
