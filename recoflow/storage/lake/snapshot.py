"""One version of a Delta table: its files, and the transactions that were committed with it.

What belongs here: what a version says about itself. What does not: making versions (lake.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import polars as pl


@dataclass(frozen=True)
class Snapshot:
    """One version of a table: what its reader saw, and what a commit of it is conditional on."""

    table: str
    handle: Any = field(repr=False)  # deltalake.DeltaTable

    @property
    def version(self) -> int:
        """Delta version, 0 for the table just created."""
        return int(self.handle.version())

    @property
    def files(self) -> list[str]:
        """The Parquet files of this version: absolute paths, or URLs in an object store."""
        uris = sorted(self.handle.file_uris())
        return [uri if "://" in uri else unquote(uri) for uri in uris]

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Those of a local table, each with its size in bytes as it was committed."""
        adds = pl.DataFrame(self.handle.get_add_actions())
        folder = unquote(self.handle.table_uri).removeprefix("file://").rstrip("/")
        return ((f"{folder}/{unquote(name)}", size) for name, size in adds.select("path", "size_bytes").iter_rows())

    def transaction(self, name: str) -> int | None:
        """The number that was committed with the transaction id, None when it never was."""
        number: int | None = self.handle.transaction_version(name)
        return number
