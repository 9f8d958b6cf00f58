"""The one form that every trained model takes, so that one scoring core serves them all.

What belongs here: scoring, its algebra and what makes it degenerate. What does not: how a model is trained.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Scorer:
    """score(u, i) = user_factors[u] · item_factors[i] + (history[u] · similarity)[i].

    Attributes:
        user_factors: float32 [users × f]; a row of zeros where the model knows nothing of the user.
        item_factors: float32 [items × f].
        parameters: the settings that the model was trained with, those chosen for it included; JSON values.
        history: CSR float32 [users × items], or None: the model is a product of factors alone.
        similarity: CSR float32 [items × items], or None together with `history`.
    """

    user_factors: Matrix
    item_factors: Matrix
    parameters: dict[str, Any] = field(default_factory=dict)
    history: sparse.csr_matrix | None = None
    similarity: sparse.csr_matrix | None = None

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
