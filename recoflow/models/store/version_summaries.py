"""The versions of an environment's model as their manifests describe them; their other files are not read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recoflow.errors import ModelError
from recoflow.models.store import bundle_files
from recoflow.models.store.bundle_files import MANIFEST


@dataclass(frozen=True)
class VersionSummary:
    """One version as its manifest describes it; `problem` says why the manifest cannot be read.

    `metrics` is the chosen candidate's row of `tables.METRICS` and `segments` its rows of `tables.SEGMENTS`: how it was
    judged before it was trained on everything.
    """

    version: str
    trained_at: datetime | None
    model: dict[str, Any]
    metrics: dict[str, Any]
    segments: tuple[dict[str, Any], ...]
    refused_by: tuple[str, ...]
    problem: str | None = None


def known_versions(models: Path) -> list[str]:
    """Versions that are there, oldest first."""
    return sorted(path.parent.name for path in models.glob(f"*/{MANIFEST}") if not path.parent.name.startswith("."))


def version_summaries(models: Path) -> list[VersionSummary]:
    """Every version that is there, oldest first, as its manifest describes it; their files are not read."""
    return [version_summary(models, version) for version in known_versions(models)]


def version_summary(models: Path, version: str) -> VersionSummary:
    """One version as its manifest describes it."""
    try:
        manifest = bundle_files.read_manifest(models / version)
    except ModelError as error:
        return VersionSummary(version, None, {}, {}, (), (), str(error))
    model = manifest["model"]
    metrics, segments = (
        [row for row in manifest.get(table, ()) if row["role"] == "candidate" and row["model"] == model["name"]]
        for table in ("metrics", "segments")
    )
    trained_at = datetime.fromisoformat(manifest["as_of"]).astimezone(UTC)
    refused_by = tuple(manifest["refused_by"])
    return VersionSummary(version, trained_at, model, metrics[0] if metrics else {}, tuple(segments), refused_by)
