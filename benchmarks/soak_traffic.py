"""The traffic of `benchmarks.soak`: what customers send, what is acknowledged to them, and what became of it."""

from __future__ import annotations

import io
import json
import random
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import paramiko
import polars as pl

from benchmarks.soak_installation import Installation
from recoflow.sandbox import demo, feeder, world
from recoflow.server.dagster_ui import DagsterUi
from recoflow.storage.lake.lake import Lake

BATCH = 20  # events of one request to the gateway
LAUNCH = """
mutation Launch($job: String!) {
  launchRun(executionParams: {selector: {
    repositoryLocationName: "recoflow", repositoryName: "__repository__", jobName: $job}, runConfigData: {}}) {
    __typename
  }
}
"""
Refused = (OSError, paramiko.SSHException, EOFError, ValueError)  # what a customer sees of a service that is away


class Traffic:
    """Customers that try again until they are acknowledged; all times in seconds since the epoch."""

    def __init__(self, installation: Installation, seed: int) -> None:
        self._installation = installation
        self._chance = random.Random(seed)
        self._world = world.generate(users=300, items=150, events=12_000, days=30, end=demo.last_full_hour())
        is_visit = self._world.events["event_type"] == "detail_pageview"
        self._visits = self._world.events.filter(is_visit).select("user_id", "action_item").drop_nulls()
        self._ends = threading.Event()
        self._burst = threading.Event()  # set: the next request files come many at once
        self.begins = {"training_worker": self._start_training, "burst_worker": self._burst.set}
        self._successes: dict[str, list[float]] = defaultdict(list)
        self._events: list[str] = []  # ids that were acknowledged
        self._requests: dict[str, int] = {}  # file name → lists that it asks for, once acknowledged
        self._answered: set[str] = set()

    def teach(self) -> None:
        """Drop the sample world's files: they are ingested, and the first model is trained."""
        folder = self._installation.root / "files"
        world.write_world(self._world, folder, days_per_file=15)
        with self._customer() as sftp:
            for file in sorted(folder.iterdir()):
                feeder.drop(sftp, file, folder="periodic")

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Traffic until the block ends."""
        acts = (self._post, self._drop, self._collect, self._look, self._watch_runs)
        threads = [threading.Thread(target=self._repeat, args=(act,)) for act in acts]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ends.set()
            for thread in threads:
                thread.join()

    def first_success(self, work: str, after: float) -> float:
        """When work of this kind first succeeded after a moment; inf when it did not."""
        return min((at for at in self._successes[work] if at > after), default=float("inf"))

    def _start_training(self) -> None:
        try:
            self._ui.ask(LAUNCH, {"job": "lorem_training"})
        except Refused:
            return

    def is_drained(self) -> bool:
        """Whether every request is answered and noted, and every event is in the lake."""
        try:
            self._collect()
            is_noted = self._noted()["campaign_id"].n_unique() >= len(self._answered)
            is_answered = self._answered >= self._requests.keys()
            return is_answered and is_noted and set(self._events) <= self._in_lake().keys()
        except Refused:
            return False

    def outcome(self) -> dict[str, object]:
        stored = self._in_lake()
        rows = self._noted()
        lists = rows.group_by("campaign_id", "request_id", "item_id").len()
        with self._customer() as sftp:
            manifests = [
                json.loads(sftp.open(f"responses/{name}").read())
                for name in sftp.listdir("responses")
                if name.endswith(".manifest.json")
            ]
        names = [manifest["name"] for manifest in manifests]
        noted = rows["campaign_id"].n_unique() if rows.height else 0
        return {
            "requests": len(self._requests),
            "events": len(self._events),
            "lost": sum(event not in stored for event in self._events),
            "doubled": sum(stored.get(event, 0) > 1 for event in self._events)
            + int((lists["len"] > 1).sum())
            + len(names)
            - len(set(names)),
            "never_answered": len(self._requests.keys() - set(names)) + abs(len(names) - noted),
        }

    def _repeat(self, act: Callable[[], None]) -> None:
        while not self._ends.is_set():
            try:
                act()
            except Refused:
                self._ends.wait(0.5)

    def _post(self) -> None:
        """One batch, sent until it is acknowledged: the same events again are no others."""
        begin = len(self._events)
        now = int(time.time() * 1000)
        events = [self._event(begin + place, now) for place in range(BATCH)]
        body = json.dumps({"events": events}).encode()
        while not self._ends.is_set():
            request = urllib.request.Request(
                f"http://127.0.0.1:{self._installation.ports['gateway']}/api/lorem/events",
                body,
                {"Content-Type": "application/json"},
            )
            try:
                with urllib.request.urlopen(request, timeout=10) as reply:
                    reply.read()
            except Refused:
                self._ends.wait(0.5)
                continue
            self._events += [event["event_id"] for event in events]
            self._successes["post"].append(time.time())
            break
        self._ends.wait(0.5)

    def _event(self, number: int, now: int) -> dict[str, Any]:
        """A visit that the sample world had before, so that trainings go on to learn something."""
        user, item = self._visits.row(number * 7919 % self._visits.height)
        return {
            "event_type": "detail_pageview",
            "event_id": f"soak-{number}",
            "user_id": user,
            "channel": "www-desktop",
            "page_type": "article_detail",
            "action_item": item,
            "action_item_type": "article",
            "timestamp": now - number % 1000,
        }

    def _drop(self) -> None:
        """One request file, or several at once, each uploaded until it is acknowledged."""
        count = 5 if self._burst.is_set() else 1
        self._burst.clear()
        for _ in range(count):
            number = len(self._requests)
            name = f"lorem_soak{number}_2026-11-30.csv"
            users = self._chance.sample(list(self._world.users), 40)
            text = world.request(self._world, users)
            while not self._ends.is_set():
                try:
                    with self._customer() as sftp:
                        sftp.putfo(io.BytesIO(text.encode()), f"requests/{name}")
                except Refused:
                    self._ends.wait(0.5)
                    continue
                self._requests[name] = len(users)
                self._successes["upload"].append(time.time())
                break
        self._burst.wait(self._chance.uniform(3, 8))

    def _collect(self) -> None:
        with self._customer() as sftp:
            names = set(sftp.listdir("responses"))
        for name in self._requests.keys() & names - self._answered:
            self._answered.add(name)
            self._successes["answer"].append(time.time())
        self._ends.wait(1)

    def _look(self) -> None:
        with urllib.request.urlopen(f"{self._ui.url}/server_info", timeout=10):
            self._successes["page"].append(time.time())
        self._ends.wait(1)

    def _watch_runs(self) -> None:
        with self._installation.instance as instance:
            for work in ("ingest", "training"):
                wanted = dg.RunsFilter(job_name=f"lorem_{work}", statuses=[dg.DagsterRunStatus.SUCCESS])
                found = [record.end_time for record in instance.get_run_records(wanted, limit=50) if record.end_time]
                self._successes[work] = sorted({*self._successes[work], *found})
        self._ends.wait(1)

    def _noted(self) -> pl.DataFrame:
        return Lake(self._installation.layout.lake("lorem")).scan("responses").collect()

    def _in_lake(self) -> dict[str, int]:
        """Id → how often it is in the lake, of the events of this traffic."""
        table = Lake(self._installation.layout.lake("lorem")).scan("events").select("event_id").collect()
        counts = table.group_by("event_id").len()
        return dict(zip(counts["event_id"], counts["len"], strict=True))

    @property
    def _ui(self) -> DagsterUi:
        return DagsterUi(f"http://127.0.0.1:{self._installation.ports['ui']}")

    def _customer(self) -> Any:
        return feeder.connect(self._installation.layout.sftp, "lorem", self._installation.ports["sftp"])
