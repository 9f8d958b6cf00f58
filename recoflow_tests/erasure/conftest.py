"""A data folder with one person in every place that recoflow writes to, among others."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recoflow import schema
from recoflow.ingest.run import ingest_file
from recoflow.interactions import build, catalogue, identity
from recoflow.models.store import bundle_store, versions
from recoflow.models.training import pipeline
from recoflow.settings.environment import Environment
from recoflow.settings.sections import Sftp
from recoflow.storage import spool, sql, warehouse
from recoflow.storage.lake.lake import Lake
from recoflow.storage.paths import Paths
from recoflow.storage.spool import SpoolWriter

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANN, PHONE, TABLET = "ann-4711", "phone-of-ann", "tablet-of-two"
OTHERS = [f"user-{number:03}" for number in range(60)]


@dataclass
class Installed:
    layout: Paths
    environment: Environment
    lake: Lake

    @property
    def lakes(self) -> dict[str, Lake]:
        return {"lorem": self.lake}

    def rows(self, table: str) -> pl.DataFrame:
        return self.lake.scan(table).collect()

    def ingest(self, name: str, text: str) -> Path:
        path = self.layout.inbox("lorem") / "ingested" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        ingest_file(path, self.environment, self.lake, NOW)
        return path

    def derive(self) -> None:
        with sql.connect() as connection:
            self.lake.views(connection)
            self.lake.overwrite("items", catalogue.fold(connection))
            self.lake.overwrite("identity", identity.resolve_devices(connection))
            self.lake.overwrite("interactions", build.interactions(connection, self.environment, NOW))


def event(person: dict[str, str], item: int, minutes: int, **fields: Any) -> dict[str, Any]:
    at = (NOW - timedelta(days=2, minutes=minutes)).isoformat()
    about = {"action_item": f"article-{item}", "action_item_type": "article", "page_type": "article_detail"}
    return {"event_type": "detail_pageview", "timestamp": at} | person | about | fields


def lines(events: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(each) + "\n" for each in events)


def everything() -> list[dict[str, Any]]:
    events = [event({"user_id": user}, (n * 7 + k) % 30, n + 90 * k) for n, user in enumerate(OTHERS) for k in range(8)]
    events += [event({"user_id": ANN, "device_id": PHONE}, item, item) for item in range(5)]
    events += [event({"device_id": PHONE}, 9, 200), event({"user_id": ANN, "device_id": TABLET}, 3, 300)]
    events += [event({"user_id": OTHERS[0], "device_id": TABLET}, 4, 310), event({"device_id": TABLET}, 5, 320)]
    return [*events, event({"user_id": OTHERS[1]}, 6, 330, referrer=f"https://x.example/?friend={ANN}")]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder; tests work on copies."""
    layout = Paths(tmp_path_factory.mktemp("world") / "data")
    sftp = Sftp(username="lorem", private_key=Path("key"), known_hosts=Path("hosts"))
    made = Installed(layout, Environment(name="lorem", sftp=sftp), Lake(layout.lake("lorem")))
    made.ingest("lorem_events_2026-02-28.jsonl", lines(everything()))
    made.ingest("lorem_events_broken.jsonl", lines([event({"user_id": ANN}, 1, 1, timestamp="yesterday")]))
    made.derive()
    given = {"user_id": [ANN, OTHERS[0]], "device_id": [None, None], "item_id": "article-1", "published_at": NOW}
    frame = pl.DataFrame(given | {"rank": 1, "request_id": ["r1", "r2"]})
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in schema.RESPONSES.items() if name not in frame.columns]
    made.lake.append("responses", frame.with_columns(missing).cast(schema.RESPONSES).select(schema.RESPONSES.names()))
    train(made, NOW)
    fill_files(made)
    warehouse.build_warehouse(made.lakes, layout.warehouse)
    return layout.root


def train(made: Installed, as_of: datetime) -> None:
    tables = (made.rows(name) for name in ("interactions", "items", "identity"))
    training = pipeline.train_environment(*tables, made.environment, champion=None, as_of=as_of, table_versions={})
    assert training.bundle is not None
    models = made.layout.models("lorem")
    bundle_store.save_bundle(training.bundle, models / training.bundle.version)
    versions.promote(models, training.bundle.version)


def fill_files(made: Installed) -> None:
    """The spool, a fetched request and a campaign that was answered."""
    writer = SpoolWriter(made.layout.spool("lorem"), "events", 10**6)
    writer.append([lines([event({"user_id": ANN}, 1, 1), event({"user_id": OTHERS[2]}, 1, 2)]).encode()], NOW)
    writer.seal()
    assert spool.sealed(made.layout.spool("lorem"))
    request = f'"environment","user_id","device_id"\n"lorem","{ANN}",""\n"lorem","{OTHERS[0]}",""\n'
    inbox = made.layout.mailbox("lorem") / "inbox"
    inbox.mkdir(parents=True)
    (inbox / "0123456789abcdef").write_text(request)
    campaign = made.layout.campaigns("lorem") / "lorem_weekly-1"
    (campaign / "staging").mkdir(parents=True)
    (campaign / "docket.json").write_text('{"key": "lorem_weekly-1"}')
    (campaign / "response").write_text(f'"user_id","item_id"\n"{ANN}","article-1"\n"{OTHERS[0]}","article\n-2"\n')
    pl.DataFrame({"user_id": [ANN], "item_id": ["article-1"]}).write_parquet(campaign / "staging/part-00000.parquet")


@pytest.fixture
def made(world: Path, tmp_path: Path) -> Installed:
    """A copy of the world for one test."""
    shutil.copytree(world, tmp_path / "data")
    layout = Paths(tmp_path / "data")
    sftp = Sftp(username="lorem", private_key=Path("key"), known_hosts=Path("hosts"))
    return Installed(layout, Environment(name="lorem", sftp=sftp), Lake(layout.lake("lorem")))
