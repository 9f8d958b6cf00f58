"""Faults that sensors meet tick after tick: an alert when one begins, none while it lasts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from recoflow.defs.clock import now
from recoflow.defs.resources import Installation
from recoflow.errors import RecoflowError
from recoflow.settings.environment import Environment
from recoflow.storage import alerts


class Standing:
    """What the sensors of one environment cannot get past now, for as long as this process lives."""

    def __init__(self, environment: Environment, installation: Installation) -> None:
        self._environment = environment
        self._installation = installation
        self._told: dict[str, frozenset[str]] = {}  # place → what is wrong there
        self._faults: dict[str, tuple[str, str]] = {}  # sensor → kind and culprit

    def tell(self, place: str, errors: Sequence[RecoflowError]) -> None:
        """All that is wrong at a place now; what was not wrong there before is an alert."""
        for error in errors:
            if str(error) not in self._told.get(place, frozenset()):
                alerts.raise_alert(self._installation.layout.alerts, error, now(), self._environment.name)
        self._told[place] = frozenset(map(str, errors))

    @contextmanager
    def watching(self, sensor: str) -> Iterator[None]:
        """A tick of a sensor: its error passes, and is an alert unless a sensor met it before and meets it still."""
        try:
            yield
        except RecoflowError as error:
            fault = type(error).__name__, error.culprit
            is_new = fault not in self._faults.values()
            self._faults[sensor] = fault
            if is_new:
                alerts.raise_alert(self._installation.layout.alerts, error, now(), self._environment.name)
            raise
        self._faults.pop(sensor, None)
