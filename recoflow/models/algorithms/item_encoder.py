"""Factors for items that nobody has met yet, from what is known of them: a linear map from features to factors.

What belongs here: features of ITEMS, and the map. What does not: whether it is good enough to be used (see
`cold_items`).

Gantner et al. 2010, "Learning Attribute-to-Feature Mappings for Cold-Start Recommendations", ICDM: a regression from
attributes to the factors of the trained items; here ridge, with items weighted by how much their factors have seen.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import linalg, sparse

from recoflow.compute.thread_pool import thread_pool
from recoflow.models.algorithms.matrix import Matrix

MAX_FEATURES: Final = 2048  # the most frequent ones; the map needs their Gram matrix
MIN_ITEMS: Final = 2  # of one item alone nothing can be learned for others
MAX_WORDS: Final = 100  # of one text
MAX_VALUE: Final = 80  # characters of a text that counts as a whole, too
TRUST: Final = 5.0  # interactions at which an item's factors weigh half
RIDGES: Final = (1.0, 0.3, 3.0)  # tried on held-out items; the first of equals
WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True)
class ItemEncoder:
    """factors(item) = mean + Σ_features x · weights, x the item's idf-weighted features with Σ x² = 1.

    Attributes:
        features: tokens, sorted, unique [p].
        idf: float32 [p].
        weights: float32 [p × f].
        mean: float32 [f].
    """

    features: NDArray[np.str_]
    idf: NDArray[np.float32]
    weights: Matrix
    mean: NDArray[np.float32]

    def encode(self, items: pl.DataFrame) -> Matrix:
        """Factors of ITEMS, float32 [items × f]; zeros for an item of which no feature is known."""
        vectors = _vectors(items, self.features, self.idf)
        is_known = (np.diff(vectors.indptr) > 0)[:, None]
        encoded: Matrix = np.where(is_known, vectors @ self.weights + self.mean, np.float32(0)).astype(np.float32)
        return encoded


def fit_item_encoder(
    items: pl.DataFrame, factors: Matrix, counts: NDArray[np.float32], seed: int
) -> ItemEncoder | None:
    """The map from the features of trained items to their factors, or None when no feature tells items apart.

    Args:
        items: ITEMS, all with interactions.
        factors: float32 [items × f].
        counts: how many subjects interacted with each [items].
        seed: of the fifth of the items that the ridge is chosen on.
    """
    features, idf = _vocabulary(items)
    if not len(features):
        return None
    vectors = _vectors(items, features, idf)
    trust = (counts / (counts + TRUST)).astype(np.float64)
    is_held = np.random.default_rng(seed).random(items.height) < 0.2
    ridge = RIDGES[0]
    with thread_pool() as threads:
        if is_held.any() and not is_held.all():
            errors = list(threads.map(partial(_error, vectors, factors, trust, is_held), RIDGES))
            ridge = RIDGES[int(np.argmin(errors))]
        weights, mean = _solve(vectors, factors, trust, ridge)
    return ItemEncoder(features, idf, weights.astype(np.float32), mean.astype(np.float32))


def tokens(item_type: str | None, attributes: Mapping[str, Any]) -> set[str]:
    """What is known of an item, as distinct tokens: `key=value` of short values and lists, `key~word` of texts.

    Addresses and numbers are left out: they name an item, or are not alike when they are near.
    """
    found = {f"item_type={item_type}"}
    for key, value in _values(attributes):
        if isinstance(value, bool):
            found.add(f"{key}={value}")
        elif isinstance(value, str) and "://" not in value:
            text = value.strip().lower()
            words = WORD.findall(text)[:MAX_WORDS]
            if text and len(text) <= MAX_VALUE:
                found.add(f"{key}={text}")
            if len(words) > 1:
                found.update(f"{key}~{word}" for word in words)
    return found


def _values(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in attributes.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", of) for inner, of in _values(value))
        elif isinstance(value, list):
            yield from ((key, each) for each in value)
        else:
            yield key, value


def _tokens_of(items: pl.DataFrame) -> Iterator[set[str]]:
    for item_type, attributes in items.select("item_type", "attributes").iter_rows():
        yield tokens(item_type, json.loads(attributes or "{}"))


def _vocabulary(items: pl.DataFrame) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
    counted = Counter(token for found in _tokens_of(items) for token in found)
    telling = (
        (-count, token)
        for token, count in counted.items()
        if MIN_ITEMS <= count < items.height and not token.endswith("\0")  # which numpy would forget
    )
    features = np.array(sorted(token for _, token in sorted(telling)[:MAX_FEATURES]), np.str_)
    frequency = np.array([counted[token] for token in features.tolist()])
    return features, np.log((1 + items.height) / (1 + frequency)).astype(np.float32)


def _vectors(items: pl.DataFrame, features: NDArray[np.str_], idf: NDArray[np.float32]) -> sparse.csr_matrix:
    """CSR float32 [items × features], rows of length 1 or empty."""
    place = {token: number for number, token in enumerate(features.tolist())}
    rows = [sorted(place[token] for token in found if token in place) for found in _tokens_of(items)]
    lengths = np.array([len(row) for row in rows], np.int64)
    indices = np.array([number for row in rows for number in row], np.int32)
    values = idf[indices]
    owner = np.repeat(np.arange(len(rows)), lengths)
    norms = np.sqrt(np.bincount(owner, values.astype(np.float64) ** 2, minlength=len(rows)))
    data = (values / np.maximum(norms, 1e-12)[owner]).astype(np.float32)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return sparse.csr_matrix((data, indices, indptr), shape=(len(rows), len(features)))


def _solve(
    vectors: sparse.csr_matrix, factors: Matrix, trust: NDArray[np.float64], ridge: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights [p × f] and mean [f] that minimize Σ_i trust_i |y_i − mean − x_i W|² + ridge |W|²."""
    mean = np.asarray(trust @ factors / trust.sum(), np.float64)
    weighted = sparse.csr_matrix(sparse.diags_array(trust) @ vectors)
    gram = (weighted.T @ vectors).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += ridge
    target = weighted.T @ (factors - mean)
    solved = linalg.cho_solve(linalg.cho_factor(gram, lower=True, overwrite_a=True), target)
    return np.asarray(solved), mean


def _error(
    vectors: sparse.csr_matrix,
    factors: Matrix,
    trust: NDArray[np.float64],
    is_held: NDArray[np.bool_],
    ridge: float,
) -> float:
    weights, mean = _solve(vectors[~is_held], factors[~is_held], trust[~is_held], ridge)
    missed = factors[is_held] - mean - vectors[is_held] @ weights
    return float(trust[is_held] @ (missed**2).sum(1))
