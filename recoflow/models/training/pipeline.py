"""One environment's training from tables to a bundle: split, fit the candidates, judge, choose, refit on everything.

What belongs here: the order of the steps. What does not: the steps (arena, select, refit), and saving and promoting,
which the caller does with the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from recoflow.interactions import signature
from recoflow.models.algorithms import matrix, train
from recoflow.models.algorithms.warm_start import WarmStart
from recoflow.models.evaluation import evaluate, tables
from recoflow.models.evaluation.holdout import HoldOut
from recoflow.models.store.bundle import Bundle
from recoflow.models.store.bundle_store import model_spec
from recoflow.models.training import cold_items, evaluation_run, promotion_gate, refit, tune
from recoflow.models.training.evaluation_run import EvaluatedCandidate, EvaluationRun
from recoflow.models.training.promotion_gate import Decision
from recoflow.quality.finding import Finding
from recoflow.settings.environment import Environment

CHECKS = promotion_gate.SOUNDNESS | {
    "better_than_random": "the chosen candidate beats random lists on the hold-out",
    "not_worse_than_champion": "the chosen candidate is not worse than the model in service by more than the margin",
    "split_does_not_leak": "no training interaction is later than the hold-out",
    "final_model_sound": "the model trained on everything is finite and tells items apart",
    cold_items.CHECK: cold_items.PROMISE,
    refit.NAMED: refit.NAMED_PROMISE,
}


@dataclass(frozen=True)
class TrainingResult:
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
) -> TrainingResult:
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
    pairs = matrix.numbered_pairs(interactions)
    place = EvaluationRun.of(pairs, catalogue, environment)
    models = evaluation_run.candidate_models(environment)
    hold = place.hold_out()
    judged: dict[str, EvaluatedCandidate] = {}
    for name, model in models.items():
        on_step(f"choose settings, train and evaluate {name}")
        models[name] = tune.resolve_settings(model, hold, place.seed, {known: models[known] for known in judged})
        judged[name] = place.judge(name, models[name], is_fallback=name not in environment.training.models)
    on_step("evaluate random lists and the model in service, and decide")
    random = place.evaluate(evaluate.RandomScores(place.data.shape[1], place.seed))
    in_service = None if champion is None else evaluation_run.evaluate_model_in_service(champion, judged, place)
    decision = promotion_gate.decide(
        [each.candidate for each in judged.values()],
        random,
        in_service.candidate if in_service else None,
        margin=environment.training.margin,
        seed=place.seed,
        min_coverage=environment.quality.min_coverage,
        min_personalization=environment.quality.min_personalization,
    )
    findings = [evaluation_run.split_finding(place.parts, environment), *decision.findings]
    # What a leaking split says of the candidates is worth nothing, and the table behind it is damaged.
    chosen = decision.chosen if findings[0].passed else None
    entries = evaluation_run.evaluated_models(judged, in_service, random)
    metrics, segments = tables.metrics(entries), tables.segments(entries)
    bundle = None
    if chosen is not None:
        on_step(f"train {chosen} on everything")
        everything = refit.everything(pairs, catalogue)
        items = refit.all_items(catalogue, everything.items)
        starts = {name: _starts(each, champion) for name, each in judged.items()}
        scorer = train.train(everything, models[chosen], place.seed, starts[chosen])
        on_step("place new items")
        scorer, encoder, placed = cold_items.encode(scorer, everything, items, place.seed)
        findings += [refit.final_finding(scorer), placed]
        named = {name: models[name] for name in environment.named_models if name != chosen}
        alternatives, finding = refit.alternatives(named, everything, place.seed, starts, on_step)
        findings.append(finding)
        on_step("make the bundle")
        manifest = {
            "environment": environment.name,
            "as_of": as_of.isoformat(),
            "seed": place.seed,
            "model": {"name": chosen, "algorithm": models[chosen].algorithm, **model_spec(scorer)},
            "tables": dict(table_versions),
            "split": {"kind": place.parts.kind, "at": place.parts.at.isoformat() if place.parts.at else None},
            "metrics": metrics.drop("fit_seconds").to_dicts(),
            "segments": segments.to_dicts(),
            "refused_by": [each.check for each in findings if not each.passed and each.severity == "error"],
        }
        bundle = refit.bundle(
            scorer,
            everything,
            pairs,
            items,
            identity,
            signatures=signature.of_frame(interactions)["signature"].to_numpy(),
            alternatives=alternatives,
            encoder=encoder,
            manifest=manifest,
            as_of=as_of,
        )
    is_promoted = bundle is not None and promotion_gate.is_clear(findings)
    return TrainingResult(bundle, metrics, segments, tuple(findings), Decision(chosen, is_promoted, tuple(findings)))


def _starts(judged: EvaluatedCandidate, champion: Bundle | None) -> tuple[WarmStart, ...]:
    """Where a training on everything continues from: the model in service, or else what the hold-out taught."""
    starts = [None if champion is None else evaluation_run.start_of_bundle(champion), judged.start]
    return tuple(start for start in starts if start is not None)


def hold_out(interactions: pl.DataFrame, catalogue: pl.DataFrame, environment: Environment) -> HoldOut:
    """Where a training of these tables would choose its settings; a longer search is to judge them there too.

    Raises:
        ModelError: when there is nothing to learn from.
    """
    return EvaluationRun.of(matrix.numbered_pairs(interactions), catalogue, environment).hold_out()
