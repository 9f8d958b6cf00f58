"""`recoflow forget`: a person leaves an environment.

What belongs here: options and wording. What does not: what is removed (`recoflow.erasure`).
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from recoflow.commands.terminal import DATA, AsJson, Data, Name, console, environment_of, print_json, table
from recoflow.storage.paths import Paths


def forget(
    name: Name,
    user_id: Annotated[list[str] | None, typer.Option(help="A log-in; may be given several times.")] = None,
    device_id: Annotated[list[str] | None, typer.Option(help="A device; may be given several times.")] = None,
    data: Data = DATA,
    as_json: AsJson = False,
) -> None:
    """Remove a person from every table, file and model of an environment, and prove it.

    Devices on which only that user was seen are forgotten with the user. Exit 0 when no file mentions the person any
    more, 1 when some still do: the report names them, and the next ingest erases again until none is left.
    """
    from recoflow.erasure import erase as privacy
    from recoflow.erasure import erasure_requests
    from recoflow.settings.environment import load_all
    from recoflow.storage.lake.lake import Lake

    layout = Paths(data.absolute())
    environment = environment_of(name, data)
    lakes = {each.name: Lake(layout.lake(each.name)) for each in load_all(layout.environments)}
    users, devices = frozenset(user_id or ()), frozenset(device_id or ())
    report = privacy.erase(layout, environment, lakes, user_ids=users, device_ids=devices)
    if not report.is_forgotten:
        erasure_requests.submit(layout, name, users, devices)
    if as_json:
        print_json(report.as_json())
    else:
        removed = [(each.place, each.count, each.what) for each in report.removals]
        table(f"Forgotten in {name}", removed, ["place", "removed", "of"])
        console.print(f"{report.files_searched} files searched, {len(report.remaining)} still mention the person.")
        if report.ambiguous:
            console.print(f"{report.ambiguous} of the ids mean something else here too: see docs/privacy.md.")
        for path in report.remaining:
            console.print(f"  [red]{escape(path)}[/red]", highlight=False)
        if report.remaining:
            console.print("The next ingest erases again.")
        for place in privacy.NOT_COVERED:
            console.print(f"  [dim]Not covered: {place}.[/dim]", highlight=False)
    raise typer.Exit(0 if report.is_forgotten else 1)
