"""`recoflow up`: a stack that is looked after until a signal ends it.

Services that end are started again, changed environments are read, and alerts of all processes appear on the console.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from recoflow.errors import RecoflowError
from recoflow.server import stack
from recoflow.server.reload import Changes
from recoflow.server.supervision import Supervisor
from recoflow.storage import alerts as alert_file
from recoflow.storage.alerts import raise_alert, read_alerts
from recoflow.storage.paths import Paths

LOOK_SECONDS = 1.0


def run_until_stopped(root: Path, layout: Paths, tell: Callable[[str], None]) -> None:
    """Keep the installation running until SIGINT, SIGTERM or SIGHUP; then stop all of it.

    Args:
        root: the folder of workspace.yaml and dagster.yaml.
        layout: the data folder.
        tell: called with each line for the console.

    Raises:
        ConfigurationError: an environment's file is wrong, or the data folder cannot be used.
        ServiceError: a service does not start. From then on, those that end are started again.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup means it
            signal.signal(number, _stop)
    logging.getLogger(alert_file.__name__).addHandler(logging.NullHandler())  # else Python prints alerts, too
    with suppress(KeyboardInterrupt), stack.up(root, layout, tell) as running:
        alerts = Alerts(layout.alerts, tell)
        supervisor = Supervisor(running.services, running.start, alerts.report)
        changes = Changes(running, tell)
        tell("Ctrl-C stops everything.")
        try:
            while True:
                supervisor.look()
                changes.look()
                alerts.look()
                time.sleep(LOOK_SECONDS)
        except KeyboardInterrupt:
            tell("Stopping …")


def _stop(*_: object) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a closed terminal sends it twice; stopping goes on
    raise KeyboardInterrupt


@dataclass
class Alerts:
    """Prints each alert that any process appends to the file from now on."""

    path: Path
    tell: Callable[[str], None]

    def __post_init__(self) -> None:
        """What lies in the file already was printed by an earlier `up`."""
        self._offset = self._size()

    def report(self, error: RecoflowError) -> None:
        """Raise an alert; where the file cannot be written, the console alone has it."""
        try:
            raise_alert(self.path, error, datetime.now(UTC))
        except OSError as problem:
            self.tell(f"{_visible(str(error))} ({self.path}: {problem})")

    def look(self) -> None:
        """Print what was appended since the last look."""
        if self._size() < self._offset:  # the file was emptied, or another took its place
            self._offset = 0
        for alert, offset in read_alerts(self.path, self._offset):
            self._offset = offset
            self.tell(f"{datetime.now(UTC):%H:%M:%S} {_visible(str(alert))}")

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0


def _visible(text: str) -> str:
    """One line that moves no cursor: alerts quote file names and other foreign text."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
