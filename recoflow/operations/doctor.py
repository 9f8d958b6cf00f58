"""The examination of an installation: each area in its order.

What belongs here: the order, and what an area gives that cannot be examined. What does not: the looks themselves
(lake.py, exchange.py, folders.py, runs.py).

Looks change nothing, and may be taken while everything runs. With `is_repairing`, what is safe is done as well:
nothing that came in or goes out is removed, and nothing of a living process is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from recoflow.operations import exchange, folders, lake, runs
from recoflow.operations.finding import Fault
from recoflow.settings import environment as environments
from recoflow.settings.environment import Environment
from recoflow.storage.paths import Paths


def examine_installation(layout: Paths, home: Path, now: datetime, *, is_repairing: bool = False) -> list[Fault]:
    """What is wrong, area by area.

    Args:
        layout: the installation.
        home: the folder of dagster.yaml, DAGSTER_HOME.
        now: UTC.
        is_repairing: whether to do what is safe.

    Raises:
        ConfigurationError: an environment's file is wrong, or `home` is no installation.
    """
    found = environments.load_all(layout.environments)
    looks = [*folders.disk(layout, found), *runs.examine_runs(layout, home, is_repairing=is_repairing)]
    looks += folders.leftovers(layout, found, now, is_repairing=is_repairing)
    for each in found:
        looks += _of_environment(layout, each, now, is_repairing=is_repairing)
    return looks


def _of_environment(layout: Paths, environment: Environment, now: datetime, *, is_repairing: bool) -> Iterator[Fault]:
    yield from lake.tables(layout, environment.name)
    yield from lake.champion_fault(layout, environment.name)
    yield from exchange.examine_exchange(layout, environment, is_repairing=is_repairing)
    yield from folders.waiting_files(layout, environment, now, is_repairing=is_repairing)
