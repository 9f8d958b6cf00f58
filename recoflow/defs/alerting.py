"""Alerts of sensors, which look every few seconds: one for each problem, not one for each look."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from recoflow.defs.clock import now
from recoflow.defs.resources import Installation
from recoflow.environment import Environment
from recoflow.errors import RecoflowError, StorageError
from recoflow.storage.alerts import raise_alert

_told: dict[tuple[str, str, str], frozenset[str]] = {}


def tell(installation: Installation, environment: Environment, place: str, problems: Sequence[RecoflowError]) -> None:
    """Alert about those problems of a place that the look before this one did not find."""
    key = installation.data, environment.name, place
    before = _told.get(key, frozenset())
    for problem in problems:
        if str(problem) not in before:
            raise_alert(installation.layout.alerts, problem, now(), environment.name)
    _told[key] = frozenset(map(str, problems))


@contextmanager
def told(installation: Installation, environment: Environment, place: str) -> Iterator[None]:
    """Alert about damage of the installation that a block meets; the error goes on."""
    try:
        yield
    except StorageError as error:
        tell(installation, environment, place, [error])
        raise
    tell(installation, environment, place, [])
