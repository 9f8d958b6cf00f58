"""Item-to-item models: EASE in closed form, and nearest neighbours by cosine.

A user's score is history × similarity, so these need no user factors and know a new user at once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from recoflow.models.algorithms import similarity
from recoflow.models.algorithms.matrix import UserItems
from recoflow.models.algorithms.scorer import Scorer, sqrt_normalized
from recoflow.settings.sections import Model

EASE_ITEMS: Final = 5000
EASE_REGULARIZATION: Final = 0.5  # in users of an item of mean popularity
EASE_NEIGHBOURS: Final = 400
NEIGHBOURS: Final = 100


def ease(data: UserItems, model: Model, _seed: int, *, most_items: int = EASE_ITEMS) -> Scorer:
    """EASE: B = I − P / diag(P) with P = (XᵀX + λI)⁻¹ (Steck 2019, "Embarrassingly Shallow Autoencoders", WWW).

    The inverse is dense, so a large catalogue is cut to its `most_items` most popular (others score 0), and of each
    item the largest weights are kept. λ = regularization × the items' mean popularity + 1.
    """
    popularity = data.popularity()
    keep = model.neighbours or EASE_NEIGHBOURS
    chosen = np.sort(np.argsort(-popularity, kind="stable")[:most_items])
    chosen = chosen[popularity[chosen] > 0]
    regularization = EASE_REGULARIZATION if model.regularization is None else model.regularization
    ridge = regularization * float(np.mean(popularity[chosen])) + 1
    columns = data.matrix[:, chosen]
    gram = (columns.T @ columns).toarray(order="F").astype(np.float64)
    gram[np.diag_indices_from(gram)] += ridge
    # Half the work of a general inverse, and in place: only the lower triangle is computed, then mirrored.
    factor, _ = lapack.dpotrf(gram, lower=1, overwrite_a=1)
    inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    weights = sparse.csr_matrix((-inverse / np.diag(inverse)).astype(np.float32))
    nearest = similarity.nearest(weights, keep).tocoo()
    rows, places = chosen[nearest.row], chosen[nearest.col]
    wide = sparse.csr_matrix((nearest.data, (rows, places)), shape=(data.shape[1], data.shape[1]))
    wide.sort_indices()
    return _of(data, wide, {"regularization": regularization, "neighbours": keep, "items": len(chosen)})


def item_neighbours(data: UserItems, model: Model, _seed: int) -> Scorer:
    """Cosine of item columns, the nearest of each (Sarwar et al. 2001, "Item-Based Collaborative Filtering", WWW)."""
    keep = model.neighbours or NEIGHBOURS
    lengths = np.sqrt(np.asarray(data.matrix.power(2).sum(0)).ravel().astype(np.float64))
    shrink = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    found = similarity.of_columns(data.matrix, keep, rows=shrink, columns=shrink)
    return _of(data, found, {"neighbours": keep})


def _of(data: UserItems, matrix: sparse.csr_matrix, parameters: dict[str, float]) -> Scorer:
    matrix = sparse.csr_matrix(matrix, dtype=np.float32)
    return Scorer(
        user_factors=np.zeros((data.shape[0], 0), np.float32),
        item_factors=np.zeros((data.shape[1], 0), np.float32),
        parameters=parameters,
        history=sqrt_normalized(data.matrix),
        similarity=matrix,
    )
