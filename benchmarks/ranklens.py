"""Real input, from nothing: 58,437 Metarank events to a response for every user, each count held against the truth.

    python -m benchmarks.ranklens PATH [--users N] [--size N]

PATH is the folder of the ranklens data (`events.jsonl.gz`: crowd-sourced clicks on films, one JSON event a line). In a
temporary folder, an environment `ranklens` takes the file in, builds its tables, trains, and answers a request file.
The peer of the ingest is the mere reading of the same file: gunzip and json.loads.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import polars as pl

from recoflow.campaigns import answer, request, response, rules
from recoflow.environment import Environment, load
from recoflow.events.ingest import ingest_file
from recoflow.interactions import build, catalogue, identity
from recoflow.models import bundle as bundles
from recoflow.models import pipeline
from recoflow.schema import Counts
from recoflow.storage import artifacts, sql
from recoflow.storage.lake import Lake
from recoflow.storage.layout import Layout

T = TypeVar("T")
EVENTS = {"item": 2_512, "ranking": 9_800, "interaction": 46_125}
PAIRS = 45_188  # of a user and a film that was clicked
USERS = 2_145
CLICKING_USERS = 2_116  # the others get the fallback
SHOWN = 24  # items of each ranking
AS_OF = datetime(2021, 11, 16, tzinfo=UTC)  # the day after the last click
REQUEST = "ranklens_evening_mail_2021-11-16T18:00:00Z.csv"

# All traffic falls within 20 minutes: there is nothing to decay, and no time to split at.
CONFIGURATION = """\
name: ranklens
sftp: { username: ranklens, private_key: none, known_hosts: none }
events: { half_life_days: null, item_types: [film] }
training: { split: leave_last_out }
campaigns: { information_fields: [title] }
"""


class Steps:
    """Runs steps and keeps how long each took, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def run(self, name: str, step: Callable[[], T]) -> T:
        begin = time.perf_counter()
        result = step()
        self.seconds[name] = time.perf_counter() - begin
        return result


def expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise SystemExit(f"{what}: found {found}, not {wanted}")


def read_only(file: Path) -> Counter[str]:
    """What anybody must do at the least: unpack, split and decode."""
    with gzip.open(file) as lines:
        return Counter(json.loads(line)["event"] for line in lines)


def ingest(file: Path, environment: Environment, lake: Lake) -> Counts:
    """Take the file in and hold what the lake then has against what the file is known to hold."""
    counts = ingest_file(file, environment, lake, AS_OF).counts
    expect("counts", counts, Counts(read=sum(EVENTS.values()), accepted=sum(EVENTS.values())))
    events = lake.scan("events").select("kind", "event_id", "event_type").collect()
    found = dict(events.group_by("kind").agg(pl.col("event_id").n_unique()).iter_rows())
    found["item"] = lake.scan("updates").collect()["entity_id"].n_unique()
    expect("events by kind", found, EVENTS)
    types = {"impression": EVENTS["ranking"] * SHOWN, "click_on_recommendation": EVENTS["interaction"]}
    expect("rows by event type", dict(events["event_type"].value_counts().iter_rows()), types)
    return counts


def build_tables(environment: Environment, lake: Lake) -> dict[str, int]:
    """Items, identity and interactions, written to the lake as the nightly run does."""
    with sql.connect() as connection:
        lake.views(connection)
        tables = {
            "items": catalogue.fold(connection),
            "identity": identity.resolve(connection),
            "interactions": build.interactions(connection, environment, AS_OF),
        }
    for name, frame in tables.items():
        lake.overwrite(name, frame)
    expect("items", tables["items"].height, EVENTS["item"])
    expect("clicks in interactions", tables["interactions"]["events"].sum(), EVENTS["interaction"])
    expect("pairs in interactions", tables["interactions"].height, PAIRS)
    return {name: frame.height for name, frame in tables.items()}


def train(environment: Environment, lake: Lake, models: Path) -> tuple[str, pl.DataFrame]:
    """Train, save and promote; plain ALS loses to popularity here, so what is promoted is the gate's choice."""
    names = ("interactions", "items", "identity")
    training = pipeline.train_environment(
        *(lake.scan(name).collect() for name in names),
        environment,
        bundles.champion(models),
        AS_OF,
        {name: lake.version(name) for name in names},
    )
    if training.bundle is None:
        raise SystemExit("no candidate is sound: " + "; ".join(each.message for each in training.findings))
    bundles.save(training.bundle, models / training.bundle.version)
    bundles.promote(models, training.bundle.version)
    return training.bundle.manifest["model"]["name"], training.metrics


