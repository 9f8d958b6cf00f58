"""The kills of `benchmarks.soak`: which process, when, and what must work again afterwards."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import dagster as dg

from benchmarks.soak_installation import SERVICES, Installation

WORKERS = {  # kind → job
    "ingest_worker": "lorem_ingest",
    "training_worker": "lorem_training",
    "campaign_worker": "lorem_campaign",
    "burst_worker": "lorem_campaign_batch",
}
ALL_WORK = ("post", "upload", "page", "ingest", "answer")
INTERRUPTS = {  # kind → the work that must be seen to succeed again
    "sftp_server": ("upload",),
    "gateway": ("post",),
    "code_server": ("answer",),
    "daemon": ("answer",),
    "webserver": ("page",),
    "ingest_worker": ("ingest",),
    "training_worker": ("training",),
    "campaign_worker": ("answer",),
    "burst_worker": ("answer",),
    "up": ALL_WORK,
    "everything": ALL_WORK,
}
KINDS = tuple(INTERRUPTS)
FOUND_WITHIN = 15.0  # seconds for a worker of a kind to appear; else its turn comes later


@dataclass(frozen=True)
class Kill:
    """One kill; `at` in seconds since the epoch."""

    kind: str
    at: float
    processes: tuple[int, ...]

    @property
    def interrupts(self) -> tuple[str, ...]:
        return INTERRUPTS[self.kind]


class Killer:
    """Kills processes of every kind, in rounds, each round in another order."""

    def __init__(
        self, installation: Installation, chance: random.Random, begin: Mapping[str, Callable[[], None]]
    ) -> None:
        """`begin`: what makes a worker of a kind start work, for kinds that the traffic alone seldom starts."""
        self.kills: list[Kill] = []
        self._installation = installation
        self._chance = chance
        self._begin = begin

    def kill_until(self, deadline: float) -> None:
        waiting: list[str] = []
        while time.time() < deadline:
            if len(waiting) <= len(WORKERS):  # a round that only waits for workers to appear has gone on too long
                waiting += self._chance.sample(KINDS, len(KINDS))
            kind = waiting.pop(0)
            if processes := self._find(kind, min(deadline, time.time() + FOUND_WITHIN)):
                for process in processes:
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                self.kills.append(Kill(kind, time.time(), tuple(processes)))
                print(f"{time.strftime('%H:%M:%S')} killed {kind}: {processes}", flush=True)
                time.sleep(self._chance.uniform(2, 12))
            else:
                waiting.append(kind)

    def _find(self, kind: str, deadline: float) -> list[int]:
        """The processes of a kind, awaited until `deadline`."""
        if kind in self._begin:
            self._begin[kind]()
        while time.time() < deadline:
            if found := self._processes(kind):
                return found
            time.sleep(0.1)
        return []

    def _processes(self, kind: str) -> list[int]:
        if kind in SERVICES:
            return self._installation.processes(kind)
        commands = self._installation.commands()
        if kind == "everything":
            return list(commands)
        if kind == "up":
            return [pid for pid, command in commands.items() if command.rstrip().endswith("recoflow.cli up")]
        return [pid for pid in self._workers(WORKERS[kind]) if pid in commands]

    def _workers(self, job: str) -> list[int]:
        """Processes of started runs of a job, as their logs name them, once a step has begun."""
        found = []
        with self._installation.instance as instance:
            for run in instance.get_runs(dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.STARTED])):
                logs = instance.all_logs(run.run_id)
                if any(log.dagster_event is not None and log.dagster_event.is_step_start for log in logs):
                    pids = [re.search(r"pid: (\d+)", log.message) for log in logs]
                    found += [int(pid[1]) for pid in pids if pid][:1]
        return found
