"""`recoflow doctor`: what is wrong with an installation.

What belongs here: options and wording. What does not: the looks (`recoflow.operations`).
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from recoflow.commands.terminal import DATA, AsJson, Data, console, print_json, table
from recoflow.storage.paths import Paths


def doctor(
    data: Data = DATA,
    as_json: AsJson = False,
    repair: Annotated[bool, typer.Option("--repair", help="Do what is safe; nothing that came in is removed.")] = False,
) -> None:
    """Examine tables, models, SFTP accounts, runs, waiting files and the disk, and say what is wrong and the cure.

    May be run while everything runs. Exit 0 when nothing is wrong (any more), 1 when something is, 2 when the
    installation cannot be examined.
    """
    from recoflow.operations import doctor as operations
    from recoflow.operations import finding

    home = Path(os.environ.get("DAGSTER_HOME", Path.cwd()))
    findings = operations.examine_installation(Paths(data.absolute()), home, datetime.now(UTC), is_repairing=repair)
    is_healthy = finding.is_healthy(findings)
    if as_json:
        print_json({"is_healthy": is_healthy, "findings": [each.as_json() for each in findings]})
    elif findings:
        rows = [
            (each.area, each.environment, each.where, each.what, "repaired" if each.is_repaired else each.cure)
            for each in findings
        ]
        table("Findings", rows, ["area", "environment", "where", "what", "cure"])
    else:
        console.print("Nothing is wrong.")
    raise typer.Exit(0 if is_healthy else 1)
