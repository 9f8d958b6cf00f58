"""The automatic choice: settings that an environment leaves out are chosen on a hold-out of its training data.

What belongs here: which settings are tried, and in what order. What does not: long searches with a budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from recoflow.models.algorithms import als, train
from recoflow.models.evaluation.holdout import HoldOut
from recoflow.models.training.blend_weights import fit_weights
from recoflow.settings.sections import Model

# Per algorithm: settings in the order in which they are tried, the first value of each is where the search begins.
TRIALS: Final[Mapping[str, tuple[tuple[str, tuple[float, ...]], ...]]] = {
    "als": (("regularization", (0.002, 0.0005, 0.008)), ("alpha", (30.0, 10.0, 100.0))),
    "spectral": (("exponent", (0.3, 0.5)), ("regularization", (0.3, 0.1, 1.0))),
    "ease": (("regularization", (0.5, 0.1, 2.0)),),
    "item_neighbours": (("neighbours", (100, 20, 400)),),
}
# Trials of ALS run small: which settings are best hardly depends on it, what a trial costs does.
ALS_FACTORS: Final = 128
ALS_ITERATIONS: Final = 6
GAIN: Final = 0.01  # a trial must be better by this share, or the noise of the hold-out would choose


def resolve_settings(model: Model, hold: HoldOut, seed: int, known: Mapping[str, Model]) -> Model:
    """The model with every setting that is left out, and that there are trials for, chosen on the hold-out.

    One setting after the other (coordinate search); another value must be better than the one before by 1 %.

    Args:
        model: as the environment names it.
        hold: where trials are judged.
        seed: of the trials' training.
        known: models that were resolved before; a blend takes its components from there.
    """
    if model.algorithm == "blend":
        return _resolve_blend(model, hold, seed, known)
    trials = [(name, values) for name, values in TRIALS.get(model.algorithm, ()) if getattr(model, name) is None]
    if not trials or not len(hold.judged):
        return model
    chosen = model.model_copy(update={name: values[0] for name, values in trials})
    best = _small(chosen, hold, seed)
    for name, values in trials:
        for value in values[1:]:
            tried = chosen.model_copy(update={name: value})
            reached = _small(tried, hold, seed)
            if reached > best * (1 + GAIN):
                best, chosen = reached, tried
    return chosen


def _resolve_blend(model: Model, hold: HoldOut, seed: int, known: Mapping[str, Model]) -> Model:
    components = dict(model.components or train.DEFAULT_COMPONENTS)
    for name, component in components.items():
        same = [each for each in known.values() if each.algorithm == component.algorithm]
        is_open = component == Model(algorithm=component.algorithm)
        components[name] = same[0] if same and is_open else resolve_settings(component, hold, seed, known)
    weights: dict[str, Any] | None = model.weights
    if weights is None:
        scorers = {name: train.train(hold.data, component, seed) for name, component in components.items()}
        weights = fit_weights(scorers, hold)
    return model.model_copy(update={"components": components, "weights": weights})


def ndcg(model: Model, hold: HoldOut, seed: int) -> float:
    """NDCG@20 of a model on the hold-out, −1 when its numbers are not finite."""
    scorer = train.train(hold.data, model, seed)
    return hold.ndcg(scorer) if scorer.is_finite() else -1.0


def _small(model: Model, hold: HoldOut, seed: int) -> float:
    if model.algorithm == "als":
        factors = model.factors or als.default_factors(hold.data)
        model = model.model_copy(update={"factors": min(factors, ALS_FACTORS), "iterations": ALS_ITERATIONS})
    return ndcg(model, hold, seed)
