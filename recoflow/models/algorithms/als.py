"""Alternating least squares for implicit feedback with frequency-scaled regularization (iALS).

Minimizes, over user factors x and item factors y, with c the confidence of an entry and α the weight of everything:

    Σ_entries c (1 − x·y)² + α Σ_all (x·y)² + λ Σ_u (n_u + α·items)^ν |x_u|² + λ Σ_i (n_i + α·users)^ν |y_i|²

Hu, Koren & Volinsky 2008, "Collaborative Filtering for Implicit Feedback Datasets", ICDM; the scaling and the form:
Rendle, Krichene, Zhang & Koren 2022, "Revisiting the Performance of iALS on Item Recommendation Benchmarks", RecSys;
conjugate gradient: Takács, Pilászy & Tikk 2011, "Applications of the conjugate gradient method for implicit feedback
collaborative filtering", RecSys.

The package implicit has no such scaling and takes about twice the time, so this one model is trained here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from scipy import sparse

from recoflow.compute.thread_pool import thread_pool
from recoflow.models.algorithms.encoder import UserEncoder
from recoflow.models.algorithms.least_squares import BLOCK, gram, half_sweep, solve_users
from recoflow.models.algorithms.matrix import Matrix, UserItems
from recoflow.models.algorithms.scorer import Scorer
from recoflow.models.algorithms.warm_start import WarmStart, first_fitting
from recoflow.settings.sections import Model

ALPHA: Final = 30.0  # weight of an interaction against that of a pair without one
REGULARIZATION: Final = 0.002
EXPONENT: Final = 1.0
ITERATIONS: Final = 7  # more sweeps fit the training data better and the hold-out worse
STEPS: Final = 3  # of conjugate gradient per half-sweep, from the last sweep's factors
STEPS_TO_START: Final = 6  # enough for the items' next half-sweep
SLACK: Final = 0.01  # of the objective: new events make it differ by more than a sweep does


def fit_als(data: UserItems, model: Model, seed: int, starts: Sequence[WarmStart] = ()) -> Scorer:
    """Train factors; the same data, settings, seed and starts give the same bytes on any number of threads.

    Settings that are left out are the constants above; factors grow with the data (16 to 512). From a start that fits,
    one sweep is made, and more only while the objective is worse than it was at the start's own end.
    """
    parameters = {
        "factors": model.factors or default_factors(data),
        "alpha": model.alpha or ALPHA,
        "regularization": REGULARIZATION if model.regularization is None else model.regularization,
        "exponent": EXPONENT if model.exponent is None else model.exponent,
        "iterations": model.iterations or ITERATIONS,
    }
    encoder = UserEncoder(
        "least_squares",
        int(parameters["factors"]),
        alpha=1 / parameters["alpha"],
        regularization=parameters["regularization"],
        exponent=parameters["exponent"],
        is_exact=True,
    )
    start = first_fitting(starts, "als", parameters)
    if start is None:
        user_factors, item_factors, course = _from_nothing(data, encoder, int(parameters["iterations"]), seed)
    else:
        user_factors, item_factors, course = _continue(data, encoder, int(parameters["iterations"]), start)
    return Scorer(user_factors, item_factors, parameters, encoders=(encoder,), course=course)


def _from_nothing(
    data: UserItems, encoder: UserEncoder, sweeps: int, seed: int
) -> tuple[Matrix, Matrix, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    user_factors, item_factors = (
        (rng.standard_normal((rows, encoder.columns)) * 0.1 / np.sqrt(encoder.columns)).astype(np.float32)
        for rows in data.shape
    )
    by_item = data.matrix.T.tocsr()
    for _ in range(sweeps):
        half_sweep(data.matrix, user_factors, item_factors, encoder, STEPS)
        half_sweep(by_item, item_factors, user_factors, encoder, STEPS)
    user_factors = solve_users(data.matrix, item_factors, encoder)
    reached = objective(data.matrix, user_factors, item_factors, encoder)
    return user_factors, item_factors, {"sweeps": sweeps, "sweeps_since_cold": sweeps, "objective": round(reached, 6)}


def _continue(
    data: UserItems, encoder: UserEncoder, cold: int, start: WarmStart
) -> tuple[Matrix, Matrix, dict[str, Any]]:
    course = start.model["course"]
    item_factors = start.factors_of(data.items)
    by_item = data.matrix.T.tocsr()
    user_factors = np.zeros((data.shape[0], encoder.columns), np.float32)
    half_sweep(data.matrix, user_factors, item_factors, encoder, STEPS_TO_START)
    sweeps, is_reached = 0, False
    while sweeps < cold and not is_reached:
        half_sweep(by_item, item_factors, user_factors, encoder, STEPS)
        user_factors = solve_users(data.matrix, item_factors, encoder)
        reached = objective(data.matrix, user_factors, item_factors, encoder)
        sweeps, is_reached = sweeps + 1, reached <= course["objective"] * (1 + SLACK)
    return (
        user_factors,
        item_factors,
        {
            "sweeps": sweeps,
            "sweeps_since_cold": course["sweeps_since_cold"] + sweeps,
            "sweeps_saved": cold - sweeps,
            "started_from": start.version,
            "objective_at_start": course["objective"],
            "objective": round(reached, 6),
        },
    )


def objective(entries: sparse.csr_matrix, users: Matrix, items: Matrix, encoder: UserEncoder) -> float:
    """What is minimized (see above), per unit of confidence: figures of one environment's trainings compare."""
    from recoflow.models.algorithms import kernels  # noqa: PLC0415 - numba is heavy

    def of_block(start: int) -> float:
        bounds = entries.indptr[start : start + BLOCK + 1]
        loss: float = kernels.observed_loss(bounds, entries.indices, entries.data, users[start : start + BLOCK], items)
        return loss

    with thread_pool() as threads:
        loss = sum(threads.map(of_block, range(0, len(users), BLOCK)))
        loss += encoder.alpha * float(np.vdot(gram(users, threads), gram(items, threads)))
    by_user, by_item = np.diff(entries.indptr), np.bincount(entries.indices, minlength=len(items))
    for factors, lengths, others in ((users, by_user, len(items)), (items, by_item, len(users))):
        scale = (lengths + encoder.alpha * others) ** encoder.exponent
        loss += encoder.regularization * float(scale @ np.einsum("ij,ij->i", factors, factors))
    return float(loss / entries.data.sum(dtype=np.float64))


def default_factors(data: UserItems) -> int:
    """About a factor per 60 rows of the smaller side, a power of 2 from 16 to 512."""
    return int(np.clip(2 ** np.round(np.log2(max(min(data.shape), 60) / 60)), 16, 512))
