"""The model family behind one contract: settings and data in, a scorer out.

What belongs here: which algorithm is which function. What does not: the algorithms, and the choice among them
(promotion_gate).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from recoflow.errors import ModelError
from recoflow.models.algorithms import als, baselines, blend, linear, pairwise, spectral
from recoflow.models.algorithms.matrix import Confidence, UserItems
from recoflow.models.algorithms.scorer import Scorer
from recoflow.models.algorithms.warm_start import WarmStart, components
from recoflow.settings.sections import Model

# Beside als, which can continue from another model, and blend, which is made of others.
ALGORITHMS: Final[Mapping[str, Callable[[UserItems, Model, int], Scorer]]] = {
    "bpr": pairwise.bpr,
    "lmf": pairwise.lmf,
    "item_neighbours": linear.item_neighbours,
    "ease": linear.ease,
    "spectral": spectral.fit_spectral,
    "popular": lambda data, _model, _seed: baselines.popular(data),
    "trending": lambda data, _model, _seed: baselines.trending(data),
    "newest": lambda data, _model, _seed: baselines.newest(data),
}
DEFAULT_COMPONENTS: Final[Mapping[str, Model]] = {name: Model(algorithm=name) for name in ("als", "spectral")}
IMPERSONAL: Final = frozenset({"popular", "trending", "newest"})


def train(data: UserItems, model: Model, seed: int, starts: Sequence[WarmStart] = ()) -> Scorer:
    """Fit one model; same data, settings, seed and starts give the same bytes.

    Args:
        data: what to learn from.
        model: settings.
        seed: of all that is drawn.
        starts: models to continue from, the first one that fits; only ALS does, alone or in a blend, and only when
            the settings are equal.

    Raises:
        ModelError: when there is nothing to learn from.
    """
    if not data.matrix.nnz:
        raise ModelError("interactions", "hold no positive weight to train on", "Ingest events, or mend events.weights")
    if model.algorithm == "blend":
        return _blend(data, model, seed, starts)
    confidence = Confidence.of(data.matrix)
    confident = replace(data, matrix=confidence.apply(data.matrix))
    if model.algorithm == "als":
        scorer = als.fit_als(confident, model, seed, starts)
    else:
        scorer = ALGORITHMS[model.algorithm](confident, model, seed)
    return replace(scorer, confidence=confidence)


def _blend(data: UserItems, model: Model, seed: int, starts: Sequence[WarmStart]) -> Scorer:
    parts = model.components or DEFAULT_COMPONENTS
    weights = model.weights or dict.fromkeys(parts, 1.0)
    scorers = [train(data, part, seed, components(starts, name)) for name, part in parts.items()]
    parameters = {
        "components": {
            name: {"algorithm": part.algorithm} | scorer.parameters
            for (name, part), scorer in zip(parts.items(), scorers, strict=True)
        },
        "weights": weights,
    }
    course = {name: scorer.course for name, scorer in zip(parts, scorers, strict=True) if scorer.course}
    return replace(blend.add(scorers, [weights[name] for name in parts]), parameters=parameters, course=course)
