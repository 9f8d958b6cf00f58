"""Services that end by themselves are started again, later each time, and each end is reported.

What belongs here: when a service starts again. What does not: how (`processes`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from recoflow.errors import RecoflowError
from recoflow.server.processes import ManagedProcess, ServiceError

FIRST_WAIT = 1.0  # seconds; doubled with each end
LONGEST_WAIT = 60.0
STABLE_SECONDS = 300.0  # after so long a life the next wait is the first one again


@dataclass
class _Life:
    """What is known of one service; times are of `time.monotonic`."""

    started: float
    wait: float = FIRST_WAIT
    due: float | None = None  # when it starts again; None while it runs


@dataclass
class Supervisor:
    """Looks after running services.

    Args:
        services: all of them, running.
        start: starts one that has ended.
        report: called with each end, and with each start that failed.
        now: a monotonic clock, in seconds.
    """

    services: Sequence[ManagedProcess]
    start: Callable[[ManagedProcess], None]
    report: Callable[[RecoflowError], None]
    now: Callable[[], float] = time.monotonic
    _lives: dict[str, _Life] = field(init=False)

    def __post_init__(self) -> None:
        """All were started before now."""
        self._lives = {service.name: _Life(self.now()) for service in self.services}

    def look(self) -> None:
        """Report the services that have ended, and start those that are due."""
        for service in self.services:
            self._look(service, self._lives[service.name])

    def _look(self, service: ManagedProcess, life: _Life) -> None:
        if service.exit_code is None:
            life.due = None
        elif life.due is None:
            if self.now() - life.started >= STABLE_SECONDS:
                life.wait = FIRST_WAIT
            problem = f"stopped with exit code {service.exit_code} and starts again in {life.wait:.0f} s"
            self.report(ServiceError(service.name, problem, f"See {service.log}"))
            service.end_group()  # what it started answers to no process any more
            self._postpone(life)
        elif life.due <= self.now():
            try:
                self.start(service)
            except ServiceError as error:
                self.report(error)
                self._postpone(life)
            else:
                life.started, life.due = self.now(), None

    def _postpone(self, life: _Life) -> None:
        life.due = self.now() + life.wait
        life.wait = min(2 * life.wait, LONGEST_WAIT)
