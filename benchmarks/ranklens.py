"""Real input, from nothing: 58,437 Metarank events to a response for every user, each count held against the truth.

    python -m benchmarks.ranklens PATH [--users N] [--size N]

PATH is the folder of the ranklens data (`events.jsonl.gz`: crowd-sourced clicks on films, one JSON event a line). In a
temporary folder, an environment `ranklens` is set up, and its Dagster jobs run one after the other: the file is dropped
into the inbox and ingested, the tables are built, a model is trained and promoted, and a request file is answered. Only
SFTP is left out: the response stays in the folder. The peer of the ingest is the mere reading of the same file.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import polars as pl

from recoflow import definitions
from recoflow.campaigns import campaign_record
from recoflow.storage import atomic_files
from recoflow.storage.lake.lake import Lake
from recoflow.storage.paths import Paths

T = TypeVar("T")
NAME = "ranklens"
EVENTS = {"item": 2_512, "ranking": 9_800, "interaction": 46_125}
SHOWN = 24  # items of each ranking
PAIRS = 45_188  # of a user and a film that was clicked
USERS = 2_145
CLICKING_USERS = 2_116  # the others get the fallback
REQUEST = "ranklens_evening_mail_2021-11-16T18:00:00Z.csv"
RECEIVED = datetime(2021, 11, 16, 18, tzinfo=UTC)
QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}

# All traffic falls within 20 minutes: there is nothing to decay, and no time to split at.
CONFIGURATION = """\
name: ranklens
sftp: { username: ranklens, private_key: none, known_hosts: none, quiet_seconds: 0 }
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


class Installation:
    """The environment in a folder of its own, and its Dagster jobs on an instance that lives in memory."""

    def __init__(self, root: Path, instance: dg.DagsterInstance) -> None:
        self.layout = Paths(root)
        self.instance = instance
        atomic_files.write_atomic(self.layout.environments / f"{NAME}.yaml", CONFIGURATION.encode())
        self.definitions = definitions.build_definitions(root)
        self.lake = Lake(self.layout.lake(NAME))

    def materialize(self, job: str, partition: str | None = None) -> dict[str, dict[str, Any]]:
        """Run a job to its end: asset name → metadata name → value."""
        resolved = self.definitions.resolve_job_def(f"{NAME}_{job}")
        result = resolved.execute_in_process(QUIET, instance=self.instance, partition_key=partition)
        made = [event.materialization for event in result.get_asset_materialization_events()]
        return {each.asset_key.path[-1]: {name: v.value for name, v in each.metadata.items()} for each in made}


def expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise SystemExit(f"{what}: found {found}, not {wanted}")


def read_only(file: Path) -> Counter[str]:
    """What anybody must do at the least: unpack, split and decode."""
    with gzip.open(file) as lines:
        return Counter(json.loads(line)["event"] for line in lines)


def drop(installation: Installation, file: Path) -> None:
    inbox = installation.layout.inbox(NAME)
    inbox.mkdir(parents=True)
    shutil.copyfile(file, inbox / file.name)


def check_tables(made: Mapping[str, dict[str, Any]], lake: Lake) -> dict[str, int]:
    """Hold what the ingest said, and what is in the lake, against what the file is known to hold."""
    total = sum(EVENTS.values())
    counts = {name: made["events"][name] for name in ("read", "accepted", "quarantined", "duplicates")}
    expect("counts", counts, {"read": total, "accepted": total, "quarantined": 0, "duplicates": 0})
    events = lake.scan("events").select("kind", "event_id", "event_type", "user_id").collect()
    found = dict(events.group_by("kind").agg(pl.col("event_id").n_unique()).iter_rows())
    found["item"] = lake.scan("updates").collect()["entity_id"].n_unique()
    expect("events by kind", found, EVENTS)
    types = {"impression": EVENTS["ranking"] * SHOWN, "click_on_recommendation": EVENTS["interaction"]}
    expect("rows by event type", dict(events["event_type"].value_counts().iter_rows()), types)
    expect("users", events["user_id"].n_unique(), USERS)
    interactions = lake.scan("interactions").collect()
    expect("clicks in interactions", interactions["events"].sum(), EVENTS["interaction"])
    expect("pairs in interactions", interactions.height, PAIRS)
    expect("items", lake.scan("items").collect().height, EVENTS["item"])
    return counts


