"""Folders of the system's temporary directory: each is held by a lock, so that those of dead processes can be told.

What belongs here: making and clearing such folders. What does not: temporary files beside what they replace.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

PREFIX: Final = "recoflow-scratch-"
YOUNG_SECONDS: Final = 60.0  # between the making of a folder and its lock no time passes that a person would notice


class Scratch(tempfile.TemporaryDirectory[str]):
    """A folder that goes with the block or the process; where that is killed, `clear` removes it later."""

    def __init__(self) -> None:
        super().__init__(prefix=PREFIX)
        self._lock = os.open(self.name, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def cleanup(self) -> None:
        """Remove the folder and what is in it."""
        super().cleanup()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def left(now: float) -> list[Path]:
    """Folders of this user whose processes are gone; `now` in seconds since 1970."""
    return [path for path in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")) if _is_left(path, now)]


def clear_scratch(now: float) -> list[Path]:
    """Remove them and return which they were."""
    found = left(now)
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    return found


def _is_left(path: Path, now: float) -> bool:
    try:
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or now - status.st_ctime < YOUNG_SECONDS:
            return False
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
