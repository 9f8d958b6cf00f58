"""`recoflow tune`: better settings for an environment's models, as a table and as lines of its YAML."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from recoflow.commands import terminal
from recoflow.commands.terminal import DATA, AsJson, Data
from recoflow.errors import ConfigurationError
from recoflow.storage.paths import Paths

if TYPE_CHECKING:
    from recoflow.models.training.search import Result
    from recoflow.settings.environment import Environment

MODELS = ("training", "models")
COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def tune(  # noqa: PLR0917 - typer makes options of them
    environment: Annotated[str, typer.Argument(help="Name of the environment.")],
    minutes: Annotated[float, typer.Option(min=0.0, help="For how long, shared by the models.")] = 10.0,
    trials: Annotated[
        int | None, typer.Option(min=1, help="So many trials of each model instead: the same settings every time.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model of training.models. Repeatable.")] = None,
    is_written: Annotated[bool, typer.Option("--write", help="Change the environment's YAML, comments kept.")] = False,
    is_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Search better settings for models, on the hold-out that trainings choose on. Needs the extra `tune`.

    Ctrl-C ends the search and keeps what was found; the next one on the same data continues it.
    """
    from recoflow.models.training import pipeline, search
    from recoflow.storage.lake.lake import Lake

    search.require()
    layout, settings = Paths(data), terminal.environment_of(environment, data)
    names = _tunable(settings, model)
    lake = Lake(layout.lake(environment))
    interactions, items = lake.scan("interactions").collect(), lake.scan("items").collect()
    hold = pipeline.hold_out(interactions, items, settings)
    found: list[Result] = []
    end = time.monotonic() + minutes * 60
    for number, name in enumerate(names):
        seconds = None if trials else max(1.0, (end - time.monotonic()) / (len(names) - number))
        with _searching(name, trials, seconds) as on_trial:
            result = search.search_settings(
                name,
                settings.training.models[name],
                hold,
                settings.training.seed,
                layout.tuning(environment),
                trials=trials,
                seconds=seconds,
                on_trial=on_trial,
            )
        found.append(result)
        if result.is_interrupted:
            break
    path = layout.environments / f"{environment}.yaml"
    text = path.read_text(encoding="utf-8")
    changed = _changed(path, text, settings, found)
    if is_json:
        terminal.print_json({"models": [dataclasses.asdict(each) for each in found]})
    else:
        _show(found)
        _show_difference(path, text, changed)
    if is_written and changed != text:
        from recoflow.storage.atomic_files import write_atomic

        write_atomic(path, changed.encode())
        terminal.errors.print(f"{path} is changed; the next training uses it.", markup=False)


def _tunable(settings: Environment, wanted: Sequence[str] | None) -> list[str]:
    from recoflow.models.training.search import SPACES

    models = settings.training.models
    names = [name for name, model in models.items() if model.algorithm in SPACES]
    for name in wanted or ():
        if name not in names:
            known = ", ".join(names) or "none"
            raise ConfigurationError(f"--model {name}", "is no model with settings to search", f"There is {known}")
    if not names:
        algorithms = ", ".join(SPACES)
        raise ConfigurationError("training.models", "has nothing to search", f"Add a model of one of {algorithms}")
    return [name for name in names if not wanted or name in wanted]


@contextlib.contextmanager
def _searching(name: str, trials: int | None, seconds: float | None) -> Iterator[Callable[[float], None]]:
    """A progress bar on standard error: trials, or the time that is spent of the budget."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[trials]} trials, best {task.fields[best]}"),
        TimeElapsedColumn(),
    )
    start = time.monotonic()
    with Progress(
        *columns, console=terminal.errors, transient=True, disable=not terminal.errors.is_terminal
    ) as progress:
        task = progress.add_task(escape(name), total=trials or seconds, trials=0, best="…")

        def on_trial(best: float) -> None:
            done = progress.tasks[0].fields["trials"] + 1
            spent = done if trials else time.monotonic() - start
            progress.update(task, completed=spent, trials=done, best=f"{best:.4f}" if best >= 0 else "…")

        yield on_trial


def _changed(path: Path, text: str, settings: Environment, found: Sequence[Result]) -> str:
    """The environment's file with the settings that were found.

    Raises:
        ConfigurationError: they cannot be set in place without changing something else; the lines are in the cure.
    """
    from recoflow.settings import environment, yaml_source

    better = {each.model: each.after for each in found if each.is_better}
    changed, models = text, dict(settings.training.models)
    with contextlib.suppress(KeyError):
        for name, after in better.items():
            changed = yaml_source.with_values(changed, (*MODELS, name), after)
            models[name] = models[name].model_copy(update=after)
        wanted = settings.model_copy(update={"training": settings.training.model_copy(update={"models": models})})
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            copy.write_text(changed, encoding="utf-8")
            if environment.load_environment(copy) == wanted:
                return changed
    lines = "; ".join(f"{name}: {after}" for name, after in better.items())
    raise ConfigurationError(f"{path}: training.models", "cannot be changed in place", f"Write it yourself: {lines}")


def _show(found: Sequence[Result]) -> None:
    rows = [
        (
            each.model,
            f"{each.ndcg_before:.4f}",
            f"{each.ndcg_after:.4f}",
            each.trials,
            each.given_up,
            _difference(each) if each.is_better else "nothing better was found",
        )
        for each in found
    ]
    columns = ("model", "NDCG@20 now", "then", "trials", "given up", "settings")
    terminal.table("On the hold-out that trainings choose on", rows, columns)


def _difference(result: Result) -> str:
    changed = {key: value for key, value in result.after.items() if value != result.before[key]}
    return ", ".join(f"{key} {result.before[key]:g} → {value:g}" for key, value in changed.items())


def _show_difference(path: Path, text: str, changed: str) -> None:
    lines = difflib.unified_diff(text.splitlines(), changed.splitlines(), str(path), str(path), lineterm="", n=1)
    for line in lines:
        terminal.console.print(line, style=COLOURS.get(line[0]), markup=False, highlight=False, soft_wrap=True)
