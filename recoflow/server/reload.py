"""Environments' files that change while the installation runs: Dagster's code server starts again and reads them.

What belongs here: when that is right. What does not: how a service is started (`processes`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from recoflow.errors import ConfigurationError
from recoflow.server.processes import ServiceError
from recoflow.server.stack import Stack
from recoflow.settings.environment import load_all


@dataclass
class Changes:
    """Looks at the environments' files; `tell` gets a line for what a person should know."""

    stack: Stack
    tell: Callable[[str], None]
    _read: dict[str, bytes] = field(init=False)

    def __post_init__(self) -> None:
        """What lies there now was read when the installation started."""
        self._read = _contents(self.stack.layout.environments)

    def look(self) -> None:
        """Have files that changed read as soon as no run is at work; wrong ones are told, and not read."""
        try:
            present = _contents(self.stack.layout.environments)
        except FileNotFoundError:  # an editor is replacing one
            return
        if present == self._read:
            return
        changed = sorted(name for name in present | self._read if present.get(name) != self._read.get(name))
        try:
            load_all(self.stack.layout.environments)
        except ConfigurationError as error:
            self._read = present
            self.tell(f"No run starts until this is mended: {error}")
            return
        try:
            if self.stack.ui.is_busy():
                return
        except (OSError, HTTPException, ValueError):  # no answer in time, or none of use: ask at the next look
            return
        self._read = present
        try:
            self.stack.read_again()
        except ServiceError as error:
            self.tell(str(error))
        self.tell(f"{', '.join(changed)} changed: read again, except what the gateway and the SFTP server need")


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: _content(path) for path in folder.glob("*.yaml")}


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except PermissionError as error:  # as good as another content: whoever loads it says what is wrong
        return str(error).encode()
