"""Which of the rows that just arrived are new: one rule for events and catalogue updates, in SQL on DuckDB.

What belongs here: the comparison of staged files with each other and with the lake. What does not: commits and
accounting (commit.py).

A source event is known by its key (kind, event_id) or (entity, event_id) and its content hash. The first one of a key
stays. A later one with the same hash is a duplicate, one with another hash a conflict. A Metarank ranking is one source
event of several rows, told apart by `part`; its row with part 1 stands for it wherever source events are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from recoflow.storage import sql
from recoflow.storage.lake.staging import StagedFile
from recoflow.storage.lake.table_format import ID_HASH, IDS

AT_ONCE: Final = 10_000_000  # hashes that are sorted at once; 8 bytes each
PARTS: Final = {"events": "part", "updates": "0"}

CANDIDATES: Final = "SELECT DISTINCT file_index FROM {files} SEMI JOIN arrivals USING (id_hash)"

FOUND: Final = """
INSERT INTO in_lake
SELECT scope, event_id, any_value(content_hash)
FROM (SELECT {columns} FROM {files})
SEMI JOIN arrivals USING (id_hash, scope, event_id)
ANTI JOIN in_lake USING (scope, event_id)
WHERE part <= 1 GROUP BY ALL
"""

# Hashes first: few of them repeat, and only their rows are looked at as texts. No step needs all rows of one key at
# once: a file of copies of one event has millions of them.
JUDGE: Final = """
CREATE OR REPLACE TEMP TABLE judged AS
WITH repeated AS (
    SELECT scope, event_id, arg_min(content_hash, ordinal) AS first_hash
    FROM arrivals SEMI JOIN repeated_hash USING (id_hash) WHERE part <= 1 GROUP BY ALL HAVING count(*) > 1
), suspects AS (
    SELECT scope, event_id, lake_hash, coalesce(lake_hash, first_hash) AS kept_hash
    FROM in_lake FULL JOIN repeated USING (scope, event_id)
), kept AS (
    SELECT scope, event_id, part, min(ordinal) AS first_ordinal
    FROM arrivals JOIN suspects USING (scope, event_id)
    WHERE lake_hash IS NULL AND content_hash = kept_hash GROUP BY ALL
)
SELECT
    ordinal >> 32 AS file,
    ordinal & 4294967295 AS row,
    part <= 1 AS is_head,
    content_hash <> kept_hash AS is_conflict
FROM arrivals JOIN suspects USING (scope, event_id) LEFT JOIN kept USING (scope, event_id, part)
WHERE content_hash <> kept_hash OR first_ordinal IS DISTINCT FROM ordinal
"""
DROPPED: Final = "FROM judged WHERE file = $file ORDER BY row"
DROPPED_HEADS: Final = "SELECT count(*) FROM judged WHERE is_head"


COLUMNS: Final = pl.Schema({"file": pl.Int64, "row": pl.Int64, "is_head": pl.Boolean, "is_conflict": pl.Boolean})


class Lookup:
    """Compares the files of one delivery with the lake; the first of a key in the order of the files stays.

    Args:
        connection: an in-memory DuckDB; holds temporary tables of this lookup, so one lookup at a time.
        table: `events` or `updates`.
        arrived: the delivery's staged files, in their order.
        at_once: hashes that are sorted at once.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: str,
        arrived: Sequence[StagedFile],
        *,
        at_once: int = AT_ONCE,
    ) -> None:
        self._connection = connection
        # Delta holds content_hash as a signed integer: the same bits, and only equality is asked for here.
        self._columns = (
            f"{IDS[table][0]} AS scope, event_id, {PARTS[table]} AS part, content_hash, {ID_HASH} AS id_hash"
        )
        self._compared: set[str] = set()
        connection.execute(
            "CREATE OR REPLACE TEMP VIEW arrivals AS "
            f"SELECT (file_index::BIGINT << 32) | file_row_number AS ordinal, {self._columns} "
            f"FROM {sql.parquet([file.path for file in arrived])}"
        )
        connection.execute("CREATE OR REPLACE TEMP TABLE in_lake (scope VARCHAR, event_id VARCHAR, lake_hash BIGINT)")
        repeated, self.heads = _repeated(table, arrived, at_once)
        connection.register("new_hashes", pl.DataFrame({ID_HASH: repeated}).to_arrow())
        connection.execute("CREATE OR REPLACE TEMP TABLE repeated_hash AS FROM new_hashes")
        connection.unregister("new_hashes")
        self._has_suspects = len(repeated) > 0

    def compare(self, files: Sequence[str]) -> bool:
        """Look the delivery's keys up in files of the lake, each file once; returns whether that found any new ones."""
        files = [file for file in files if file not in self._compared]
        self._compared.update(files)
        if not files:
            return False
        candidates = self._connection.execute(CANDIDATES.format(files=sql.parquet(files))).fetchall()
        if not candidates:
            return False
        suspects = sql.parquet([files[index] for (index,) in sorted(candidates)])
        [(found,)] = self._connection.execute(FOUND.format(columns=self._columns, files=suspects)).fetchall()
        self._has_suspects |= found > 0
        return bool(found)

    def judge(self) -> None:
        """Find the delivery's rows that are not new, given all that was compared so far."""
        if self._has_suspects:
            self._connection.execute(JUDGE)

    def dropped(self, file: int) -> pl.DataFrame:
        """The rows of one file, by its index in `arrived`, that are not new, once they are judged.

        Returns:
            file, row (0-based), is_head (stands for its source event), is_conflict (else it is a duplicate); ordered by
            row.
        """
        if not self._has_suspects:
            return pl.DataFrame(schema=COLUMNS)
        return sql.frame(self._connection, DROPPED, COLUMNS, {"file": file})

    def dropped_heads(self) -> int:
        """How many source events are not new."""
        if not self._has_suspects:
            return 0
        [(count,)] = self._connection.execute(DROPPED_HEADS).fetchall()
        return int(count)


def _repeated(table: str, files: Sequence[StagedFile], at_once: int) -> tuple[NDArray[np.int64], int]:
    """Hashes of ids that more than one source event of the files has, and how many source events there are.

    Sorting numbers is the fastest way to find them. Hashes are evenly spread, so that a share of them at a time keeps
    memory within bounds.
    """
    rows = pl.scan_parquet([file.path for file in files], glob=False)
    heads = rows.filter(pl.col("part") <= 1) if table == "events" else rows
    shares = 1 + sum(file.rows for file in files) // at_once
    found, count = [], 0
    for share in range(shares):
        mine = heads.select(ID_HASH) if shares == 1 else heads.select(ID_HASH).filter(pl.col(ID_HASH) % shares == share)
        hashes = mine.collect()[ID_HASH].to_numpy(writable=True)
        hashes.sort()
        found.append(np.unique(hashes[1:][hashes[1:] == hashes[:-1]]))
        count += len(hashes)
    return np.concatenate(found), count
