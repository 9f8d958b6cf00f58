"""Alerts: one line for an operator about a fault of the installation, in the log and on the console of `recoflow up`.

An alert names culprit, problem and cure. Any process appends to one file under data/logs; `recoflow up` prints what
is appended. Errors that concern one customer's file are not alerts: the customer gets them as an errors file.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from recoflow.errors import RecoflowError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alert:
    """A fault of the installation; `at` is when it was raised, in UTC, as ISO 8601."""

    at: str
    environment: str | None  # None: it concerns all
    culprit: str
    problem: str
    cure: str

    def __str__(self) -> str:
        where = f"{self.environment}: " if self.environment else ""
        return f"{where}{self.culprit}: {self.problem}. {self.cure}"


def raise_alert(path: Path, error: RecoflowError, at: datetime, environment: str | None = None) -> None:
    """Append an alert to the file `path` (`Layout.alerts`) and log it as an error."""
    alert = Alert(at.isoformat(timespec="seconds"), environment, error.culprit, error.problem, error.cure)
    logger.error("%s", alert)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(asdict(alert)) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())  # one write: lines of several processes do not mix
    finally:
        os.close(descriptor)


def raise_alert_daily(path: Path, error: RecoflowError, at: datetime, environment: str | None = None) -> None:
    """Raise an alert unless the same one was raised within a day: for faults that each run meets again."""
    told = (environment, error.culprit, error.problem, error.cure)
    since = (at - timedelta(days=1)).isoformat(timespec="seconds")
    if not any((a.environment, a.culprit, a.problem, a.cure) == told and a.at > since for a, _ in read_alerts(path)):
        raise_alert(path, error, at, environment)


def read_alerts(path: Path, offset: int = 0) -> Iterator[tuple[Alert, int]]:
    """The alerts behind a byte offset of the file, each with the offset behind it; none where there is no file."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield Alert(**json.loads(line)), offset
