"""Whether tables and the champion can be read.

What belongs here: looks at logs, sizes, footers and checksums. What does not: rows; damage within a file of the right
size shows when it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recoflow.errors import ModelError, StorageError
from recoflow.models.store import versions
from recoflow.operations.finding import Fault
from recoflow.storage import sql
from recoflow.storage.lake import damage
from recoflow.storage.lake.lake import TABLES, Lake
from recoflow.storage.paths import Paths

AREA = "lake"


def tables(layout: Paths, name: str) -> Iterator[Fault]:
    """One finding for each table that is damaged."""
    lake = Lake(layout.lake(name))
    for table in TABLES:
        folder = layout.lake(name) / table
        if not folder.exists():
            continue
        try:
            _look(lake, table, folder)
        except StorageError as error:
            yield Fault.of(AREA, error, name)


def champion_fault(layout: Paths, name: str) -> Iterator[Fault]:
    """Whether the model that serves is as it was written: every file has the checksum of its manifest."""
    try:
        versions.champion_bundle(layout.models(name))
    except ModelError as error:
        yield Fault.of("models", error, name)


def _look(lake: Lake, table: str, folder: Path) -> None:
    if wrong := damage.in_log(folder):
        raise wrong
    if lake.snapshot(table) is None:
        problem = "has no log, so that it is no table"
        raise StorageError(str(folder), problem, damage.cure(folder))
    with sql.connect() as connection:
        lake.view(connection, table)  # its files are there, and have its columns
    for file in lake.files(table):
        try:
            pq.read_metadata(file)
        except (pa.ArrowException, OSError) as error:
            raise damage.damaged(file, f"cannot be read: {str(error).splitlines()[0]}") from error
