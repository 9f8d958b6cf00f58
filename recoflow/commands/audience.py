"""`recoflow audience`: the users to whom items fit best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recoflow.commands import terminal
from recoflow.commands.terminal import DATA, AsJson, Data, Name
from recoflow.models.store import bundle_store
from recoflow.storage.paths import Paths

SHOWN = 20


def audience(  # noqa: PLR0917 - typer makes options of them
    environment: Name,
    item: Annotated[list[str], typer.Option(help="An item's id; may be given several times.")],
    size: Annotated[int, typer.Option(min=1, help="How many users at most.")],
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="The CSV file to write: rank, user_id, item_id, score.")
    ] = None,
    is_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """The users to whom given items fit best, by the champion's score of the item that fits each best.

    Who has consumed an item does not get it; who has consumed them all is left out. Equal scores go by user id.
    """
    from recoflow.campaigns import inputs
    from recoflow.campaigns.audiences import select as audiences
    from recoflow.campaigns.serving_model import ServingModel
    from recoflow.storage import atomic_files
    from recoflow.storage.lake.lake import Lake

    settings = terminal.environment_of(environment, data)
    layout = Paths(data.absolute())
    lake, models = Lake(layout.lake(environment)), layout.models(environment)
    chosen = inputs.inputs_in_service(models, lake, settings)
    bundle = bundle_store.load_bundle(models / chosen.model_version)
    model = ServingModel(bundle, settings, lake, chosen.tables).bundle
    found = audiences.choose_audience(item, size, model, audiences.consumers(item, lake, settings))
    if out is not None:
        atomic_files.write_atomic(out.absolute(), found.write_csv().encode())
    if is_json:
        terminal.print_json({"model_version": model.version, "audience": found.to_dicts()})
        return
    shown = found.head(SHOWN).with_columns(found.head(SHOWN)["score"].round(4).cast(str))
    terminal.table(f"{found.height} users, model {model.version}", shown.iter_rows(), shown.columns)
    if out is not None:
        terminal.console.print(f"All of them in {out}", markup=False)
