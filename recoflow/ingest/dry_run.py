"""What an ingest would make of files, without one.

What belongs here: files into a lake that is thrown away afterwards, so that every count is the one of a real ingest.
What does not: the rules, the accounting (commit.py), what accepted events are good for (event_quality/profile.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import polars as pl

from recoflow.ingest.run import FileReport, ingest_batches
from recoflow.schema import Counts, ParsedBatch
from recoflow.settings.environment import Environment
from recoflow.storage.lake.lake import Lake
from recoflow.storage.scratch import Scratch

REJECT_COLUMNS: Final = ("file", "line", "field", "code", "message")

Watch = Callable[[Path, Iterator[ParsedBatch]], Iterator[ParsedBatch]]  # sees a file's batches pass, for progress


@dataclass(frozen=True)
class DryRun:
    """An ingest that does not last."""

    lake: Lake
    reports: tuple[FileReport, ...]  # in the order of the files

    @property
    def counts(self) -> Counts:
        """Of all files together."""
        return sum((report.counts for report in self.reports), Counts())

    def rejects(self) -> pl.DataFrame:
        """`schema.REJECTS` in the order of files and lines."""
        names = list(dict.fromkeys(report.name for report in self.reports))
        place = pl.col("file").cast(pl.Enum(names))
        return self.lake.scan("quarantine").collect().sort(place, "line", nulls_last=True, maintain_order=True)


@dataclass(frozen=True)
class Validation:
    """What became of each file, and why events were refused."""

    reports: tuple[FileReport, ...]
    counts: Counts
    rejects: pl.DataFrame  # REJECT_COLUMNS

    def as_json(self) -> dict[str, Any]:
        """read, accepted, quarantined, duplicates, and rejects [{file, line, field, code, message}]."""
        return {**vars(self.counts), "rejects": self.rejects.to_dicts()}


def unwatched(_path: Path, batches: Iterator[ParsedBatch]) -> Iterator[ParsedBatch]:
    """Let the batches pass."""
    return batches


@contextlib.contextmanager
def trial(
    paths: Sequence[Path], environment: Environment, received_at: datetime, *, watch: Watch = unwatched
) -> Iterator[DryRun]:
    """Take files in, in their order, into a lake in the system's temporary folder that ends with the block.

    A file that is given twice is read twice: what was accepted the first time is a duplicate the second time. Files are
    called by their names, or by their paths where two have one name.

    Raises:
        SourceError: a file cannot be read at all.
        StorageError: the temporary folder cannot be written.
    """
    from recoflow.formats import files  # noqa: PLC0415  (parsers are heavy)

    names = [path.name for path in paths]
    with Scratch() as folder:
        lake = Lake(folder)
        reports = []
        for place, path in enumerate(paths):
            name = path.name if names.count(path.name) == 1 else str(path)
            batches = watch(path, files.read_events(path, environment, received_at, name=path.name))
            named = (replace(each, rejects=each.rejects.with_columns(file=pl.lit(name))) for each in batches)
            reports.append(ingest_batches(named, lake, received_at, name=name, sha256=f"file {place}"))
        yield DryRun(lake, tuple(reports))


def dry_run(
    paths: Sequence[Path], environment: Environment, received_at: datetime, *, watch: Watch = unwatched
) -> Validation:
    """Read files as an ingest of them in this order would, into an empty lake; nothing is kept.

    Raises:
        SourceError: a file cannot be read at all.
        StorageError: the temporary folder cannot be written.
    """
    with trial(paths, environment, received_at, watch=watch) as made:
        return Validation(made.reports, made.counts, made.rejects().select(REJECT_COLUMNS))
