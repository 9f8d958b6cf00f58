"""`recoflow quarantine …`: what was refused, for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recoflow.commands import terminal
from recoflow.commands.terminal import DATA, AsJson, Data, Name
from recoflow.storage.paths import Paths

if TYPE_CHECKING:
    from recoflow.ingest.quarantine import Selection
    from recoflow.storage.lake.lake import Lake

app = typer.Typer(no_args_is_help=True, help="Refused events: look at them, hand them out, try them again.")

OfFile = Annotated[str | None, typer.Option("--file", help="Only those of this file.")]
OfCode = Annotated[str | None, typer.Option("--code", help="Only those with this code.")]
OfField = Annotated[str | None, typer.Option("--field", help="Only those with this field at fault.")]


@app.command("list")
def show(  # noqa: PLR0917 - typer makes options of them
    environment: Name,
    file: OfFile = None,
    code: OfCode = None,
    field: OfField = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most, the latest first.")] = 50,
    is_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """How often each reason occurs, and the latest refused events."""
    from recoflow.ingest import quarantine

    lake, selection = _opened(environment, data, file, code, field)
    counts, latest = quarantine.by_code(lake, selection), quarantine.listing(lake, selection, limit=limit)
    if is_json:
        terminal.print_json({"codes": counts.to_dicts(), "rejects": latest.to_dicts()})
        return
    if counts.is_empty():
        terminal.console.print("Nothing is refused here.")
        return
    terminal.table("By reason", counts.iter_rows(), counts.columns)
    terminal.reject_lines(latest)
    if latest.height < counts["events"].sum():
        terminal.console.print(f"… the latest {latest.height:,} of {counts['events'].sum():,}; --limit shows more.")


@app.command()
def export(  # noqa: PLR0917
    target: Annotated[Path, typer.Argument(dir_okay=False, help="The file to write.")],
    environment: Name,
    file: OfFile = None,
    code: OfCode = None,
    field: OfField = None,
    data: Data = DATA,
) -> None:
    """Write the raw texts to a file: mend it, then drop it like any other. Rows of CSV still need their header."""
    from recoflow.ingest import quarantine

    rejects = quarantine.listing(*_opened(environment, data, file, code, field))
    quarantine.export_quarantine(rejects, target.absolute())
    terminal.console.print(f"{rejects.height:,} events in {target}", markup=False)


@app.command()
def replay(  # noqa: PLR0917
    environment: Name,
    file: OfFile = None,
    code: OfCode = None,
    field: OfField = None,
    header_of: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A CSV file with the header of the refused rows; use --file."),
    ] = None,
    data: Data = DATA,
) -> None:
    """Try refused events again under the present configuration; those that pass move into the lake, once each."""
    from recoflow.ingest import quarantine

    lake, selection = _opened(environment, data, file, code, field)
    settings = terminal.environment_of(environment, data)
    header = _first_line(header_of) if header_of is not None else None
    with terminal.console.status("Reading refused events again …"):
        found = quarantine.replay(lake, settings, selection, header=header)
    terminal.console.print(
        f"{found.tried:,} tried: {found.accepted:,} accepted, {found.duplicates:,} were in the lake already, "
        f"{found.left:,} stay refused ({found.conflicts:,} of them because their id is taken)."
    )
    if found.without_header:
        terminal.console.print(
            f"{found.without_header:,} rows of CSV files were not tried: name a file with their header by --header-of."
        )


def _opened(
    environment: str, data: Path, file: str | None, code: str | None, field: str | None
) -> tuple[Lake, Selection]:
    from recoflow.ingest.quarantine import Selection
    from recoflow.storage.lake.lake import Lake

    terminal.environment_of(environment, data)
    return Lake(Paths(data).lake(environment)), Selection(file=file, code=code, field=field)


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8-sig") as file:
        return file.readline().rstrip("\n")
