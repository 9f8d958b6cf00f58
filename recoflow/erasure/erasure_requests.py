"""Requests to forget people that come by the API, and what became of every request, whatever way it came.

What belongs here: filing a request in the local inbox, where a file from a person at the machine would lie too, and one
small JSON file per request that tells its state. What does not: request files (request_file.py), forgetting (erase.py).

Nothing here outlives a request and names a person: the file is emptied when it has been carried out, its name is drawn
by lot, and the report has numbers only. One that could not be completed is put aside and repeated by the next ingest.
"""

from __future__ import annotations

import csv
import io
import json
import uuid
from pathlib import Path
from typing import Any, Final

from recoflow.erasure import request_file
from recoflow.erasure.erase import Report
from recoflow.errors import SourceError
from recoflow.storage import atomic_files
from recoflow.storage.paths import Paths

WAITING, RUNNING, DONE, REFUSED = STATES = ("waiting", "running", "done", "refused")
_ID: Final = frozenset("0123456789abcdef")


def submit(layout: Paths, environment: str, user_ids: frozenset[str], device_ids: frozenset[str]) -> str:
    """Put a request where the next ingest finds it and return its id; it is on disk then.

    A request for the same ids that still waits is not filed again: its id is returned. One that has been taken up is no
    answer, for events may have come in behind it.

    Raises:
        OSError: it could not be written, and is not filed.
    """
    folder = layout.inbox(environment)
    for path in sorted(folder.glob(_name(environment, "*"))):
        if state(layout, environment, path.name) is None and _ids(path) == (user_ids, device_ids):
            return path.stem.rpartition("_")[2]
    case = uuid.uuid4().hex
    text = io.StringIO(newline="")
    rows = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    rows.writerow(request_file.COLUMNS)
    rows.writerows([(each, "") for each in sorted(user_ids)] + [("", each) for each in sorted(device_ids)])
    atomic_files.write_atomic(folder / _name(environment, case), text.getvalue().encode())
    return case


def look_up(layout: Paths, environment: str, case: str) -> dict[str, Any] | None:
    """State and, when it was carried out, report of a request by the id that `file` gave; None when there is none."""
    if not case or set(case) - _ID:
        return None
    name = _name(environment, case)
    waiting = {"state": WAITING} if (layout.inbox(environment) / name).exists() else None
    return state(layout, environment, name) or waiting


def state(layout: Paths, environment: str, name: str) -> dict[str, Any] | None:
    """What is known of the request that came under this name; None before an ingest has taken it up."""
    try:
        content = _path(layout, environment, name).read_bytes()
    except FileNotFoundError:
        return None
    found: dict[str, Any] = json.loads(content)
    return found


def begin(layout: Paths, environment: str, name: str) -> None:
    """A run takes the request up: what comes in from now on may escape it."""
    _write(layout, environment, name, {"state": RUNNING})


def finish(layout: Paths, environment: str, name: str, report: Report) -> None:
    """It was carried out."""
    _write(layout, environment, name, {"state": DONE, "report": report.as_json()})


def put_aside(layout: Paths, environment: str, name: str, path: Path, report: Report) -> None:
    """Something of the people remains: keep the request for the next ingest. `path` is then no longer needed."""
    atomic_files.write_atomic(unfinished(layout, environment) / name, path.read_bytes())
    _write(layout, environment, name, {"state": RUNNING, "report": report.as_json()})


def unfinished(layout: Paths, environment: str) -> Path:
    """The folder of requests that every ingest repeats until nothing remains."""
    return layout.inbox(environment) / "unfinished"


def refuse(layout: Paths, environment: str, name: str, problem: str) -> None:
    """It cannot be read as a request."""
    _write(layout, environment, name, {"state": REFUSED, "problem": problem})


def _name(environment: str, case: str) -> str:
    return f"{environment}_forget_{case}.csv"


def _path(layout: Paths, environment: str, name: str) -> Path:
    return layout.forgotten(environment) / f"{name}.json"


def _write(layout: Paths, environment: str, name: str, content: dict[str, Any]) -> None:
    atomic_files.write_atomic(_path(layout, environment, name), json.dumps(content, indent=2).encode())


def _ids(path: Path) -> tuple[frozenset[str], frozenset[str]] | None:
    """Whom a filed request names; None when a run has just moved or emptied it."""
    try:
        return request_file.read_request_file(path, path.name)
    except (FileNotFoundError, SourceError):
        return None