def ask(installation: Installation, users: int, size: int) -> str:
    """Write the request file of `users` users; the campaign's key."""
    ids = installation.lake.scan("events").select(pl.col("user_id").unique().sort()).collect()["user_id"]
    header = '"environment","user_id","device_id","list_name","list_size","page_type"\n'
    rows = (f'"{NAME}","{user}",,"Films for tonight",{size},"email"\n' for user in ids.head(users))
    path = installation.layout.root / REQUEST
    atomic_files.write_atomic(path, (header + "".join(rows)).encode())
    opened = campaign_record.open_record(
        installation.layout.campaigns(NAME),
        NAME,
        path,
        name=REQUEST,
        sha256=atomic_files.sha256(path),
        revision=1,
        received_at=RECEIVED,
    )
    installation.instance.add_dynamic_partitions(f"{NAME}_campaigns", [opened.key])
    return opened.key


def check_response(made: Mapping[str, dict[str, Any]], users: int, size: int) -> dict[str, int]:
    """Read the response file and hold it against the request, and against what the campaign said of itself."""
    path = Path(made["campaign_response"]["path"])
    response = pl.read_csv(path, schema_overrides={"user_id": pl.String, "item_id": pl.String})
    lists = response.group_by("user_id").agg(pl.len(), items=pl.col("item_id").n_unique())
    expect("items twice in one list", lists.filter(pl.col("len") != pl.col("items")).height, 0)
    told = made["campaign_recommendations"]
    short = lists.filter(pl.col("len") < size).height + users - lists.height
    expect("short lists", told["short_lists"], short)
    if not short:
        expect("rows", response.height, users * size)
    if users == USERS:
        expect("lists without history", told["fallback"], USERS - CLICKING_USERS)
    return {"lists": lists.height, "rows": response.height, "short": short, "fallback": told["fallback"]}


def measure(path: Path, users: int, size: int) -> dict[str, object]:
    file, steps = path / "events.jsonl.gz", Steps()
    expect("events in the file", dict(steps.run("read only", lambda: read_only(file))), EVENTS)
    with tempfile.TemporaryDirectory(prefix="ranklens-") as folder, dg.DagsterInstance.ephemeral() as instance:
        installation = steps.run("set-up", lambda: Installation(Path(folder), instance))
        drop(installation, file)
        counts = check_tables(steps.run("ingest job", lambda: installation.materialize("ingest")), installation.lake)
        trained = steps.run("training job", lambda: installation.materialize("training"))["factors"]
        key = ask(installation, users, size)
        made = steps.run("campaign job", lambda: installation.materialize("campaign", key))
        answered = check_response(made, users, size)
    return {
        "benchmark": NAME,
        "events": counts,
        "kinds": EVENTS,
        "pairs": PAIRS,
        "training": {
            name: value for name, value in trained.items() if name == "model" or name.startswith(("ndcg", "recall"))
        },
        "response": answered,
        "seconds": {name: round(seconds, 3) for name, seconds in steps.seconds.items()},
        "ingest_job_over_read_only": round(steps.seconds["ingest job"] / steps.seconds["read only"], 2),
    }


def show(figures: Mapping[str, object]) -> None:
    for name, value in figures.items():
        for part, number in (value if isinstance(value, Mapping) else {"": value}).items():
            print(f"{f'{name} {part}':32} {f'{number:.4f}' if isinstance(number, float) else number:>12}")
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="folder of the ranklens data")
    parser.add_argument("--users", type=int, default=USERS, help="how many users the request asks for")
    parser.add_argument("--size", type=int, default=10, help="items per list")
    flags = parser.parse_args()
    show(measure(flags.path, min(flags.users, USERS), flags.size))


if __name__ == "__main__":
    main()