def campaign(environment: Environment, lake: Lake, layout: Layout, users: int, size: int) -> Mapping[str, int]:
    """Write the request file of `users` users, answer it, and count the response's rows."""
    ids = lake.scan("events").select(pl.col("user_id").unique().sort()).collect()["user_id"]
    expect("users", ids.len(), USERS)
    asked = ids.head(users)
    header = '"environment","user_id","device_id","list_name","list_size","page_type"\n'
    rows = (f'"ranklens","{user}",,"Films for tonight",{size},"email"\n' for user in asked)
    folder = layout.campaigns("ranklens")
    artifacts.write_atomic(folder / REQUEST, (header + "".join(rows)).encode())
    bundle = bundles.champion(layout.models("ranklens"))
    assert bundle is not None
    parsed = request.parse(
        folder / REQUEST,
        name=REQUEST,
        environment=environment,
        sha256=artifacts.sha256(folder / REQUEST),
        known_attributes=rules.attribute_names(bundle.items),
    )
    staged = answer.answer(parsed, bundle, environment, folder / "staged", AS_OF)
    written = response.write(staged, folder / "response.csv")
    table = pl.read_csv(written.path, schema_overrides={"user_id": pl.String, "item_id": pl.String})
    lists = table.group_by("user_id").agg(pl.len(), items=pl.col("item_id").n_unique())
    expect("items twice in one list", lists.filter(pl.col("len") != pl.col("items")).height, 0)
    short = lists.filter(pl.col("len") < size).height
    found = {"asked": asked.len(), "lists": lists.height, "rows": table.height, "short": short}
    if not short and lists.height == asked.len():
        expect("rows", table.height, asked.len() * size)
    else:
        expect("short and empty lists", staged.counts.short + staged.counts.empty, short + asked.len() - lists.height)
    if users >= USERS:
        expect("lists without history", staged.counts.fallback, USERS - CLICKING_USERS)
    return found | {"fallback": staged.counts.fallback}


def measure(path: Path, users: int, size: int) -> dict[str, object]:
    file, steps = path / "events.jsonl.gz", Steps()
    with tempfile.TemporaryDirectory(prefix="ranklens-") as folder:
        layout = Layout(Path(folder))
        artifacts.write_atomic(layout.environments / "ranklens.yaml", CONFIGURATION.encode())
        environment, lake = load(layout.environments / "ranklens.yaml"), Lake(layout.lake("ranklens"))
        expect("events in the file", dict(steps.run("read only", lambda: read_only(file))), EVENTS)
        counts = steps.run("ingest", lambda: ingest(file, environment, lake))
        tables = steps.run("tables", lambda: build_tables(environment, lake))
        model, metrics = steps.run("train", lambda: train(environment, lake, layout.models("ranklens")))
        answered = steps.run("campaign", lambda: campaign(environment, lake, layout, users, size))
    return {
        "benchmark": "ranklens",
        "events": counts.read,
        "accepted": counts.accepted,
        **{f"{kind}s": count for kind, count in EVENTS.items()},
        "interactions_rows": tables["interactions"],
        "model": model,
        "ndcg": {row["model"]: round(row["ndcg"], 4) for row in metrics.to_dicts()},
        **{f"response_{name}": count for name, count in answered.items()},
        "seconds": {name: round(seconds, 3) for name, seconds in steps.seconds.items()},
        "ingest_over_read_only": round(steps.seconds["ingest"] / steps.seconds["read only"], 2),
    }


def show(figures: Mapping[str, object]) -> None:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            for part, number in value.items():
                print(f"{name + ': ' + part:32} {number:>12}")
        else:
            print(f"{name:32} {value:>12}")
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="folder of the ranklens data")
    parser.add_argument("--users", type=int, default=USERS, help="how many users the request asks for")
    parser.add_argument("--size", type=int, default=10, help="items per list")
    flags = parser.parse_args()
    show(measure(flags.path, flags.users, flags.size))


if __name__ == "__main__":
    main()
