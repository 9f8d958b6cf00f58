"""Assets of the models stage: a candidate bundle with its evaluation, then the champion that answers campaigns.

Two assets on purpose: the checks of `factors` are the signal, the refusal in `champion` is the gate, because a blocking
check blocks only inside its own run.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from recoflow.defs import metadata, names
from recoflow.defs.clock import now
from recoflow.defs.resources import Installation
from recoflow.errors import AuditError, ModelError
from recoflow.models.evaluation import charts
from recoflow.models.store import bundle_store, version_summaries, versions
from recoflow.models.store.bundle import Bundle
from recoflow.models.training import pipeline
from recoflow.quality.finding import Finding
from recoflow.settings.environment import Environment

FIRST = ("model", "role", "ndcg", "ndcg_low", "ndcg_high")  # columns that a narrow window shows
PLOTTED = ("recall", "ndcg", "hit_rate", "coverage")
SHOWN = 12  # versions in the picture
SERVICE = {"candidate_serves": "the candidate that passed its checks serves; while a version is pinned, it waits"}
TRAINED_ON = ("interactions", "items", "identity")


def build_assets(environment: Environment) -> list[dg.AssetsDefinition]:
    """`factors` and `champion` of one environment."""
    return [_factors(environment), _champion(environment)]


def _factors(environment: Environment) -> dg.AssetsDefinition:
    key = names.asset_key(environment, "factors")

    @dg.asset(
        key=key,
        deps=[names.asset_key(environment, name) for name in TRAINED_ON],
        description="The candidate that is best on the hold-out, refitted on everything; it does not serve.",
        check_specs=metadata.check_specs(key, pipeline.CHECKS),
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=36)),
        pool="training",
        **names.common_spec_args(environment, "models", {"python", "numpy"}),
    )
    def factors(context: dg.AssetExecutionContext, installation: Installation) -> dg.MaterializeResult:
        lake = installation.lake(environment)
        folder = installation.layout.models(environment.name)
        versions.check_clock(folder, moment := now())
        tables = {name: lake.version(name) for name in TRAINED_ON}
        training = pipeline.train_environment(
            lake.scan("interactions", version=tables["interactions"]).collect(),
            lake.scan("items", version=tables["items"]).collect(),
            lake.scan("identity", version=tables["identity"]).collect(),
            installation.effective(environment),
            champion=_in_service(folder, context.log.warning),
            as_of=moment,
            table_versions=tables,
            on_step=context.log.info,
        )
        if training.bundle is not None:
            bundle_store.save_bundle(training.bundle, folder / training.bundle.version)
        chosen = training.decision.chosen or "none"
        about = {"model": chosen, "model_version": training.bundle.version if training.bundle else "none"}
        return dg.MaterializeResult(
            metadata={
                **about,
                "quality": metadata.picture(
                    charts.candidates_chart(
                        training.metrics,
                        training.decision.chosen,
                        [name for finding in training.findings for name in finding.metadata.get("refused", ())],
                        environment.training.margin,
                    ),
                    "NDCG of the candidates",
                ),
                "candidates": metadata.table(training.metrics.select(*FIRST, pl.exclude(FIRST)).to_dicts()),
                **_numbers(training.metrics, chosen),
                "segments": metadata.table(training.segments.to_dicts()),
                "course": training.bundle.manifest["model"]["course"] if training.bundle else {},
                "table_versions": tables,
            },
            check_results=metadata.check_results(training.findings, pipeline.CHECKS, key, about),
        )

    return factors


def _in_service(folder: Path, warn: Callable[[str], None]) -> Bundle | None:
    """The model to beat. Where none can be read, that is no obstacle to its replacement."""
    try:
        serving = versions.serving_bundle(folder)
    except ModelError as error:
        warn(str(error))
        return None
    if serving is None:
        return None
    bundle, fault = serving
    if fault is not None:
        warn(f"{fault} It is compared with {bundle.version}.")
    return bundle


def _champion(environment: Environment) -> dg.AssetsDefinition:
    key = names.asset_key(environment, "champion")

    @dg.asset(
        key=key,
        deps=[names.asset_key(environment, "factors")],
        description="The bundle that answers campaigns; its files and its decision are read again before it serves.",
        check_specs=metadata.check_specs(key, SERVICE, warn=SERVICE),
        **names.common_spec_args(environment, "models", {"python", "numpy"}),
    )
    def champion(context: dg.AssetExecutionContext, installation: Installation) -> dg.MaterializeResult:
        folder = installation.layout.models(environment.name)
        candidate = _promotable(folder)
        pinned = _pinned(folder)
        serving = pinned or versions.promote(folder, candidate)
        waiting = _waiting(serving.version, candidate)
        if not waiting.passed:
            context.log.warning(waiting.message)
        removed = versions.prune(folder, environment.training.keep_versions)
        about: dict[str, str | bool] = {"model_version": serving.version, "is_pinned": pinned is not None}
        return dg.MaterializeResult(
            metadata={
                **about,
                "model": serving.manifest["model"],
                "metrics": metadata.table(serving.manifest["metrics"]),
                "versions": metadata.picture(
                    charts.versions(
                        version_summaries.version_summaries(folder)[-SHOWN:], versions.serving_state(folder)
                    ),
                    "NDCG of the last versions",
                ),
                **_served(version_summaries.version_summary(folder, serving.version)),
                "path": dg.MetadataValue.path(str(folder / serving.version)),
                "removed_versions": removed,
            },
            check_results=metadata.check_results([waiting], SERVICE, key, about),
        )

    return champion


def _promotable(folder: Path) -> str:
    """The newest version, unless its own checks refused it."""
    known = version_summaries.known_versions(folder)
    if not known:
        raise AuditError(str(folder), "holds no bundle", "Materialize factors first")
    refused_by = bundle_store.load_bundle(folder / known[-1]).manifest["refused_by"]
    if refused_by:
        problem = f"was refused by {', '.join(refused_by)}"
        raise AuditError(f"model version {known[-1]}", problem, "See the checks of factors; the old model goes on")
    return known[-1]


def _pinned(folder: Path) -> Bundle | None:
    """The champion when a person pinned it."""
    service = versions.serving_state(folder)
    return bundle_store.load_bundle(folder / service.version) if service is not None and service.is_pinned else None


def _waiting(serving: str, candidate: str) -> Finding:
    check = "candidate_serves"
    if serving == candidate:
        return Finding(check, passed=True, message=f"{candidate} serves")
    message = (
        f"{serving} is pinned and goes on serving; {candidate} passed its checks and waits for `recoflow models unpin`"
    )
    return Finding(check, passed=False, message=message, severity="warn", metadata={"waiting_version": candidate})


def _numbers(metrics: pl.DataFrame, chosen: str) -> dict[str, float]:
    """What Dagster plots over time: the chosen model's metrics, and those of each candidate under its name."""
    candidates = list(metrics.filter(role="candidate").iter_rows(named=True))
    best = [_plotted(row) for row in candidates if row["model"] == chosen]
    named = [{f"{row['model']}.{name}": value for name, value in _plotted(row).items()} for row in candidates]
    return {name: value for numbers in (*best, *named) for name, value in numbers.items()}


def _served(entry: version_summaries.VersionSummary) -> dict[str, float]:
    interval = {name: entry.metrics[name] for name in ("ndcg_low", "ndcg_high") if name in entry.metrics}
    return _plotted(entry.metrics) | interval


def _plotted(row: Mapping[str, Any]) -> dict[str, float]:
    return {f"{name}_at_{row['k']}": row[name] for name in PLOTTED if row.get(name) is not None}
