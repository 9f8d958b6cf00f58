"""A rehearsal: the way of the data from event files to lists, in small, so that all loops are compiled afterwards.

What belongs here: which stages are gone through. What does not: what they do, and how loops are compiled
(`compute.jit`).

Without it the first ingest, training and campaign of an installation each wait for the compiler, a minute in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from recoflow.campaigns.freshness import TABLES
from recoflow.campaigns.preview import RequestPreview
from recoflow.campaigns.publishing import csv_rows
from recoflow.errors import ModelError, SourceError
from recoflow.ingest.run import ingest_file
from recoflow.interactions import build, catalogue, identity
from recoflow.models.store import bundle_store, versions
from recoflow.models.training import pipeline
from recoflow.sandbox import world
from recoflow.settings.environment import Environment
from recoflow.storage import sql
from recoflow.storage.lake.lake import Lake
from recoflow.storage.paths import Paths

END: Final = datetime(2026, 1, 31, tzinfo=UTC)
LINES: Final = 25_000  # of a file: so many that nothing is left to the code for small files
# Head and line of files that the sample world has no large one of: CSV, JSON with needless escapes, Metarank's events.
FORMS: Final = {
    "froomle.csv": (
        "event_type,user_id,page_type,referrer,timestamp\n",
        "page_visit,reader,home,https://www.lorem.example/{number},{number}",
    ),
    "escaped.jsonl": (
        "",
        '{{"event_type":"page_visit","user_id":"reader","page_type":"home","referrer":"https:\\/\\/www.lorem.example",'
        '"timestamp":"{number}"}}',
    ),
    "metarank.jsonl": (
        "",
        '{{"event":"item","id":"{number}","item":"article","timestamp":"{number}000","fields":['
        '{{"name":"title","value":"News"}},{{"name":"tags","value":["a","b"]}}]}}',
    ),
}


def rehearse(environment: Environment, folder: Path) -> int:
    """Ingest, train and answer a small sample world with the settings of an environment.

    Args:
        environment: whose models are trained and whose configurations rank.
        folder: an empty one; what is made there is of no use afterwards.

    Returns:
        How many recommendations were given.
    """
    layout = Paths(folder / "data")
    sample = world.generate(users=100, items=60, events=4000, end=END)
    environment = environment.model_copy(update={"name": world.ENVIRONMENT})
    lake = Lake(layout.lake(environment.name))
    _ingest_forms(environment, folder / "forms")
    world.write_world(sample, folder / "files", days_per_file=20)
    late = max((folder / "files").glob("*_events_*"))
    _ingest(sorted(set((folder / "files").iterdir()) - {late}), environment, lake)
    _train(environment, lake, layout)
    _ingest([late], environment, lake)  # whom it is about is folded in
    request = folder / world.request_name(sample)
    request.write_text(world.request(sample), encoding="utf-8")
    answers = RequestPreview(request, environment, layout, lake, END).preview(len(sample.users))
    with (folder / "response.csv").open("wb") as file:
        file.writelines(csv_rows.csv_lines([csv_rows.encode_rows(answers.drop("score").to_arrow())]))
    return answers.height


def _ingest_forms(environment: Environment, folder: Path) -> None:
    """Into a lake of their own: the model learns from the sample world alone."""
    folder.mkdir()
    lake, first = Lake(folder / "lake"), int((END - timedelta(days=1)).timestamp())
    for name, (head, line) in FORMS.items():
        path = folder / name
        lines = (line.format(number=first + number) for number in range(LINES))
        path.write_text(head + "\n".join(lines), encoding="utf-8")
        counts = ingest_file(path, environment, lake, END).counts
        if counts.accepted < LINES:
            raise SourceError(name, f"rehearsed {counts}", "It is a fault of recoflow: every line of it is an event")


def _ingest(files: Sequence[Path], environment: Environment, lake: Lake) -> None:
    for file in files:
        ingest_file(file, environment, lake, END)
    with sql.connect() as connection:
        lake.views(connection)
        lake.overwrite("items", catalogue.fold(connection))
        lake.overwrite("identity", identity.resolve_devices(connection))
        lake.overwrite("interactions", build.interactions(connection, environment, END))


def _train(environment: Environment, lake: Lake, layout: Paths) -> None:
    tables = {name: lake.version(name) for name in TABLES}
    interactions, items, devices = (lake.scan(name).collect() for name in ("interactions", "items", "identity"))
    training = pipeline.train_environment(interactions, items, devices, environment, None, END, tables)
    if training.bundle is None:
        cure = "Its gates (quality, training) may be too high for so small a world; no harm is done"
        raise ModelError("the rehearsal", "trained no model", cure)
    models = layout.models(environment.name)
    bundle_store.save_bundle(training.bundle, models / training.bundle.version)
    versions.promote(models, training.bundle.version)
