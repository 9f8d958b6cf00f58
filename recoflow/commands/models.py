"""`recoflow models …`: the versions of an environment's model, for people."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recoflow.commands import terminal
from recoflow.commands.terminal import DATA, AsJson, Data, Name
from recoflow.errors import ModelError
from recoflow.models.store import bundle_store, version_summaries
from recoflow.storage.paths import Paths

if TYPE_CHECKING:
    from recoflow.models.store.version_summaries import VersionSummary
    from recoflow.models.store.versions import ServingState

app = typer.Typer(no_args_is_help=True, help="Versions of a model: look at them, compare, pin, and go back.")

METRICS = ("ndcg", "ndcg_low", "ndcg_high", "recall", "map", "hit_rate", "coverage", "novelty", "gini")
Version = Annotated[str, typer.Argument(help="As `recoflow models list` shows it.")]
IsForced = Annotated[bool, typer.Option("--force", help="Serve it though its own checks refused it.")]


@app.command("list")
def show(environment: Name, is_json: AsJson = False, data: Data = DATA) -> None:
    """Every version, named by its time of training: how it was judged, and what became of it. The latest first."""

    folder = _folder(environment, data)
    found = version_summaries.version_summaries(folder)[::-1]
    service, problem = _service(folder)
    if is_json:
        state = None if service is None else dataclasses.asdict(service)
        shown = [dataclasses.asdict(each) for each in found]
        terminal.print_json({"service": state, "problem": problem and str(problem), "versions": shown})
        return
    if not found:
        terminal.console.print(f"{environment} has no model yet: materialize its factors.")
        return
    columns = ("version", "model", "state", "NDCG", "recall", "coverage")
    rows = [_row(each, service) for each in found]
    terminal.table(f"Models of {environment}", rows, columns, whole=columns[:1])
    if problem is not None:
        raise problem


@app.command()
def compare(  # noqa: PLR0917 - typer makes options of them
    first: Version,
    second: Version,
    environment: Name,
    users: Annotated[int, typer.Option(min=1, help="People whose lists are compared.")] = 1000,
    is_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Two versions side by side: settings, metrics, and how alike the lists are that they give to the same people."""
    from recoflow.models.evaluation import compare

    folder, settings = _folder(environment, data), terminal.environment_of(environment, data)
    ours, theirs = bundle_store.load_bundle(folder / first), bundle_store.load_bundle(folder / second)
    overlap = compare.overlap(ours, theirs, settings.training.seed, users=users)
    entries = [version_summaries.version_summary(folder, version) for version in (first, second)]
    if is_json:
        told = {"versions": [dataclasses.asdict(each) for each in entries], "overlap": dataclasses.asdict(overlap)}
        terminal.print_json(told)
        return
    columns = ("", first, second)
    terminal.table("Settings", _side_by_side([_settings(each) for each in entries]), columns)
    terminal.table("As judged before it served", _side_by_side([_metrics(each) for each in entries]), columns)
    terminal.table("NDCG by kind of user", _side_by_side([_segments(each) for each in entries]), columns)
    terminal.console.print(
        f"Top {overlap.k} of {overlap.users:,} people whom both know: {overlap.shared:.0%} of the items are the same, "
        f"{overlap.same_first:.0%} of the first places; {overlap.items[0]:,} and {overlap.items[1]:,} different items."
    )


@app.command()
def pin(
    environment: Name,
    version: Annotated[str | None, typer.Argument(help="The champion unless told.")] = None,
    is_forced: IsForced = False,
    data: Data = DATA,
) -> None:
    """Keep a version in service: trainings go on and are judged, but none replaces it until `unpin`."""
    from recoflow.models.store import versions

    service = versions.pin_version(_folder(environment, data), version, is_forced=is_forced)
    terminal.console.print(f"{service.version} serves and is pinned; candidates are trained, judged and wait.")


@app.command()
def unpin(environment: Name, data: Data = DATA) -> None:
    """Let the next training that passes its checks replace the champion again."""
    from recoflow.models.store import versions

    service = versions.unpin(_folder(environment, data))
    terminal.console.print(f"{service.version} serves until a training passes its checks.")


@app.command()
def rollback(
    environment: Name,
    version: Annotated[str | None, typer.Argument(help="The one that served before, unless told.")] = None,
    is_forced: IsForced = False,
    data: Data = DATA,
) -> None:
    """Put an earlier version in service again, after its files were read whole; campaigns use it from now on."""
    from recoflow.models.store import versions

    service = versions.roll_back(_folder(environment, data), version, is_forced=is_forced)
    terminal.console.print(
        f"{service.version} serves. The next training may replace it: `recoflow models pin` keeps it."
    )


def _folder(environment: str, data: Path) -> Path:
    terminal.environment_of(environment, data)
    return Paths(data).models(environment)


def _service(folder: Path) -> tuple[ServingState | None, ModelError | None]:
    """Which version serves, or why that cannot be told: people look at the list to mend just that."""
    from recoflow.models.store import versions

    try:
        return versions.serving_state(folder), None
    except ModelError as error:
        return None, error


def _row(entry: VersionSummary, service: ServingState | None) -> tuple[object, ...]:
    metrics = entry.metrics
    ndcg, recall, coverage = (_number(metrics.get(name)) for name in ("ndcg", "recall", "coverage"))
    if metrics.get("ndcg_low") is not None:
        ndcg = f"{ndcg} ({metrics['ndcg_low']:.4f} … {metrics['ndcg_high']:.4f})"
    return (entry.version, _called(entry), _state(entry, service), ndcg, recall, coverage)


def _called(entry: VersionSummary) -> str:
    name, algorithm = entry.model.get("name", ""), entry.model.get("algorithm", "")
    return name if name == algorithm else f"{name} ({algorithm})"


def _state(entry: VersionSummary, service: ServingState | None) -> str:
    states = []
    if service is not None and service.version == entry.version:
        states.append("in service, pinned" if service.is_pinned else "in service")
    elif service is not None and entry.version in service.before[:1]:
        states.append("served before")
    if entry.refused_by:
        states.append(f"refused by {', '.join(entry.refused_by)}")
    if entry.problem:
        states.append(f"damaged: {entry.problem}")
    return "; ".join(states)


def _settings(entry: VersionSummary) -> dict[str, Any]:
    recipe = {"name": entry.model.get("name"), "algorithm": entry.model.get("algorithm")}
    trained = {"trained at": entry.trained_at}
    return recipe | {key: _number(value) for key, value in entry.model.get("parameters", {}).items()} | trained


def _metrics(entry: VersionSummary) -> dict[str, Any]:
    first = [name for name in METRICS if name in entry.metrics]
    others = [name for name in entry.metrics if name not in {*METRICS, "model", "role"}]
    return {name: _number(entry.metrics[name]) for name in (*first, *others)}


def _segments(entry: VersionSummary) -> dict[str, Any]:
    return {
        row["segment"]: f"{row['ndcg']:.4f} ({row['ndcg_low']:.4f} … {row['ndcg_high']:.4f}, {row['users']:,} users)"
        for row in entry.segments
    }


def _side_by_side(columns: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    names = dict.fromkeys(name for column in columns for name in column)
    return [(name, *(column.get(name) for column in columns)) for name in names]


def _number(value: object) -> object:
    return f"{value:.4f}" if isinstance(value, float) else value
