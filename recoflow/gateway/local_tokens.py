"""Token files that the gateway makes for environments without tokens of their own, as in the sandbox.

Whoever can read such a file is the operator of this installation: `curl -H "Authorization: Bearer $(cat FILE)"`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from recoflow.errors import StorageError


def make(path: Path) -> None:
    """Write a random token into `path`, readable by its owner only, unless the file exists.

    Raises:
        StorageError: the folder cannot be written.
    """
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{secrets.token_urlsafe(32)}\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another gateway of this installation was faster
            path.hardlink_to(temporary)
        temporary.unlink()
    except OSError as error:
        raise StorageError(str(path), f"cannot be written: {error}", "Check the folder and its rights") from error
