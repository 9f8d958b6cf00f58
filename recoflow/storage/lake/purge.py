"""Making deleted rows unreadable: what `Lake.delete` took out of a table leaves the disk.

What belongs here: old files and old log entries of tables. What does not: which rows go (`recoflow.erasure`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from deltalake.exceptions import DeltaError

from recoflow.errors import StorageError
from recoflow.storage import sql
from recoflow.storage.lake.lake import Lake

_LOG: Final = "delta.logRetentionDuration"
_FOR_NOW: Final = "interval 0 seconds"
_USUALLY: Final = "interval 30 days"  # Delta's own default


def purge(lake: Lake, table: str) -> int:
    """Remove what only former versions of a table need, log entries too; returns how many data files went.

    A log entry tells what was deleted in its own words (`user_id = 'ann'`), and the smallest and largest value of each
    column of a file, so the log is begun anew at a checkpoint. Transaction ids and rows stay. A reader or writer that
    is at work on a former version fails and has to begin again.

    Raises:
        StorageError: the table cannot be written.
    """
    removed = lake.vacuum(table, keep_hours=0)
    snapshot = lake.snapshot(table)
    if snapshot is None:
        return removed
    handle = snapshot.handle
    try:
        handle.alter.set_table_properties({_LOG: _FOR_NOW})
        handle.create_checkpoint()
        handle.cleanup_metadata()
        handle.alter.set_table_properties({_LOG: _USUALLY})
    except (DeltaError, OSError) as error:
        problem = f"cannot be cleared of its history: {str(error).splitlines()[0]}"
        raise StorageError(f"{lake.root}/{table}", problem, "Run this again when nobody writes to the table") from error
    return removed


def replace_texts(lake: Lake, table: str, column: str, texts: Mapping[str, str], rows: str) -> None:
    """Write other texts into a column: old text → new text; `purge` then removes the old ones from the disk.

    Args:
        lake, table, column: where.
        texts: old text → new text.
        rows: SQL predicate of the rows that may be changed.

    Raises:
        StorageError: the table cannot be written.
    """
    cases = " ".join(f"WHEN {sql.quoted(old)} THEN {sql.quoted(new)}" for old, new in texts.items())
    handle = lake.ensure(table).handle
    try:
        handle.update(
            updates={column: f"CASE {column} {cases} END"},
            predicate=f"({rows}) AND {column} IN ({', '.join(map(sql.quoted, texts))})",
        )
    except (DeltaError, OSError) as error:
        problem = f"cannot be changed: {str(error).splitlines()[0]}"
        raise StorageError(
            f"{lake.root}/{table}", problem, "Run this again when nothing writes to the table"
        ) from error
