"""A blend: the weighted sum of several models' scores, each on the scale of its own spread.

What does not belong here: finding the weights (`blend_weights`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from recoflow.models.algorithms.scorer import Scorer, combine

SAMPLE: Final = 512


def add(scorers: Sequence[Scorer], weights: Sequence[float]) -> Scorer:
    """The sum of scorers on the same data, each multiplied with weight / spread; those of weight 0 are left out."""
    used = [(scorer, weight / spread(scorer)) for scorer, weight in zip(scorers, weights, strict=True) if weight]
    return combine([scorer for scorer, _ in used], [scale for _, scale in used])


def spread(scorer: Scorer) -> float:
    """Mean standard deviation of a user's scores over the items, over 512 users spread evenly over the rows."""
    rows = np.unique(np.linspace(0, scorer.shape[0] - 1, min(SAMPLE, scorer.shape[0])).astype(np.int64))
    return max(float(scorer.score(rows).std(axis=1).mean()), 1e-12)
