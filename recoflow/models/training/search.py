"""The long search for a model's settings, with a budget: `recoflow tune`. Needs the extra `tune` (optuna).

What belongs here: which settings may be searched, and the search. What does not: the short choice in every training,
and how settings are judged (see `tune` and `holdout`: both judge alike).

Settings come from tree-structured Parzen estimators (Bergstra et al. 2011, "Algorithms for Hyper-Parameter
Optimization", NIPS). Each trial is judged on a few users first, and given up when it is not among the best third
(successive halving: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", MLSys).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from recoflow.errors import ConfigurationError, ModelError
from recoflow.models.algorithms import train
from recoflow.models.evaluation import holdout
from recoflow.models.evaluation.holdout import HoldOut
from recoflow.models.training import tune
from recoflow.settings.sections import Model

if TYPE_CHECKING:
    import optuna

KEEP: Final = 3  # one trial in so many goes on to three times the users
SMALLEST: Final = 1000  # users that a trial begins with: fewer tell nothing
BEST_BEFORE: Final = 3  # of an earlier search on other data, tried again first


@dataclass(frozen=True)
class Range:
    """What a setting may be, both ends included; `is_log`: in steps of the same ratio."""

    name: str
    low: float
    high: float
    is_log: bool = True
    is_integer: bool = False


FACTORS: Final = Range("factors", 16, 512, is_integer=True)
ITERATIONS: Final = Range("iterations", 3, 30, is_integer=True)
SPACES: Final[Mapping[str, tuple[Range, ...]]] = {
    "als": (
        FACTORS,
        ITERATIONS,
        Range("alpha", 1, 300),
        Range("regularization", 1e-4, 0.1),
        Range("exponent", 0, 1.5, is_log=False),
    ),
    "bpr": (FACTORS, Range("iterations", 20, 300, is_integer=True), Range("regularization", 1e-4, 1)),
    "lmf": (FACTORS, Range("iterations", 10, 100, is_integer=True), Range("regularization", 0.01, 10)),
    "item_neighbours": (Range("neighbours", 5, 1000, is_integer=True),),
    "ease": (Range("regularization", 0.01, 20),),
    "spectral": (
        Range("factors", 16, 1024, is_integer=True),
        Range("exponent", 0.1, 0.8, is_log=False),
        Range("regularization", 0.01, 10),
    ),
}


@dataclass(frozen=True)
class Result:
    """What a search found for one model.

    Attributes:
        before: the settings that a training would use today, chosen ones among them.
        after: the best settings of the search; `before` when none was better by more than the noise (`tune.GAIN`).
        ndcg_before: NDCG@20 of both on the whole hold-out.
        ndcg_after: likewise.
        trials: finished on all users, in this and earlier searches on the same data.
        given_up: stopped early.
        is_interrupted: by Ctrl-C, before the budget was spent.
    """

    model: str
    before: dict[str, Any]
    after: dict[str, Any]
    ndcg_before: float
    ndcg_after: float
    trials: int
    given_up: int
    is_interrupted: bool

    @property
    def is_better(self) -> bool:
        """Whether the search found something."""
        return self.after != self.before


def require() -> None:
    """Fail early without the extra.

    Raises:
        ConfigurationError: optuna is not installed.
    """
    try:
        import optuna  # noqa: F401, PLC0415 - an extra, and heavy
    except ImportError:
        raise ConfigurationError("recoflow tune", "needs optuna", 'pip install "recoflow[tune]"') from None


def search_settings(
    name: str,
    model: Model,
    hold: HoldOut,
    seed: int,
    journal: Path,
    *,
    trials: int | None = None,
    seconds: float | None = None,
    smallest: int = SMALLEST,
    on_trial: Callable[[float], None] = lambda _best: None,
) -> Result:
    """Search settings for one model until the budget is spent or Ctrl-C comes; what was found is kept in both cases.

    The same data, seed and number of trials give the same settings, when the journal is new. A journal of the same data
    continues; of other data, the best settings are tried again first.

    Args:
        name: as the environment calls the model.
        model: of an algorithm in SPACES, with its present settings: the search begins with them.
        hold: where settings are judged.
        seed: of the search and of all trainings.
        journal: a file that keeps every trial.
        trials: how many at most.
        seconds: for how long at most; the trial at the end of it is finished.
        smallest: users that a trial is at least judged on.
        on_trial: told the best NDCG after each trial.

    Raises:
        ModelError: when nobody can be judged.
    """
    if not len(hold.judged):
        raise ModelError("interactions", "leave nobody to judge settings on", "Ingest more events first")
    resolved = tune.resolve_settings(model, hold, seed, {})
    scorer = train.train(hold.data, resolved, seed)
    before = {each.name: scorer.parameters[each.name] for each in SPACES[model.algorithm]}
    ndcg_before = hold.ndcg(scorer) if scorer.is_finite() else -1.0
    ranges = [_widened(_capped(each, hold), before[each.name]) for each in SPACES[model.algorithm]]
    rungs = _rungs(hold, seed, smallest)

    def objective(trial: optuna.Trial) -> float:
        import optuna  # noqa: PLC0415 - an extra, and heavy

        settings = {each.name: _suggested(trial, each) for each in ranges}
        reached = -1.0
        for step, rung in enumerate(rungs):
            reached = tune.ndcg(model.model_copy(update=settings), rung, seed)
            trial.report(reached, KEEP**step)
            if reached < 0 or (step + 1 < len(rungs) and trial.should_prune()):
                raise optuna.TrialPruned
        trial.set_user_attr("settings", settings)
        return reached

    study = _study(f"{name}/{model.algorithm}", hold, seed, journal, before)
    is_interrupted = False
    try:
        study.optimize(objective, trials, seconds, callbacks=[lambda study, _trial: on_trial(_best(study)[0])])
    except KeyboardInterrupt:
        is_interrupted = True
    ndcg_after, after = _best(study)
    if ndcg_after <= max(ndcg_before, 0.0) * (1 + tune.GAIN):
        ndcg_after, after = ndcg_before, before
    states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
    finished, given_up = states.count("COMPLETE"), states.count("PRUNED")
    return Result(name, before, after, ndcg_before, ndcg_after, finished, given_up, is_interrupted)


def _rungs(hold: HoldOut, seed: int, smallest: int) -> list[HoldOut]:
    """The hold-out with ever more users, all of them last."""
    users = hold.data.shape[0]
    sizes = [size for size in (users // KEEP**2, users // KEEP) if size >= smallest]
    return [*(holdout.sample(hold, size, seed) for size in sizes), hold]


def _capped(allowed: Range, hold: HoldOut) -> Range:
    """More factors than half the smaller side of the matrix only learn it by heart."""
    if allowed.name != "factors":
        return allowed
    return replace(allowed, high=min(allowed.high, max(allowed.low, min(hold.data.shape) // 2)))


def _widened(allowed: Range, value: float) -> Range:
    """The range with the present value in it, where a logarithm allows that."""
    if allowed.is_log and value <= 0:
        return allowed
    return replace(allowed, low=min(allowed.low, value), high=max(allowed.high, value))


def _suggested(trial: optuna.Trial, allowed: Range) -> float:
    if allowed.is_integer:
        return trial.suggest_int(allowed.name, int(allowed.low), int(allowed.high), log=allowed.is_log)
    # Three digits tell settings apart, and are what stands in the YAML.
    return float(f"{trial.suggest_float(allowed.name, allowed.low, allowed.high, log=allowed.is_log):.3g}")


def _study(model: str, hold: HoldOut, seed: int, journal: Path, before: Mapping[str, Any]) -> optuna.Study:
    import optuna  # noqa: PLC0415 - an extra, and heavy
    from optuna.storages.journal import JournalFileBackend  # noqa: PLC0415

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journal.parent.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    name = f"{model}/{_fingerprint(hold, seed)}"
    known = optuna.get_all_study_names(storage)
    earlier = [other for other in known if other.startswith(f"{model}/") and other != name]
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=KEEP),
    )
    # A search that continues must not draw what the last one drew.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    if name not in known:
        study.enqueue_trial({key: value for key, value in before.items() if value > 0})
        for settings in _best_settings(optuna.load_study(study_name=earlier[-1], storage=storage)) if earlier else ():
            study.enqueue_trial(settings)
    return study


def _best_settings(study: optuna.Study) -> list[dict[str, Any]]:
    finished = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    return [trial.params for trial in sorted(finished, key=lambda each: -float(each.value or 0))[:BEST_BEFORE]]


def _best(study: optuna.Study) -> tuple[float, dict[str, Any]]:
    """NDCG and settings of the best trial; the first of equals, −1 when none was finished."""
    finished = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    best = max(finished, key=lambda each: float(each.value or 0), default=None)
    return (-1.0, {}) if best is None else (float(best.value or 0), best.user_attrs["settings"])


def _fingerprint(hold: HoldOut, seed: int) -> str:
    """Of everything that a trial's value depends on beside its settings."""
    digest = hashlib.sha256(f"{seed} {hold.data.shape}".encode())
    for matrix in (hold.data.matrix, hold.test):
        for part in (matrix.indptr, matrix.indices, matrix.data):
            digest.update(part.data)
    digest.update(hold.judged.data)
    return digest.hexdigest()[:12]
