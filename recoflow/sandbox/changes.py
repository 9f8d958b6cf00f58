"""Environments' files that change while the installation runs: Dagster's code server starts again and reads them.

What belongs here: when that is right. What does not: how a service is started (`services`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from recoflow.environment import load_all
from recoflow.errors import ConfigurationError
from recoflow.sandbox.stack import Stack


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
        present = _contents(self.stack.layout.environments)
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
        except OSError:  # no answer in time: ask at the next look
            return
        self._read = present
        self.stack.read_again()
        self.tell(f"{', '.join(changed)} changed: read again, except what the gateway and the SFTP server need")


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.yaml")}
