"""Where candidates meet: the same training data, the same hold-out, the same people who judge.

What belongs here: the outer split of one environment, fitting and evaluating models on it. What does not: the choice
among them (select), and the training on everything that follows (refit).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from recoflow.errors import ModelError
from recoflow.models.algorithms import matrix, train
from recoflow.models.algorithms.matrix import UserItems
from recoflow.models.algorithms.scorer import Scorer
from recoflow.models.algorithms.warm_start import WarmStart
from recoflow.models.evaluation import evaluate, holdout, split
from recoflow.models.evaluation.evaluate import Evaluation
from recoflow.models.evaluation.holdout import HoldOut
from recoflow.models.evaluation.split import Split
from recoflow.models.evaluation.tables import EvaluatedModel
from recoflow.models.store.bundle import Bundle
from recoflow.models.training.promotion_gate import Candidate
from recoflow.quality.finding import Finding
from recoflow.settings.environment import Environment
from recoflow.settings.sections import Model

BASELINE = "popular"
HOLD_OUT = "hold-out"  # the name of a warm start that was learned on the hold-out
NEW = 0.02  # of the interactions with items unknown so far: with more, one learns better from nothing


@dataclass(frozen=True)
class EvaluatedCandidate:
    """A model that was fitted and evaluated; `start` is where the same model may continue from, if it may."""

    candidate: Candidate
    parameters: dict[str, Any]
    seconds: float
    start: WarmStart | None


@dataclass(frozen=True)
class EvaluationRun:
    """A split with its matrices: `test` has the rows and columns of `data`, and lists have `k` items."""

    parts: Split
    data: UserItems
    test: sparse.csr_matrix
    k: int
    seed: int

    @classmethod
    def of(cls, interactions: pl.DataFrame, catalogue: pl.DataFrame, environment: Environment) -> EvaluationRun:
        """Split the interactions as the environment wants it.

        Raises:
            ModelError: when there is nothing to learn from.
        """
        settings = environment.training
        parts = split.usable(interactions, settings.split, settings.holdout, settings.seed)
        items = matrix.ids(interactions.filter(pl.col("weight") > 0)["item_id"])
        data = matrix.from_interactions(parts.train, items=items, catalogue=catalogue)
        if not data.matrix.nnz:
            raise ModelError(
                "interactions", "hold no positive weight to train on", "Ingest events, or mend events.weights"
            )
        test = matrix.from_interactions(parts.test, subjects=data.subjects, items=items).matrix
        return cls(parts, data, test, settings.k, settings.seed)

    def hold_out(self) -> HoldOut:
        """A hold-out inside the training data, to choose settings on."""
        return holdout.hold_out(self.data, self.seed, is_temporal=self.parts.kind == "temporal")

    def knows_items(self) -> bool:
        """Whether hardly any interaction is with an item that only the hold-out has: what is learned here lasts."""
        new = self.data.popularity()[self.test.indices] == 0
        return bool(new.sum() <= NEW * (self.data.matrix.nnz + self.test.nnz))

    def judge(self, name: str, model: Model, *, is_fallback: bool = False) -> EvaluatedCandidate:
        """Fit a model and evaluate it, unless its numbers are not finite."""
        started = time.perf_counter()
        scorer = train.train(self.data, model, self.seed)
        seconds = time.perf_counter() - started
        evaluation = self.evaluate(scorer) if scorer.is_finite() else None
        is_constant = evaluation is not None and scorer.is_constant()
        candidate = Candidate(name, model.algorithm, evaluation, is_constant, is_fallback)
        start = start_of_hold_out(scorer, model.algorithm, self.data.items) if self.knows_items() else None
        return EvaluatedCandidate(candidate, scorer.parameters, seconds, start)

    def evaluate(self, scorer: evaluate.Scores) -> Evaluation:
        """Its metrics on the hold-out."""
        return evaluate.evaluate(scorer, self.data.matrix, self.test, self.k, self.seed)


def start_of_hold_out(scorer: Scorer, algorithm: str, items: NDArray[np.str_]) -> WarmStart:
    """The same model as a training on everything is about to learn, from its evaluation on the hold-out."""
    model = {"algorithm": algorithm, "parameters": scorer.parameters, "course": scorer.course}
    return WarmStart(HOLD_OUT, items, scorer.item_factors, model, scorer.encoders)


def start_of_bundle(bundle: Bundle) -> WarmStart:
    """A training that continues from a bundle's model."""
    items = np.array(bundle.items["item_id"].to_list(), np.str_)
    return WarmStart(bundle.version, items, bundle.item_factors, bundle.manifest["model"], bundle.scorer.encoders)


def candidate_models(environment: Environment) -> dict[str, Model]:
    """The environment's models and, when it names none, the popular baseline."""
    models = dict(environment.training.models)
    if all(model.algorithm != BASELINE for model in models.values()):
        models[BASELINE] = Model(algorithm=BASELINE)
    return models


def evaluate_model_in_service(
    champion: Bundle, judged: Mapping[str, EvaluatedCandidate], arena: EvaluationRun
) -> EvaluatedCandidate:
    """The recipe of the model in service on this split; that of an equal candidate where there is one."""
    recipe = champion.manifest["model"]
    for each in judged.values():
        if each.candidate.algorithm == recipe["algorithm"] and each.parameters == recipe["parameters"]:
            return each
    settings = {key: value for key, value in recipe["parameters"].items() if key in Model.model_fields}
    return arena.judge(recipe["name"], Model(algorithm=recipe["algorithm"], **settings))


def split_finding(parts: Split, environment: Environment) -> Finding:
    """Whether the split leaks, and how it came about."""
    leaks = parts.leaks()
    message = f"{parts.kind} split: {parts.train.height} pairs to learn from, {parts.test.height} to predict"
    if leaks:
        message += f", {leaks} of them on the wrong side; the table interactions is damaged: rebuild it"
    elif parts.kind != environment.training.split:
        message += f"; a {environment.training.split} split would have left too few users on both sides"
    metadata = {"kind": parts.kind, "at": str(parts.at), "leaking_pairs": leaks, "users": parts.warm_users()}
    return Finding("split_does_not_leak", passed=not leaks, message=message, metadata=metadata)


def evaluated_models(
    judged: Mapping[str, EvaluatedCandidate], champion: EvaluatedCandidate | None, random: Evaluation
) -> list[EvaluatedModel]:
    """What the tables of a training show."""
    found = [
        EvaluatedModel(name, "candidate", each.candidate.evaluation, each.seconds) for name, each in judged.items()
    ]
    if champion is not None:
        candidate = champion.candidate
        found.append(EvaluatedModel(candidate.name, "in service", candidate.evaluation, champion.seconds))
    return [*found, EvaluatedModel("random", "baseline", random, 0.0)]
