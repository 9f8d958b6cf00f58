"""What commands share: where they print, options that mean the same everywhere, progress and tables.

What belongs here: how things look. What does not: what any one command says.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from recoflow.printable import printable
from recoflow.storage.paths import DATA_FOLDER, DATA_VARIABLE, Paths

if TYPE_CHECKING:
    import polars as pl

    from recoflow.ingest.dry_run import Watch
    from recoflow.schema import ParsedBatch
    from recoflow.settings.environment import Environment


class SafeConsole(Console):
    """A console on which no text from outside reaches the terminal's own commands."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; control and invisible characters of texts are shown as escapes."""
        super().print(*(printable(each, keep="\n\t") if isinstance(each, str) else each for each in objects), **options)


console = SafeConsole()
errors = SafeConsole(stderr=True)

DATA: Final = DATA_FOLDER
Data = Annotated[Path, typer.Option(envvar=DATA_VARIABLE, help="The data folder.")]
Files = Annotated[
    list[Path], typer.Argument(exists=True, dir_okay=False, readable=True, help="Files of events or items.")
]
Name = Annotated[str, typer.Option("--environment", "-e", help="Name of the environment.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def environment_of(name: str, data: Path) -> Environment:
    """The configuration of an environment.

    Raises:
        ConfigurationError: there is none of that name, or it is wrong.
    """
    from recoflow.settings import environment

    return environment.load_environment(Paths(data).environments / f"{name}.yaml")


def print_json(value: Any) -> None:
    """One JSON value on standard output, in ASCII, so that no terminal's encoding can refuse it."""
    typer.echo(json.dumps(value, default=_plain))


def table(title: str, rows: Iterable[Sequence[object]], columns: Sequence[str], *, whole: Collection[str] = ()) -> None:
    """Rows as a table; numbers on the right, nothing for None; columns in `whole` are never folded, to be copied."""
    rows = list(rows)
    shown = Table(title=escape(printable(title)), title_justify="left")
    for place, name in enumerate(columns):
        is_number = any(isinstance(row[place], int | float) for row in rows)
        shown.add_column(
            escape(printable(name)), justify="right" if is_number else "left", overflow="fold", no_wrap=name in whole
        )
    for row in rows:
        shown.add_row(*map(cell, row))
    console.print(shown)


def reject_lines(rejects: pl.DataFrame) -> None:
    """Refused events as compilers show errors, one a line; `rejects` has file, line, code and message."""
    for reject in rejects.iter_rows(named=True):
        place = printable(reject["file"]) if reject["line"] is None else f"{printable(reject['file'])}:{reject['line']}"
        line = f"[bold]{escape(place)}[/bold] [red]{reject['code']}[/red] {escape(printable(reject['message']))}"
        console.print(line, soft_wrap=True, highlight=False)


def cell(value: object) -> str:
    """A value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return escape(printable(str(value)))


@contextlib.contextmanager
def reading(paths: Sequence[Path]) -> Iterator[Watch]:
    """A progress bar on standard error, by the size of the files that are done and the events that were read."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[events]:,} events"),
        TimeElapsedColumn(),
    )
    sizes = {path: path.stat().st_size for path in paths}
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        # One file has no parts whose sizes are known: its bar pulses.
        total = sum(sizes[path] for path in paths) if len(paths) > 1 else None
        task = progress.add_task("", total=total, events=0)

        def watch(path: Path, batches: Iterator[ParsedBatch]) -> Iterator[ParsedBatch]:
            progress.update(task, description=escape(printable(path.name)))
            for batch in batches:
                progress.update(task, events=progress.tasks[0].fields["events"] + batch.read)
                yield batch
            progress.advance(task, sizes[path])

        yield watch


def _plain(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value)} in a report")
