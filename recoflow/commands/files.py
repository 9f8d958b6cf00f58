"""`recoflow validate` and `recoflow profile`: files before they are ingested."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from recoflow.commands import terminal
from recoflow.commands.terminal import DATA, AsJson, Data, Files, Name

if TYPE_CHECKING:
    from recoflow.ingest.dry_run import Validation

SHOWN_REJECTS = 20


def validate(paths: Files, environment: Name, is_json: AsJson = False, data: Data = DATA) -> None:
    """Read files as an ingest would, keep nothing; exit 1 when an event is refused, 2 when a file cannot be read."""
    from recoflow.ingest import dry_run

    settings = terminal.environment_of(environment, data)
    with terminal.reading(paths) as watch:
        found = dry_run.dry_run(paths, settings, datetime.now(UTC), watch=watch)
    if is_json:
        terminal.print_json(found.as_json())
    else:
        _show(found)
    if found.counts.quarantined:
        raise typer.Exit(1)


def _show(found: Validation) -> None:
    names = ("read", "accepted", "quarantined", "duplicates")
    rows = [(report.name, *(getattr(report.counts, name) for name in names)) for report in found.reports]
    total = ("all files", *(getattr(found.counts, name) for name in names))
    terminal.table("Files", [*rows, total] if len(rows) > 1 else rows, ("file", *names))
    ignored = sorted({key for report in found.reports for key in report.ignored_keys})
    if ignored:
        terminal.console.print(f"Keys that nobody reads: {', '.join(ignored)}", markup=False)
    terminal.reject_lines(found.rejects.head(SHOWN_REJECTS))
    if found.rejects.height > SHOWN_REJECTS:
        terminal.console.print(f"… and {found.rejects.height - SHOWN_REJECTS:,} more; --json gives all.")
