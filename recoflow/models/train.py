"""The model family behind one contract: settings and data in, a scorer out.

What belongs here: which algorithm is which function. What does not: the algorithms, and the choice among them (select).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from recoflow.environment import Model
from recoflow.errors import ModelError
from recoflow.models import als, baselines, blend, linear, pairwise, spectral
from recoflow.models.matrix import Confidence, UserItems
from recoflow.models.scorer import Scorer

ALGORITHMS: Final[Mapping[str, Callable[[UserItems, Model, int], Scorer]]] = {
    "als": als.fit,
    "bpr": pairwise.bpr,
    "lmf": pairwise.lmf,
    "item_neighbours": linear.item_neighbours,
    "ease": linear.ease,
    "spectral": spectral.fit,
    "popular": lambda data, _model, _seed: baselines.popular(data),
    "trending": lambda data, _model, _seed: baselines.trending(data),
    "newest": lambda data, _model, _seed: baselines.newest(data),
}
DEFAULT_COMPONENTS: Final[Mapping[str, Model]] = {name: Model(algorithm=name) for name in ("als", "spectral")}
IMPERSONAL: Final = frozenset({"popular", "trending", "newest"})


def train(data: UserItems, model: Model, seed: int) -> Scorer:
    """Fit one model; same data, settings and seed give the same bytes.

    Raises:
        ModelError: when there is nothing to learn from.
    """
    if not data.matrix.nnz:
        raise ModelError("interactions", "hold no positive weight to train on", "Ingest events, or mend events.weights")
    if model.algorithm == "blend":
        return _blend(data, model, seed)
    confidence = Confidence.of(data.matrix)
    scorer = ALGORITHMS[model.algorithm](replace(data, matrix=confidence.apply(data.matrix)), model, seed)
    return replace(scorer, confidence=confidence)


def _blend(data: UserItems, model: Model, seed: int) -> Scorer:
    components = model.components or DEFAULT_COMPONENTS
    weights = model.weights or dict.fromkeys(components, 1.0)
    scorers = [train(data, component, seed) for component in components.values()]
    parameters = {
        "components": {
            name: {"algorithm": component.algorithm} | scorer.parameters
            for (name, component), scorer in zip(components.items(), scorers, strict=True)
        },
        "weights": weights,
    }
    return replace(blend.add(scorers, [weights[name] for name in components]), parameters=parameters)
