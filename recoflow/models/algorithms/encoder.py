"""How a user's history becomes a stretch of the user's factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class UserEncoder:
    """How a user's history becomes a stretch of the user's factors.

    Attributes:
        kind: `constant`: 1 for everyone with a history; `least_squares`: the ridge solution against the item factors,
            as a half-step of ALS; `linear`: history × projection.
        columns: how many factors it gives.
        weight: what the result is multiplied with (the share in a blend).
        alpha: of `least_squares`: weight of all items against a weight of 1 for those of the history.
        regularization: of `least_squares`: λ.
        exponent: of `least_squares`: ν; the ridge of a user with entries of total n is λ (n + α · items)^ν.
        is_exact: of `least_squares`: people of the training have this solution too. Where a training leaves them
            elsewhere (BPR), their scores are no sum over their history.
    """

    kind: Literal["constant", "least_squares", "linear"]
    columns: int
    weight: float = 1.0
    alpha: float = 0.0
    regularization: float = 0.0
    exponent: float = 1.0
    is_exact: bool = False
