"""The model family behind one contract: settings and data in, a scorer out.

What belongs here: which algorithm is which function. What does not: the algorithms, and the choice among them (select).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from recoflow.environment import Model
from recoflow.errors import ModelError
from recoflow.models import als, baselines
from recoflow.models.matrix import UserItems
from recoflow.models.scorer import Scorer

ALGORITHMS: Final[Mapping[str, Callable[[UserItems, Model, int], Scorer]]] = {
    "als": als.fit,
    "popular": lambda data, _model, _seed: baselines.popular(data),
    "trending": lambda data, _model, _seed: baselines.trending(data),
    "newest": lambda data, _model, _seed: baselines.newest(data),
}
IMPERSONAL: Final = frozenset({"popular", "trending", "newest"})


def train(data: UserItems, model: Model, seed: int) -> Scorer:
    """Fit one model; same data, settings and seed give the same bytes.

    Raises:
        ModelError: when there is nothing to learn from, or the algorithm is not there.
    """
    if not data.matrix.nnz:
        raise ModelError("interactions", "hold no positive weight to train on", "Ingest events, or mend events.weights")
    fit = ALGORITHMS.get(model.algorithm)
    if fit is None:
        raise ModelError(
            f"training.models: algorithm {model.algorithm}", "is not built yet", f"Use one of {', '.join(ALGORITHMS)}"
        )
    return fit(data, model, seed)
