"""The one form that every trained model takes, so that one scoring core serves them all.

What belongs here: scoring, its algebra, users met after training, and what makes a model degenerate. What does not: how
a model is trained.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recoflow.models.algorithms.encoder import UserEncoder
from recoflow.models.algorithms.least_squares import solve_users
from recoflow.models.algorithms.matrix import Confidence, Matrix


@dataclass(frozen=True)
class Scorer:
    """score(u, i) = user_factors[u] · item_factors[i] + (history[u] · similarity)[i].

    Attributes:
        user_factors: float32 [users × f]; a row of zeros where the model knows nothing of the user.
        item_factors: float32 [items × f].
        parameters: the settings that the model was trained with, those chosen for it included; JSON values.
        confidence: what weights become before a model learns from them.
        encoders: how user_factors come from a history; their columns sum to f.
        projection: float32 [items × columns of the linear encoders], in their order; None without any.
        history: CSR float32 [users × items], damped confidences, or None: the model is a product of factors alone.
        similarity: CSR float32 [items × items], or None together with `history`.
        course: how the training went (sweeps, objective, what it started from); JSON values, of a blend per component.
    """

    user_factors: Matrix
    item_factors: Matrix
    parameters: dict[str, Any] = field(default_factory=dict)
    confidence: Confidence = field(default_factory=Confidence)
    encoders: tuple[UserEncoder, ...] = ()
    projection: Matrix | None = None
    history: sparse.csr_matrix | None = None
    similarity: sparse.csr_matrix | None = None
    course: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Users, items."""
        return self.user_factors.shape[0], self.item_factors.shape[0]

    def score(self, rows: NDArray[np.int64]) -> Matrix:
        """Scores of a block of users, float32 [len(rows) × items]."""
        block: Matrix = self.user_factors[rows] @ self.item_factors.T
        if self.history is not None:
            block += (self.history[rows] @ self.similarity).toarray()
        return block

    def is_known(self) -> NDArray[np.bool_]:
        """Whether the model has learned anything of each user, bool [users]."""
        known = np.asarray(self.user_factors.any(axis=1), np.bool_)
        return known if self.history is None else known | (np.diff(self.history.indptr) > 0)

    def with_users(self, others: Scorer) -> Scorer:
        """The same model with the users of a scorer that was folded in from it behind its own."""
        history = None
        if self.history is not None and others.history is not None:
            history = sparse.csr_matrix(sparse.vstack([self.history, others.history], format="csr"))
        return replace(self, user_factors=np.vstack([self.user_factors, others.user_factors]), history=history)

    def of_items(self, places: NDArray[np.int64], items: int) -> Scorer:
        """The same model with its items at these places (ascending) of so many; the others have zeros."""
        similarity, history = self.similarity, self.history
        if similarity is not None and history is not None:
            entries = (similarity.data, places[similarity.indices].astype(np.int32))
            lengths = np.zeros(items, np.int64)
            lengths[places] = np.diff(similarity.indptr)
            starts = np.concatenate([[0], np.cumsum(lengths)])
            similarity = sparse.csr_matrix((*entries, starts), shape=(items, items))
            entries = (history.data, places[history.indices].astype(np.int32))
            history = sparse.csr_matrix((*entries, history.indptr), shape=(history.shape[0], items))
        return replace(
            self,
            item_factors=_spread(self.item_factors, places, items),
            projection=None if self.projection is None else _spread(self.projection, places, items),
            similarity=similarity,
            history=history,
        )

    def of_users(self, rows: NDArray[np.int64]) -> Scorer:
        """The same model with only these users."""
        history = None if self.history is None else sparse.csr_matrix(self.history[rows])
        return replace(self, user_factors=np.ascontiguousarray(self.user_factors[rows]), history=history)

    def fold_in(self, weights: sparse.csr_matrix) -> Scorer:
        """The same model for other users, known by what they did: no item changes, nothing is trained.

        Args:
                weights: CSR float32 [users × items], as in INTERACTIONS; a column is an item of the model.
        """
        confidences = self.confidence.apply(weights)
        history = sqrt_normalized(confidences)
        parts: list[Matrix] = []
        column = projected = 0
        for encoder in self.encoders:
            stop = column + encoder.columns
            if encoder.kind == "least_squares":
                part = solve_users(confidences, self.item_factors[:, column:stop], encoder)
            elif encoder.kind == "linear" and self.projection is not None:
                part = history @ self.projection[:, projected : projected + encoder.columns]
                projected += encoder.columns
            else:
                part = np.repeat((np.diff(weights.indptr) > 0)[:, None], encoder.columns, 1).astype(np.float32)
            parts.append((encoder.weight * part).astype(np.float32))
            column = stop
        factors = np.hstack(parts) if parts else np.zeros((weights.shape[0], 0), np.float32)
        return replace(self, user_factors=factors, history=None if self.history is None else history)

    def is_finite(self) -> bool:
        """Whether no stored number is NaN or infinite."""
        parts = [self.user_factors, self.item_factors]
        parts += [matrix.data for matrix in (self.history, self.similarity) if matrix is not None]
        return all(bool(np.isfinite(part).all()) for part in parts)

    def is_constant(self, block: int = 1024) -> bool:
        """Whether it scores all items alike for every known user of the first `block`."""
        known = self.user_factors[:block].any(1)
        if self.history is not None:
            known |= np.diff(self.history.indptr)[:block] > 0
        scores = self.score(np.flatnonzero(known))
        return bool((scores.max(1, initial=-np.inf) <= scores.min(1, initial=np.inf)).all())


def _spread(rows: Matrix, places: NDArray[np.int64], count: int) -> Matrix:
    wide = np.zeros((count, rows.shape[1]), np.float32)
    wide[places] = rows
    return wide


def sqrt_normalized(confidences: sparse.csr_matrix) -> sparse.csr_matrix:
    """Histories divided by the root of their sum, CSR float32.

    This changes no list of a model that is linear in the history; in a blend it keeps long histories from drowning the
    models whose scores do not grow with them.
    """
    roots = np.sqrt(np.repeat(np.asarray(confidences.sum(1)).ravel(), np.diff(confidences.indptr)))
    data = (confidences.data / np.maximum(roots, 1e-12)).astype(np.float32)
    return sparse.csr_matrix((data, confidences.indices, confidences.indptr), shape=confidences.shape)


def combine(scorers: Sequence[Scorer], weights: Sequence[float]) -> Scorer:
    """The scorer whose scores are the weighted sum of others' over the same users, items and history."""
    pairs = list(zip(scorers, map(np.float32, weights), strict=True))
    similar = [scorer.similarity * weight for scorer, weight in pairs if scorer.similarity is not None]
    projections = [scorer.projection for scorer in scorers if scorer.projection is not None]
    return Scorer(
        user_factors=np.hstack([scorer.user_factors * weight for scorer, weight in pairs]),
        item_factors=np.hstack([scorer.item_factors for scorer in scorers]),
        confidence=scorers[0].confidence,
        encoders=tuple(
            replace(encoder, weight=encoder.weight * float(weight))
            for scorer, weight in pairs
            for encoder in scorer.encoders
        ),
        projection=np.hstack(projections) if projections else None,
        history=next((scorer.history for scorer in scorers if scorer.history is not None), None),
        similarity=sparse.csr_matrix(functools.reduce(operator.add, similar)) if similar else None,
    )
