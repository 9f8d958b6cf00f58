"""Dagster's runs and pool slots, which only recoflow.defs knows: asked of a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from recoflow.errors import ConfigurationError
from recoflow.operations.finding import Fault
from recoflow.storage.paths import DATA_VARIABLE, Paths

AREA = "runs"
SECONDS = 120


def storage(layout: Paths, home: Path) -> Path:
    """The folder of Dagster's databases, by the dagster.yaml in `home`, which gives it relative to the data folder.

    Raises:
        ConfigurationError: there is none, or it names no folder.
    """
    path = home / "dagster.yaml"
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        return layout.root / str(settings["storage"]["custom"]["config"]["base_dir"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        problem = "is missing, or does not say where Dagster's storage is"
        raise ConfigurationError(
            str(path), problem, "Run this in the folder of dagster.yaml, or set DAGSTER_HOME"
        ) from None


def examine_runs(layout: Paths, home: Path, *, is_repairing: bool) -> Iterator[Fault]:
    """Runs whose worker is gone, and pool slots that no living run holds."""
    if not (storage(layout, home) / "history" / "runs.db").exists():
        return
    command = [sys.executable, "-m", "recoflow.defs.stuck_runs", *(["--repair"] if is_repairing else [])]
    variables = {**os.environ, "DAGSTER_HOME": str(home), DATA_VARIABLE: str(layout.root)}
    try:
        asked = subprocess.run(
            command, cwd=home, env=variables, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        problem = asked.stderr.strip().splitlines()[-1:] if asked.returncode else []
    except subprocess.TimeoutExpired:
        problem = [f"gave no answer in {SECONDS} s"]
    if problem:
        cure = "Look at its files, or restore them from a backup"
        yield Fault(AREA, str(storage(layout, home)), f"cannot be read: {problem[0]}", cure)
        return
    for found in json.loads(asked.stdout):
        yield Fault(AREA, **found)
