"""Factor models that implicit trains by stochastic gradients: BPR and logistic matrix factorization.

New users get the ridge solution against the item factors: near, but not what the training would have given them.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recoflow.models.algorithms import als
from recoflow.models.algorithms.encoder import UserEncoder
from recoflow.models.algorithms.matrix import Matrix, UserItems
from recoflow.models.algorithms.scorer import Scorer
from recoflow.settings.sections import Model

BPR_ITERATIONS: Final = 100
BPR_REGULARIZATION: Final = 0.01
LMF_ITERATIONS: Final = 30
LMF_REGULARIZATION: Final = 0.6


def bpr(data: UserItems, model: Model, seed: int) -> Scorer:
    """Rendle et al. 2009, "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI.

    On one thread: with several, implicit's updates race, and equal seeds give unequal factors.
    """
    from implicit.cpu.bpr import BayesianPersonalizedRanking  # noqa: PLC0415 - heavy

    settings = _settings(data, model, BPR_ITERATIONS, BPR_REGULARIZATION)
    return _trained(BayesianPersonalizedRanking(**settings, num_threads=1, random_state=seed), data, settings)


def lmf(data: UserItems, model: Model, seed: int) -> Scorer:
    """Johnson 2014, "Logistic Matrix Factorization for Implicit Feedback Data", NIPS workshop; on one thread as BPR."""
    from implicit.cpu.lmf import LogisticMatrixFactorization  # noqa: PLC0415 - heavy

    settings = _settings(data, model, LMF_ITERATIONS, LMF_REGULARIZATION)
    return _trained(LogisticMatrixFactorization(**settings, num_threads=1, random_state=seed), data, settings)


def _settings(data: UserItems, model: Model, iterations: int, regularization: float) -> dict[str, Any]:
    return {
        "factors": model.factors or min(64, als.default_factors(data)),
        "iterations": model.iterations or iterations,
        "regularization": regularization if model.regularization is None else model.regularization,
    }


def _trained(trainer: Any, data: UserItems, settings: dict[str, Any]) -> Scorer:
    from implicit.recommender_base import ModelFitError  # noqa: PLC0415 - heavy

    # Factors that are NaN are judged like those of any other model: one candidate's settings never end the training.
    with contextlib.suppress(ModelFitError):
        trainer.fit(data.matrix, show_progress=False)
    user_factors, item_factors = (np.array(part, np.float32) for part in (trainer.user_factors, trainer.item_factors))
    user_factors[np.diff(data.matrix.indptr) == 0] = 0
    _place_unknown(item_factors, data.popularity())
    encoder = UserEncoder(
        "least_squares", item_factors.shape[1], alpha=1 / als.ALPHA, regularization=als.REGULARIZATION
    )
    return Scorer(user_factors, item_factors, settings, encoders=(encoder,))


def _place_unknown(item_factors: Matrix, popularity: NDArray[np.float32]) -> None:
    """Items that nobody has met get the mean of those that hardly anyone has, in place.

    Zeros would not do: these models give most items scores below 0, and every unknown item would stand before them.
    """
    known = popularity > 0
    rarest = known & (popularity <= np.quantile(popularity[known], 0.1))
    item_factors[~known] = item_factors[rarest].mean(0)
