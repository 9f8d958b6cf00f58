"""Dagster's own database while an installation runs.

What belongs here: keeping it open. What does not: what is in it, which is asked of the UI (`dagster_ui`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

import yaml

FILES: Final = ("schedules/schedules.db", "history/runs.db", "history/runs/index.db")


@contextmanager
def held_open(root: Path) -> Iterator[None]:
    """Keep a connection to each of the SQLite files that the instance of `root` has.

    Dagster's processes connect anew for each query, and whoever is the last to close such a file writes its log back
    and removes it: a quarter of what an idle daemon costs. Our connections read nothing and block nobody.
    """
    with ExitStack() as connections:
        for path in _files(root):
            connection = connections.enter_context(closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)))
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()  # it is opened by its first use
        yield


def _files(root: Path) -> list[Path]:
    instance = root / "dagster.yaml"
    settings = (yaml.safe_load(instance.read_text(encoding="utf-8")) if instance.exists() else None) or {}
    folder = settings.get("storage", {}).get("sqlite", {}).get("base_dir")
    return [] if folder is None else [path for name in FILES if (path := (root / folder / name).absolute()).exists()]
