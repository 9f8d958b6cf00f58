"""What was refused: looking at it, handing it out for mending, and trying it again after a change of configuration.

What belongs here: the quarantine after ingest. What does not: why an event is refused (sources, dedupe.py).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import polars as pl

from recoflow.environment import Environment
from recoflow.events.ingest import CONFLICT, ingest_batches
from recoflow.storage import artifacts, sql
from recoflow.storage.lake import Lake

DELETED_AT_ONCE: Final = 500


@dataclass(frozen=True)
class Replay:
    """What trying again came to, in events."""

    tried: int
    passed: int  # accepted now, or duplicates of what was accepted since


def listing(
    lake: Lake, *, file: str | None = None, code: str | None = None, since: datetime | None = None
) -> pl.DataFrame:
    """Refused events, latest first: `schema.REJECTS`, of one file, one code or received from a time on if given."""
    rows = lake.scan("quarantine")
    if file is not None:
        rows = rows.filter(pl.col("file") == file)
    if code is not None:
        rows = rows.filter(pl.col("code") == code)
    if since is not None:
        rows = rows.filter(pl.col("received_at") >= since)
    order = ["received_at", "file", "line", "raw"]
    return rows.sort(order, descending=[True, False, False, False], nulls_last=True).collect()


def export(rejects: pl.DataFrame, path: Path) -> None:
    """Write the raw texts, one a line, as a file that can be mended and dropped again."""
    lines = "".join(f"{_on_one_line(raw)}\n" for raw in rejects["raw"])
    artifacts.write_atomic(path, lines.encode())


def replay(lake: Lake, environment: Environment) -> Replay:
    """Read refused events again under the present configuration; those that pass move to the lake.

    An event keeps its time of receipt. Conflicts stay: the first event of an id stays. So do rows of CSV files, whose
    header is not kept: drop those files again.
    """
    rejects = listing(lake).filter(pl.col("code") != CONFLICT, pl.col("raw").map_elements(_is_json, pl.Boolean))
    passed = 0
    for arrival in rejects.select("file", "received_at").unique().sort("file", "received_at").iter_rows(named=True):
        raws = rejects.filter(file=arrival["file"], received_at=arrival["received_at"])["raw"]
        passing = _replay_file(lake, environment, raws.unique(maintain_order=True).to_list(), **arrival)
        _remove(lake, arrival["file"], passing)
        passed += raws.is_in(passing).to_list().count(True)
    return Replay(rejects.height, passed)


def _replay_file(
    lake: Lake, environment: Environment, raws: Sequence[str], *, file: str, received_at: datetime
) -> list[str]:
    """Take those raw texts in that pass now, and return them."""
    from recoflow.sources import files  # noqa: PLC0415  (parsers are heavy)

    with tempfile.TemporaryDirectory(prefix="recoflow-") as folder:
        path = Path(folder) / "replay.jsonl"
        path.write_text("".join(f"{_on_one_line(raw)}\n" for raw in raws), encoding="utf-8")
        refused = {
            line for batch in files.read(path, environment, received_at, name=file) for line in batch.rejects["line"]
        }
        passing = [raw for line, raw in enumerate(raws, start=1) if line not in refused]
        if passing:
            path.write_text("".join(f"{_on_one_line(raw)}\n" for raw in passing), encoding="utf-8")
            batches = files.read(path, environment, received_at, name=file)
            ingest_batches(batches, lake, received_at, name=file, sha256=artifacts.sha256(path))
    return passing


def _remove(lake: Lake, file: str, raws: Sequence[str]) -> None:
    for start in range(0, len(raws), DELETED_AT_ONCE):
        texts = ", ".join(map(sql.quoted, raws[start : start + DELETED_AT_ONCE]))
        lake.delete("quarantine", f"file = {sql.quoted(file)} AND code <> '{CONFLICT}' AND raw IN ({texts})")


def _is_json(raw: str) -> bool:
    try:
        return isinstance(json.loads(raw), dict)
    except ValueError:
        return False


def _on_one_line(raw: str) -> str:
    """JSON has no line breaks but between its tokens, where a space is as good."""
    return raw.replace("\r", " ").replace("\n", " ")
