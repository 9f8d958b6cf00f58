"""What was refused: looking at it, handing it out for mending, and trying it again after a change of configuration.

What belongs here: the quarantine after ingest. What does not: why an event is refused (sources, dedupe.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import polars as pl

from recoflow import schema
from recoflow.errors import StorageError
from recoflow.ingest.conflicts import CONFLICT
from recoflow.ingest.run import ingest_batches
from recoflow.schema import Counts
from recoflow.settings.environment import Environment
from recoflow.storage import atomic_files
from recoflow.storage.lake.lake import ATTEMPTS, CommitConflictError, Lake
from recoflow.storage.scratch import Scratch

ORDER: Final = ("received_at", "file", "line", "raw")
CSV_NAME: Final = r"(?i)\.csv(\.gz|\.zst)?$"
IS_CSV: Final = pl.col("file").str.contains(CSV_NAME)


@dataclass(frozen=True)
class Selection:
    """Which refused events are meant; None leaves a question open."""

    file: str | None = None
    code: str | None = None
    field: str | None = None
    since: datetime | None = None  # time of receipt, with a zone

    def of(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """These among rows of `schema.REJECTS`."""
        for name in ("file", "code", "field"):
            value = getattr(self, name)
            if value is not None:
                rows = rows.filter(pl.col(name) == value)
        return rows if self.since is None else rows.filter(pl.col("received_at") >= self.since)


EVERYTHING: Final = Selection()


@dataclass(frozen=True)
class Replay:
    """What trying again came to, in events."""

    tried: int
    accepted: int  # in the lake now
    duplicates: int  # were in the lake already
    conflicts: int  # their id is taken by another content; in the quarantine under that code now
    without_header: int  # rows of CSV files that wait for their header, not tried

    @property
    def left(self) -> int:
        """Events that are refused still, of those that were tried."""
        return self.tried - self.accepted - self.duplicates


def listing(lake: Lake, selection: Selection = EVERYTHING, *, limit: int | None = None) -> pl.DataFrame:
    """Refused events, latest first, then by file and line: `schema.REJECTS`, no more than `limit` rows."""
    rows = selection.of(lake.scan("quarantine")).sort(ORDER, descending=[True, False, False, False], nulls_last=True)
    return (rows if limit is None else rows.head(limit)).collect()


def by_code(lake: Lake, selection: Selection = EVERYTHING) -> pl.DataFrame:
    """How often each reason occurs: code, field, events, files, latest (time of receipt); the most frequent first."""
    counted = (
        selection.of(lake.scan("quarantine"))
        .group_by("code", "field")
        .agg(events=pl.len(), files=pl.col("file").n_unique(), latest=pl.col("received_at").max())
    )
    return counted.sort("events", "code", "field", descending=[True, False, False], nulls_last=True).collect()


def export_quarantine(rejects: pl.DataFrame, path: Path) -> None:
    """Write the raw texts as a file that can be mended and dropped again; CSV rows still need their header."""
    atomic_files.write_atomic(path, "".join(_lines(rejects)).encode())


def replay(
    lake: Lake, environment: Environment, selection: Selection = EVERYTHING, *, header: str | None = None
) -> Replay:
    """Read refused events again under the present configuration; those that pass move to the lake, the others stay.

    An event keeps its time of receipt. Conflicts stay: the first event of an id stays. A replay that was cut off is
    completed by the next one, and every event counts once.

    Args:
        lake: of the environment.
        environment: as configured now.
        selection: what to try.
        header: the first line of the CSV files that rows of CSV come from; without it they are not tried.

    Raises:
        SourceError: the header is none.
        StorageError: the lake cannot be read or written.
    """
    rejects = listing(lake, selection).filter(pl.col("code") != CONFLICT)
    # A CSV row whose text could not be taken apart has no field, and no configuration changes that.
    rows = rejects.filter(IS_CSV, pl.col("field").is_not_null())
    objects = rejects.filter(~IS_CSV, pl.col("raw").map_elements(_is_object, pl.Boolean))
    tried = objects if header is None else pl.concat([objects, rows])
    passed = [pl.DataFrame(schema=schema.REJECTS)]
    counts = Counts()
    for _, arrived in tried.group_by("file", "received_at", maintain_order=True):
        passing, became = _replay_file(lake, environment, arrived, header)
        passed.append(passing)
        counts += became
    _remove(lake, pl.concat(passed))
    without_header = rows.height if header is None else 0
    return Replay(tried.height, counts.accepted, counts.duplicates, counts.quarantined, without_header)


def _replay_file(
    lake: Lake, environment: Environment, arrived: pl.DataFrame, header: str | None
) -> tuple[pl.DataFrame, Counts]:
    """Take in what passes now of the rejects of one file and one time of receipt; these rejects, and their fate."""
    from recoflow.formats import files  # noqa: PLC0415  (parsers are heavy)

    name, received_at = arrived.row(0, named=True)["file"], arrived.row(0, named=True)["received_at"]
    head = f"{header}\n" if arrived.select(IS_CSV.any()).item() else ""
    with Scratch() as folder:
        path = Path(folder) / "replay"
        texts = _lines(arrived)
        path.write_text(head + "".join(texts), encoding="utf-8", newline="")
        refused = pl.concat(
            [batch.rejects["line"] for batch in files.read_events(path, environment, received_at, name=name)]
            or [pl.Series(dtype=pl.Int64)]
        )
        begins = texts.str.count_matches("\n").cum_sum().shift(1, fill_value=0) + head.count("\n") + 1
        passing = arrived.filter(~begins.cast(pl.Int64).is_in(refused.implode()))
        if passing.is_empty():
            return passing, Counts()
        content = head + "".join(_lines(passing))
        path.write_text(content, encoding="utf-8", newline="")
        # The lines are those of the replay, not of the file that these events came in.
        batches = (
            replace(batch, event_lines=None, update_lines=None)
            for batch in files.read_events(path, environment, received_at, name=name)
        )
        # Another id than the content's own: a file that was refused as a whole is known by that one.
        known_as = hashlib.sha256(f"replay\0{name}\0{received_at.isoformat()}\0{content}".encode()).hexdigest()
        return passing, ingest_batches(batches, lake, received_at, name=name, sha256=known_as).counts


def _remove(lake: Lake, rejects: pl.DataFrame) -> None:
    """Take rows out of the quarantine in one commit; rows that others add meanwhile stay."""
    if rejects.is_empty():
        return
    for _ in range(ATTEMPTS):
        snapshot = lake.ensure("quarantine")
        rows = lake.scan("quarantine", snapshot.files)
        rest = rows.join(rejects.lazy(), on=rejects.columns, how="anti", nulls_equal=True).collect()
        staged = [lake.stage("quarantine", rest)]
        try:
            lake.commit(snapshot, staged, transactions={}, mode="overwrite")
        except CommitConflictError:
            lake.discard(staged, lake.snapshot("quarantine"))
        else:
            return
    raise StorageError(f"{lake.root}/quarantine", "is changed without a pause", "Try again later")


def _is_object(raw: str) -> bool:
    with contextlib.suppress(ValueError):
        return isinstance(json.loads(raw), dict)
    return False


def _lines(rejects: pl.DataFrame) -> pl.Series:
    """The raw texts with a line end each. JSON has line ends between tokens only, where a space is as good."""
    on_one_line = pl.col("raw").str.replace_all(r"[\r\n]", " ")
    return rejects.select(pl.when(IS_CSV).then(pl.col("raw")).otherwise(on_one_line) + "\n").to_series()
