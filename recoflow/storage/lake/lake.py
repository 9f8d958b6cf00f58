"""One environment's lake: Delta tables in one folder (or under one object-store URL), one per contract of schema.py.

What belongs here: reading, staging, committing and caring for tables. What does not: what rows mean (ingest/run.py
decides which events are new), files that are no table (atomic_files.py), the database for people (warehouse.py).

Writing has two steps. `stage` puts Parquet files beside the table, where no reader sees them; `commit` makes them part
of it at once. A commit is conditional: it names the snapshot that its writer looked at, and two commits that carry the
same transaction id conflict (Delta protocol, "Transaction identifiers"), so one of two writers that raced has to look
again. Files that were staged and never committed are removed by `vacuum`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import deltalake
import duckdb
import polars as pl
import pyarrow as pa
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction

from recoflow.errors import StorageError
from recoflow.storage import atomic_files
from recoflow.storage.lake import damage, table_format
from recoflow.storage.lake.snapshot import Snapshot
from recoflow.storage.lake.staging import FILE_ROWS, StagedFile, Staging, StagingTarget

TABLES: Final = table_format.TABLES
ATTEMPTS: Final = 200
ORPHAN_HOURS: Final = 24  # staged files younger than this may still be committed by a running writer


class CommitConflictError(StorageError):
    """Somebody else committed first: look at the table again, then commit again."""


class Lake:
    """The tables of one environment.

    Args:
        root: the environment's folder, or its URL in an object store (`s3://bucket/lake/lorem`).
        storage_options: credentials and endpoint of the object store, as deltalake and polars name them.

    Raises:
        StorageError: a folder that deltalake cannot work in.
    """

    def __init__(self, root: Path | str, *, storage_options: Mapping[str, str] | None = None) -> None:
        self.root = str(root).rstrip("/")
        self._is_local = "://" not in self.root
        if self._is_local:
            self.root = str(Path(self.root).absolute())
            if set(self.root) & set("[]%"):
                problem = "has one of [ ] % in its path, which deltalake takes for parts of a URL"
                raise StorageError(self.root, problem, "Choose another data folder")
        self._options = dict(storage_options) if storage_options else None

    def snapshot(self, table: str, version: int | None = None) -> Snapshot | None:
        """The current version of the table, or an earlier one; None when it does not exist yet.

        Raises:
            StorageError: the table exists but cannot be read, or has no such version.
        """
        with self._explained(table):
            try:
                handle = deltalake.DeltaTable(self._uri(table), version=version, storage_options=self._options)
                return Snapshot(table, handle)
            except TableNotFoundError:
                return None

    def version(self, table: str) -> int | None:
        """Current version of the table, None when it does not exist yet."""
        snapshot = self.snapshot(table)
        return snapshot.version if snapshot else None

    def files(self, table: str, version: int | None = None) -> list[str]:
        """Parquet files of the table, as of now or of an earlier version; none when it does not exist yet.

        Raises:
            DamagedError: one of them is missing or cut.
        """
        snapshot = self.snapshot(table, version)
        if snapshot is None:
            return []
        if self._is_local and (wrong := damage.in_files(snapshot.sizes())):
            raise wrong
        return snapshot.files

    def has_version(self, table: str, version: int) -> bool:
        """Whether a version of the table can still be read: `vacuum` removes the files of old ones."""
        try:
            snapshot = self.snapshot(table, version)
        except StorageError:  # the log does not reach back so far
            return False
        return snapshot is not None and all(self._is_there(table, file) for file in snapshot.files)

    def has_transaction(self, table: str, name: str) -> bool:
        """Whether a commit with this transaction id is part of the table."""
        snapshot = self.snapshot(table)
        return snapshot is not None and snapshot.transaction(name) is not None

    def scan(self, table: str, files: Sequence[str] | None = None, *, version: int | None = None) -> pl.LazyFrame:
        """The table's rows in the columns and dtypes of its contract; no rows when it does not exist yet.

        Args:
            table: one of `TABLES`.
            files: other files than the table's, e.g. staged ones.
            version: an earlier one than the current.
        """
        files = self.files(table, version) if files is None else files
        if not files:
            return pl.LazyFrame(schema=TABLES[table])
        rows = pl.scan_parquet(list(files), storage_options=self._options, glob=False)
        return table_format.from_stored(table, rows)

    def views(self, connection: duckdb.DuckDBPyConnection, *tables: str) -> None:
        """Make temporary views of the tables, typed and empty where there is none yet; times are UTC from now on.

        A view stands on the files of one version: later commits do not change it.

        Args:
            connection: where the views are made.
            tables: all when none is named. Name what is needed: a damaged table stops nothing that does not read it.
        """
        connection.execute("SET TimeZone = 'UTC'")
        for table in tables or TABLES:
            self.view(connection, table)

    def view(self, connection: duckdb.DuckDBPyConnection, table: str, version: int | None = None) -> None:
        """Make the view of one table, as of now or of an earlier version."""
        table_format.create_view(connection, table, self.files(table, version))

    def stage(self, table: str, frame: pl.DataFrame) -> StagedFile:
        """Write rows where no reader sees them until they are committed.

        Raises:
            StorageError: the frame has other columns or dtypes than the table's contract, or the disk refused.
        """
        (file,) = self.stage_all(table, [frame])
        return file

    def stage_all(self, table: str, frames: Iterable[pl.DataFrame]) -> list[StagedFile]:
        """The same for rows that come one frame after the other; no file when there is none."""
        staging = self.staging(table)
        try:
            for frame in frames:
                staging.add(staging.prepared(frame))
            return staging.close()
        except BaseException:
            self.discard(staging.abandon(), None)
            raise

    def staging(self, table: str, *, file_rows: int = FILE_ROWS) -> Staging:
        """The same for rows that come one frame after the other, in files of about `file_rows` rows."""
        folder = self._uri(table)
        return Staging(
            StagingTarget(
                table,
                folder,
                create=functools.partial(self._create, table),
                sync=functools.partial(self._sync, table),
                explained=functools.partial(self._explained, table),
            ),
            file_rows=file_rows,
        )

    def discard(self, staged: Sequence[StagedFile], snapshot: Snapshot | None) -> None:
        """Remove staged files that nobody will commit any more, given their table as it is after all commits.

        Files that are part of the snapshot stay: a commit can succeed though its answer was lost.
        """
        committed = {file.rpartition("/")[2] for file in snapshot.files} if snapshot else set()
        for file in staged:
            if file.name in committed:
                continue
            if self._is_local:
                Path(file.path).unlink(missing_ok=True)
            else:
                self._remote(file.table).delete_file(file.name)

    def commit(
        self,
        snapshot: Snapshot,
        staged: Sequence[StagedFile],
        *,
        transactions: Mapping[str, int],
        note: Mapping[str, Any] | None = None,
        mode: str = "append",
    ) -> Snapshot:
        """Make staged files part of the table, all or none, and return a version that has them.

        Args:
            snapshot: the version that the writer looked at; used up by a commit that succeeds.
            staged: what to add.
            transactions: id → number. The commit is refused when a commit after `snapshot` carried one of the ids.
            note: kept in the table's history for people.
            mode: `append`, or `overwrite` to replace all rows.

        Raises:
            CommitConflictError: somebody else was first.
        """
        now = int(time.time() * 1000)  # Delta's bookkeeping, no data depends on it
        adds = [
            AddAction(file.name, file.size, {}, now, True, json.dumps({"numRecords": file.rows})) for file in staged
        ]
        properties = deltalake.CommitProperties(
            app_transactions=[deltalake.Transaction(name, number) for name, number in transactions.items()],
            custom_metadata={"note": json.dumps(note, sort_keys=True)} if note else None,
        )
        handle = snapshot.handle
        with self._explained(snapshot.table):
            handle.create_write_transaction(adds, mode, handle.schema(), commit_properties=properties)
            handle.update_incremental()
        return snapshot

    def settle(self, table: str) -> None:
        """Make all commits survive a power cut, for writers whose caller keeps no copy; object stores do by themselves.

        Raises:
            StorageError: the disk refused.
        """
        if not self._is_local:
            return
        folder = Path(self._uri(table))
        log = folder / "_delta_log"
        with self._explained(table):
            for path in (*log.glob("*.json"), log, folder, folder.parent):
                atomic_files.sync(path)

    def ensure(self, table: str) -> Snapshot:
        """The current version of the table, which is created empty when it does not exist yet."""
        for _ in range(ATTEMPTS):
            snapshot = self.snapshot(table)
            if snapshot is not None:
                return snapshot
            with contextlib.suppress(CommitConflictError), self._explained(table):
                deltalake.DeltaTable.create(
                    self._uri(table), table_format.arrow_schema(table), mode="ignore", storage_options=self._options
                )
        raise self._busy(table)

    def append(
        self,
        table: str,
        frame: pl.DataFrame,
        *,
        transaction: str | None = None,
        note: Mapping[str, Any] | None = None,
    ) -> int:
        """Add rows and return the version that has them; with a transaction id at most once however often called."""
        return self.commit_once(table, [self.stage(table, frame)], transaction=transaction, note=note)

    def overwrite(
        self,
        table: str,
        frame: pl.DataFrame,
        *,
        transaction: str | None = None,
        note: Mapping[str, Any] | None = None,
    ) -> int:
        """Replace all rows; who reads the version before can finish until `vacuum`. Returns the version."""
        staged = [self.stage(table, frame)]
        return self.commit_once(table, staged, transaction=transaction, note=note, mode="overwrite")

    def commit_once(
        self,
        table: str,
        staged: Sequence[StagedFile],
        *,
        transaction: str | None,
        note: Mapping[str, Any] | None = None,
        mode: str = "append",
    ) -> int:
        """Commit staged files whatever others commit meanwhile, unless the transaction id is part of the table already.

        Returns:
            A version that has what the transaction id stands for.
        """
        for _ in range(ATTEMPTS):
            snapshot = self.ensure(table)
            if transaction is not None and snapshot.transaction(transaction) is not None:
                self.discard(staged, snapshot)
                return snapshot.version
            with contextlib.suppress(CommitConflictError):
                transactions = {transaction: 1} if transaction is not None else {}
                return self.commit(snapshot, staged, transactions=transactions, note=note, mode=mode).version
        raise self._busy(table)

    def delete(self, table: str, predicate: str) -> int:
        """Remove the rows for which the SQL predicate holds and return how many they were; `vacuum` frees the disk."""
        for _ in range(ATTEMPTS):
            snapshot = self.snapshot(table)
            if snapshot is None:
                return 0
            with contextlib.suppress(CommitConflictError), self._explained(table):
                return int(snapshot.handle.delete(predicate)["num_deleted_rows"])
        raise self._busy(table)

    def expire(self, table: str, column: str, before: datetime) -> int:
        """Remove the rows whose time in `column` is before the given one (retention); returns how many they were."""
        return self.delete(table, f"{column} < '{before.astimezone(UTC).isoformat()}'")

    def vacuum(self, table: str, *, keep_hours: int = 168) -> int:
        """Remove files that no version of the last `keep_hours` needs, and staged files that nobody committed.

        Returns:
            How many files were removed.
        """
        snapshot = self.snapshot(table)
        if snapshot is None:
            return 0
        with self._explained(table):
            removed = [
                snapshot.handle.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=is_full)
                for hours, is_full in ((keep_hours, False), (max(keep_hours, ORPHAN_HOURS), True))
            ]
        return sum(map(len, removed))

    def compact(self, table: str) -> None:
        """Join small files into large ones; rows and readers are not affected."""
        for _ in range(ATTEMPTS):
            snapshot = self.snapshot(table)
            if snapshot is None:
                return
            with contextlib.suppress(CommitConflictError), self._explained(table):
                snapshot.handle.optimize.compact()
                return
        raise self._busy(table)

    def _create(self, table: str, name: str) -> Any:
        if not self._is_local:
            return self._remote(table).open_output_stream(name)
        folder = Path(self._uri(table))
        folder.mkdir(parents=True, exist_ok=True)
        return pa.OSFile(str(folder / name), "wb")

    def _sync(self, table: str, name: str) -> None:
        if self._is_local:
            atomic_files.sync(Path(self._uri(table)) / name)

    def _is_there(self, table: str, file: str) -> bool:
        if self._is_local:
            return Path(file).exists()
        (found,) = self._remote(table).get_file_info([file.rpartition("/")[2]])
        return bool(found.is_file)

    def _remote(self, table: str) -> Any:
        return DeltaStorageHandler(self._uri(table), self._options)

    def _uri(self, table: str) -> str:
        if table not in TABLES:
            raise KeyError(table)
        return f"{self.root}/{table}"

    def _busy(self, table: str) -> StorageError:
        return StorageError(
            self._uri(table), f"lost {ATTEMPTS} races for a commit", "See who else writes and try again"
        )

    @contextlib.contextmanager
    def _explained(self, table: str) -> Iterator[None]:
        try:
            yield
        except TableNotFoundError:
            raise
        except CommitFailedError as error:
            raise CommitConflictError(self._uri(table), f"changed meanwhile ({error})", "Try again") from error
        except (DeltaError, OSError) as error:
            if self._is_local and (wrong := damage.in_log(Path(self._uri(table)))):
                raise wrong from error
            problem = str(error).splitlines()[0]
            raise StorageError(
                self._uri(table), f"cannot be read or written: {problem}", "Check the folder, its rights and free space"
            ) from error
