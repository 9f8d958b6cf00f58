"""The versions of an environment's model: which are there, which one serves, which may go.

What belongs here: the pointer and the folder of versions. What does not: a bundle's files (see `bundle`), the decision
to promote (see `select`).

    <models>/champion.json    {"version": …}, replaced atomically
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Final

from recoflow.errors import ModelError
from recoflow.models import bundle
from recoflow.models.bundle import MANIFEST, Bundle
from recoflow.storage import artifacts

POINTER: Final = "champion.json"


def promote(models: Path, version: str) -> Bundle:
    """Make `version` the champion, after reading it whole, and return it.

    Raises:
        ModelError: when the bundle is missing or damaged; the old champion stays.
    """
    promoted = bundle.load(models / version)
    artifacts.write_atomic(models / POINTER, (json.dumps({"version": version}) + "\n").encode())
    return promoted


def champion_version(models: Path) -> str | None:
    """The version in service, or None before the first promotion.

    Raises:
        ModelError: when the pointer is unreadable.
    """
    path = models / POINTER
    if not path.exists():
        return None
    try:
        version = json.loads(path.read_text(encoding="utf-8"))["version"]
    except (ValueError, KeyError, TypeError):
        raise ModelError(str(path), "is not a pointer to a version", "Promote a version again") from None
    if version not in known(models):
        raise ModelError(str(path), f"names version {version!r}, which is not there", "Promote another version")
    return str(version)


def champion(models: Path) -> Bundle | None:
    """The bundle in service, or None before the first promotion.

    Raises:
        ModelError: when the pointer or the bundle is damaged: nothing else is served in its place.
    """
    version = champion_version(models)
    return None if version is None else bundle.load(models / version)


def known(models: Path) -> list[str]:
    """Versions that are there, oldest first."""
    return sorted(path.parent.name for path in models.glob(f"*/{MANIFEST}") if not path.parent.name.startswith("."))


def prune(models: Path, keep: int) -> list[str]:
    """Delete all but the newest `keep` versions and the champion; returns the versions that went."""
    current = champion_version(models)
    gone = [version for version in known(models)[:-keep] if version != current]
    for version in gone:
        doomed = models / f".{version}.{os.getpid()}.doomed"
        (models / version).rename(doomed)
        shutil.rmtree(doomed)
    return gone
