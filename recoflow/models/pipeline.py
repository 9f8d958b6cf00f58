"""One environment's training from tables to a bundle: split, fit the candidates, judge, choose, refit on everything.

What belongs here: the order of the steps and what a bundle is made of. What does not: saving and promoting, which the
caller does with the result.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from recoflow import schema
from recoflow.environment import Environment, Model
from recoflow.errors import ModelError
from recoflow.interactions import signature
from recoflow.models import cold, evaluate, holdout, matrix, select, split, tables, train, tune, warm
from recoflow.models.bundle import Bundle, recipe
from recoflow.models.evaluate import Evaluation
from recoflow.models.features import ItemEncoder
from recoflow.models.holdout import HoldOut
from recoflow.models.matrix import UserItems
from recoflow.models.scorer import Scorer
from recoflow.models.select import Candidate, Decision
from recoflow.models.split import Split
from recoflow.models.tables import Entry
from recoflow.quality.finding import Finding

BASELINE = "popular"
CHECKS = select.SOUNDNESS | {
    "better_than_random": "the chosen candidate beats random lists on the hold-out",
    "not_worse_than_champion": "the chosen candidate is not worse than the model in service by more than the margin",
    "split_does_not_leak": "no training interaction is later than the hold-out",
    "final_model_sound": "the model trained on everything is finite and tells items apart",
    cold.CHECK: cold.PROMISE,
    "named_models_sound": "every model that a configuration names is finite and tells items apart",
}


@dataclass(frozen=True)
class Training:
    """What a training gives.

    Attributes:
        bundle: the chosen model, trained on everything; None when no candidate is sound.
        metrics: tables.METRICS, one row per candidate, the model in service and the random baseline.
        segments: tables.SEGMENTS, the same models over cold, warm and heavy users.
        findings: the checks' results; the decision's are among them.
        decision: which candidate, and whether it may be promoted.
    """

    bundle: Bundle | None
    metrics: pl.DataFrame
    segments: pl.DataFrame
    findings: tuple[Finding, ...]
    decision: Decision


def train_environment(  # noqa: PLR0917 - everything that a training reads
    interactions: pl.DataFrame,
    catalogue: pl.DataFrame,
    identity: pl.DataFrame,
    environment: Environment,
    champion: Bundle | None,
    as_of: datetime,
    table_versions: Mapping[str, int | None],
    *,
    on_step: Callable[[str], None] = lambda _step: None,
) -> Training:
    """Train every model of the environment, and the popular baseline, and decide which one serves.

    The model in service is judged by its recipe (algorithm and settings) trained on the same split, because its own
    factors have seen the hold-out.

    Args:
        interactions: INTERACTIONS.
        catalogue: ITEMS.
        identity: IDENTITY.
        environment: settings.
        champion: the bundle in service.
        as_of: the training's time, aware, for the version.
        table_versions: versions of the tables that were read, for the manifest.
        on_step: told the name of each step as it begins.

    Raises:
        ModelError: when there is nothing to learn from.
    """
    arena = _Arena.of(interactions, catalogue, environment)
    models = _models(environment)
    hold = arena.hold_out()
    judged: dict[str, _Judged] = {}
    for name, model in models.items():
        on_step(f"choose settings, train and evaluate {name}")
        models[name] = tune.resolve(model, hold, arena.seed, {known: models[known] for known in judged})
        judged[name] = arena.judge(name, models[name], is_fallback=name not in environment.training.models)
    random = arena.evaluate(evaluate.RandomScores(arena.data.shape[1], environment.training.seed))
    in_service = None if champion is None else _in_service(champion, judged, arena)
    decision = select.decide(
        [each.candidate for each in judged.values()],
        random,
        in_service.candidate if in_service else None,
        margin=environment.training.margin,
        seed=arena.seed,
        min_coverage=environment.quality.min_coverage,
        min_personalization=environment.quality.min_personalization,
    )
    findings = [_split_finding(arena.parts, environment), *decision.findings]
    # What a leaking split says of the candidates is worth nothing, and the table behind it is damaged.
    chosen = decision.chosen if findings[0].passed else None
    entries = _entries(judged, in_service, random)
    metrics, segments = tables.metrics(entries), tables.segments(entries)
    bundle = None
    if chosen is not None:
        on_step(f"train {chosen} on everything")
        model = models[chosen]
        everything = _everything(interactions, catalogue)
        start = None if champion is None else warm.Start.of(champion)
        scorer = train.train(everything, model, environment.training.seed, start)
        scorer, encoder, placed = cold.encode(scorer, everything, _all_items(catalogue, everything.items), arena.seed)
        findings += [_final_finding(scorer), placed]
        named = [name for name in environment.named_models if name != decision.chosen]
        alternatives, finding = _alternatives({name: models[name] for name in named}, everything, arena.seed, on_step)
        findings.append(finding)
        manifest = {
            "environment": environment.name,
            "as_of": as_of.isoformat(),
            "seed": environment.training.seed,
            "model": {"name": chosen, "algorithm": model.algorithm, **recipe(scorer)},
            "tables": dict(table_versions),
            "split": {"kind": arena.parts.kind, "at": arena.parts.at.isoformat() if arena.parts.at else None},
            "metrics": metrics.drop("fit_seconds").to_dicts(),
            "segments": segments.to_dicts(),
            "refused_by": [each.check for each in findings if not each.passed and each.severity == "error"],
        }
        bundle = _bundle(
            scorer,
            everything,
            interactions,
            catalogue,
            identity,
            alternatives=alternatives,
            encoder=encoder,
            manifest=manifest,
            as_of=as_of,
        )
    is_promoted = bundle is not None and select.is_clear(findings)
    return Training(bundle, metrics, segments, tuple(findings), Decision(chosen, is_promoted, tuple(findings)))


def hold_out(interactions: pl.DataFrame, catalogue: pl.DataFrame, environment: Environment) -> HoldOut:
    """Where a training of these tables would choose its settings; a longer search is to judge them there too.

    Raises:
        ModelError: when there is nothing to learn from.
    """
    return _Arena.of(interactions, catalogue, environment).hold_out()


@dataclass(frozen=True)
class _Judged:
    candidate: Candidate
    parameters: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class _Arena:
    """Where candidates meet: the same training data, the same hold-out."""

    parts: Split
    data: UserItems
    test: sparse.csr_matrix
    k: int
    seed: int

    @classmethod
    def of(cls, interactions: pl.DataFrame, catalogue: pl.DataFrame, environment: Environment) -> _Arena:
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
        return holdout.hold_out(self.data, self.seed, is_temporal=self.parts.kind == "temporal")

    def judge(self, name: str, model: Model, *, is_fallback: bool = False) -> _Judged:
        started = time.perf_counter()
        scorer = train.train(self.data, model, self.seed)
        seconds = time.perf_counter() - started
        evaluation = self.evaluate(scorer) if scorer.is_finite() else None
        is_constant = evaluation is not None and scorer.is_constant()
        candidate = Candidate(name, model.algorithm, evaluation, is_constant, is_fallback)
        return _Judged(candidate, scorer.parameters, seconds)

    def evaluate(self, scorer: evaluate.Scores) -> Evaluation:
        return evaluate.evaluate(scorer, self.data.matrix, self.test, self.k, self.seed)


def _models(environment: Environment) -> dict[str, Model]:
    models = dict(environment.training.models)
    if all(model.algorithm != BASELINE for model in models.values()):
        models[BASELINE] = Model(algorithm=BASELINE)
    return models


def _in_service(champion: Bundle, judged: Mapping[str, _Judged], arena: _Arena) -> _Judged:
    recipe = champion.manifest["model"]
    for each in judged.values():
        if each.candidate.algorithm == recipe["algorithm"] and each.parameters == recipe["parameters"]:
            return each
    settings = {key: value for key, value in recipe["parameters"].items() if key in Model.model_fields}
    return arena.judge(recipe["name"], Model(algorithm=recipe["algorithm"], **settings))


def _split_finding(parts: Split, environment: Environment) -> Finding:
    leaks = parts.leaks()
    message = f"{parts.kind} split: {parts.train.height} pairs to learn from, {parts.test.height} to predict"
    if leaks:
        message += f", {leaks} of them on the wrong side; the table interactions is damaged: rebuild it"
    elif parts.kind != environment.training.split:
        message += f"; a {environment.training.split} split would have left too few users on both sides"
    metadata = {"kind": parts.kind, "at": str(parts.at), "leaking_pairs": leaks, "users": parts.warm_users()}
    return Finding("split_does_not_leak", passed=not leaks, message=message, metadata=metadata)


def _final_finding(scorer: Scorer) -> Finding:
    if not scorer.is_finite():
        message = "the model trained on everything holds NaN or infinity; look at its settings and data"
        return Finding("final_model_sound", passed=False, message=message)
    if scorer.is_constant():
        message = "the model trained on everything scores all items alike; look at its settings and data"
        return Finding("final_model_sound", passed=False, message=message)
    return Finding(
        "final_model_sound", passed=True, message="the model trained on everything is finite and tells items apart"
    )


def _alternatives(
    models: Mapping[str, Model], everything: UserItems, seed: int, on_step: Callable[[str], None]
) -> tuple[dict[str, Scorer], Finding]:
    """The models that lists may name beside the chosen one, trained on everything; degenerate ones are left out."""
    trained: dict[str, Scorer] = {}
    for name, model in models.items():
        on_step(f"train {name}, which a configuration names, on everything")
        scorer = train.train(everything, model, seed)
        if scorer.is_finite() and not scorer.is_constant():
            trained[name] = scorer
    check, missing = "named_models_sound", sorted(set(models) - set(trained))
    if not missing:
        return trained, Finding(check, passed=True, message=CHECKS[check])
    message = (
        f"{', '.join(missing)} cannot tell items apart, so lists that name them will be refused;"
        " look at their settings, or name another model in campaigns.configurations"
    )
    return trained, Finding(check, passed=False, message=message, severity="warn", metadata={"left_out": missing})


def _everything(interactions: pl.DataFrame, catalogue: pl.DataFrame) -> UserItems:
    items = matrix.ids(pl.concat([catalogue["item_id"], interactions["item_id"]]))
    subjects = matrix.ids(interactions["subject"])
    return matrix.from_interactions(interactions, subjects=subjects, items=items, catalogue=catalogue)


def _bundle(
    scorer: Scorer,
    data: UserItems,
    interactions: pl.DataFrame,
    catalogue: pl.DataFrame,
    identity: pl.DataFrame,
    *,
    alternatives: Mapping[str, Scorer],
    encoder: ItemEncoder | None,
    manifest: dict[str, Any],
    as_of: datetime,
) -> Bundle:
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(scorer.item_factors).data)
    seen = matrix.of_event_types(interactions, subjects=data.subjects, items=data.items)
    return Bundle(
        version=f"{as_of:%Y%m%dT%H%M%SZ}-{digest.hexdigest()[:8]}",
        subjects=data.subjects,
        items=_all_items(catalogue, data.items),
        user_factors=scorer.user_factors,
        item_factors=scorer.item_factors,
        seen_indptr=seen.indptr.astype(np.int64),
        seen_indices=seen.indices.astype(np.int32),
        seen_types=seen.data,
        popular=data.popularity(),
        trending=data.trend(),
        signatures=signature.of_frame(interactions)["signature"].to_numpy(),
        devices=identity,
        manifest=manifest,
        history=scorer.history,
        similarity=scorer.similarity,
        projection=scorer.projection,
        alternatives=alternatives,
        item_encoder=encoder,
    )


def _all_items(catalogue: pl.DataFrame, items: NDArray[np.str_]) -> pl.DataFrame:
    every = pl.DataFrame({"item_id": pl.Series(items.tolist(), dtype=pl.String)})
    joined = every.join(catalogue, on="item_id", how="left", maintain_order="left")
    filled = joined.with_columns(
        pl.col("is_enabled").fill_null(value=True),
        pl.col("is_available").fill_null(value=True),
        pl.col("attributes").fill_null("{}"),
    )
    return filled.select(schema.ITEMS.names()).cast(schema.ITEMS)


def _entries(judged: Mapping[str, _Judged], in_service: _Judged | None, random: Evaluation) -> list[Entry]:
    entries = [Entry(name, "candidate", each.candidate.evaluation, each.seconds) for name, each in judged.items()]
    if in_service is not None:
        candidate = in_service.candidate
        entries.append(Entry(candidate.name, "in service", candidate.evaluation, in_service.seconds))
    return [*entries, Entry("random", "baseline", random, 0.0)]
