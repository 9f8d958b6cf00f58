"""The weights of a blend, found on a hold-out.

Linear stacking by direct search on the ranking metric: Breiman 1996, "Stacked Regressions", Machine Learning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recoflow.models.algorithms.blend import spread
from recoflow.models.algorithms.matrix import Matrix
from recoflow.models.algorithms.scorer import Scorer
from recoflow.models.evaluation.holdout import HoldOut

SCORES: Final = 40_000_000  # of each model, held at once in the search
FACTORS: Final = (0.0, 0.5, 0.8, 1.25, 2.0)
ROUNDS: Final = 3


def fit_weights(scorers: Mapping[str, Scorer], hold: HoldOut) -> dict[str, float]:
    """Weights that sum to 1, by coordinate search on the hold-out's NDCG@20 from equal ones.

    Args:
        scorers: trained on `hold.data`.
        hold: the hold-out; as many of its judged users are used as fit into memory.
    """
    users = hold.judged[: max(1, SCORES // hold.data.shape[1])]
    judged = HoldOut(hold.data, hold.test, users)
    scores = {name: scorer.score(users) / np.float32(spread(scorer)) for name, scorer in scorers.items()}
    weights = dict.fromkeys(scorers, 1.0)
    best = judged.ndcg(_Sum(users, scores, weights))
    for _ in range(ROUNDS):
        before = best
        for name in scorers:
            for factor in FACTORS:
                tried = weights | {name: weights[name] * factor}
                if any(tried.values()) and (reached := judged.ndcg(_Sum(users, scores, tried))) > best:
                    best, weights = reached, tried
        if best <= before:
            break
    total = sum(weights.values())
    return {name: round(weight / total, 4) for name, weight in weights.items()}


@dataclass(frozen=True)
class _Sum:
    users: NDArray[np.int64]
    scores: Mapping[str, Matrix]
    weights: Mapping[str, float]

    def score(self, rows: NDArray[np.int64]) -> Matrix:
        places = np.searchsorted(self.users, rows)
        total: Matrix = np.zeros((len(rows), next(iter(self.scores.values())).shape[1]), np.float32)
        for name, weight in self.weights.items():
            if weight:
                total += np.float32(weight) * self.scores[name][places]
        return total
