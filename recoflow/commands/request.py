"""`recoflow request validate` and `… preview`: a request file before it is uploaded."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recoflow.commands import terminal
from recoflow.commands.terminal import DATA, AsJson, Data
from recoflow.errors import ConfigurationError
from recoflow.printable import printable
from recoflow.storage.paths import Paths

if TYPE_CHECKING:
    from recoflow.campaigns.preview import RequestPreview
    from recoflow.campaigns.requests.model import Request

app = typer.Typer(no_args_is_help=True, help="Request files: what they would be answered, before they are uploaded.")

File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The request file.")]
Environment = Annotated[
    str | None, typer.Option("--environment", "-e", help="Whose account; by default the one that the name begins with.")
]
SHOWN_ERRORS = 20


@app.command()
def validate(path: File, environment: Environment = None, is_json: AsJson = False, data: Data = DATA) -> None:
    """Read a request file as its campaign would; exit 1 when a row is refused, 2 when the whole file is."""
    request = _trial(path, environment, data).request
    if is_json:
        terminal.print_json(_report(request))
    else:
        _show(request)
    if request.rejection is not None:
        raise typer.Exit(2)
    if request.counts.failed:
        raise typer.Exit(1)


@app.command()
def preview(  # noqa: PLR0917 - typer makes options of them
    path: File,
    environment: Environment = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of the request that are answered.")] = 20,
    is_json: AsJson = False,
    is_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with the scores and nothing else.")] = False,
    data: Data = DATA,
) -> None:
    """Answer the first rows of a request file; nothing is published. Exit 2 when the whole file is refused."""
    trial = _trial(path, environment, data)
    if trial.request.rejection is not None:
        _show(trial.request)
        raise typer.Exit(2)
    answer = trial.preview(rows)
    if is_csv:
        text = answer.write_csv()
        typer.echo(printable(text, keep="\n") if sys.stdout.isatty() else text, nl=False)
    elif is_json:
        terminal.print_json({**_report(trial.request), "rows": answer.to_dicts()})
    else:
        shown = [column for column in answer.columns if answer[column].null_count() < answer.height]
        shown = [column for column in shown if column not in {"campaign_id", "request_id"}]
        cells = answer.with_columns(answer["score"].round(4).cast(str)).select(shown).iter_rows()
        terminal.table(f"{path.name}: its first {rows} rows, campaign {trial.request.campaign_id}", cells, shown)


def _trial(path: Path, name: str | None, data: Path) -> RequestPreview:
    from recoflow.campaigns.preview import RequestPreview
    from recoflow.storage.lake.lake import Lake

    layout = Paths(data)
    found = terminal.environment_of(name or _environment_in(path.name, layout), data)
    return RequestPreview(path, found, layout, Lake(layout.lake(found.name)), datetime.now(UTC))


def _environment_in(name: str, layout: Paths) -> str:
    """The environment that a file's name begins with; the longest of several."""
    from recoflow.settings.environment import load_all

    known = [found.name for found in load_all(layout.environments) if name.startswith(f"{found.name}_")]
    if not known:
        raise ConfigurationError(name, "does not begin with an environment's name", "Name it by --environment")
    return max(known, key=len)


def _report(request: Request) -> dict[str, object]:
    return {
        "name": request.name,
        "environment": request.environment,
        "campaign_id": request.campaign_id,
        "counts": asdict(request.counts),
        "rejection": request.rejection and asdict(request.rejection),
        "errors": request.errors.to_dicts(),
    }


def _show(request: Request) -> None:
    if request.rejection is None:
        counts = asdict(request.counts)
        terminal.table(request.name, [tuple(counts.values())], [name.replace("_", " ") for name in counts])
    else:
        terminal.errors.print(f"[bold red]{request.rejection.code}[/bold red] ", end="")
        terminal.errors.print(request.rejection.message, markup=False, soft_wrap=True)
        return
    if request.errors.height:
        terminal.table("Rows that are refused", request.errors.head(SHOWN_ERRORS).iter_rows(), request.errors.columns)
    if request.errors.height > SHOWN_ERRORS:
        terminal.console.print(f"… and {request.errors.height - SHOWN_ERRORS:,} more; --json gives all.")
