"""Local files that cannot be taken in: an alert for each, once for as long as it lies there as it is."""

from collections.abc import Sequence

from recoflow.defs.clock import now
from recoflow.defs.resources import Installation
from recoflow.environment import Environment
from recoflow.errors import RecoflowError
from recoflow.storage.alerts import raise_alert

_told: dict[tuple[str, str], frozenset[str]] = {}


def tell(installation: Installation, environment: Environment, problems: Sequence[RecoflowError]) -> None:
    """Alert about those problems that the look before this one did not have."""
    place = installation.data, environment.name
    before = _told.get(place, frozenset())
    for problem in problems:
        if str(problem) not in before:
            raise_alert(installation.layout.alerts, problem, now(), environment.name)
    _told[place] = frozenset(map(str, problems))
