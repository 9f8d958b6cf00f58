"""The proof: whether any file still mentions a person.

What belongs here: looking into files of every kind that an installation writes. What does not: removing anything.

Parquet files, arrays, the warehouse and compressed files are searched by their content, everything else by its bytes.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import polars as pl

from recoflow.privacy.files import GZIP, ZSTD, unpacked
from recoflow.privacy.person import KEYS, Person
from recoflow.storage import sql

PEOPLE: Final = frozenset(KEYS)


def search(paths: Iterable[Path], person: Person) -> tuple[int, list[Path]]:
    """Look through files and folders, hidden ones too; returns how many files there were, and those with a mention."""
    files = sorted({file for path in paths for file in _files(path)})
    return len(files), [file for file in files if mentions(file, person)]


def mentions(path: Path, person: Person) -> bool:
    """Whether a file mentions the person; one that vanishes meanwhile does not."""
    try:
        if path.suffix == ".parquet":
            return _in_parquet(path, person)
        if path.suffix == ".npy":
            return _in_array(path, person)
        return _in_bytes(path, person)
    except FileNotFoundError:
        return False


def in_warehouse(path: Path, schema: str, person: Person) -> bool:
    """Whether a table of an environment in the warehouse mentions the person."""
    if not path.exists():
        return False
    with duckdb.connect(str(path), read_only=True) as connection:
        columns = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = $1 AND data_type = 'VARCHAR'",
            [schema],
        ).fetchall()
        return any(
            connection.execute(
                f'SELECT 1 FROM "{schema}"."{table}" WHERE {_sql_mention(column, person)} LIMIT 1'
            ).fetchone()
            for table, column in columns
        )


def _sql_mention(column: str, person: Person) -> str:
    exact = person.subjects if column == "subject" else person.ids if column in PEOPLE else ()
    if exact:
        return f'"{column}" IN ({", ".join(map(sql.quoted, exact))})'
    return f'regexp_matches("{column}", {sql.quoted(person.pattern)})'


def _files(path: Path) -> Iterable[Path]:
    return [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]


def _in_parquet(path: Path, person: Person) -> bool:
    columns = pl.read_parquet_schema(path)
    if path.parent.name == "_delta_log":  # a checkpoint: nested, small
        rows = pl.read_parquet(path).select(pl.struct(pl.all()).struct.json_encode())
        return any(person.is_in(text.encode()) for text in rows.to_series())
    expressions = [_mention(name, person) for name, dtype in columns.items() if dtype == pl.String]
    if not expressions:
        return False
    found = pl.scan_parquet(path, glob=False).select(pl.any_horizontal(expressions).any()).collect()
    return bool(found.item())


def _mention(name: str, person: Person) -> pl.Expr:
    if name == "subject":
        return pl.col(name).is_in(person.subjects).fill_null(value=False)
    if name in PEOPLE:
        return pl.col(name).is_in(person.ids).fill_null(value=False)
    return pl.col(name).str.contains(person.pattern).fill_null(value=False)


def _in_array(path: Path, person: Person) -> bool:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array.dtype.kind == "U" and bool(np.isin(array, [*person.subjects, *person.ids]).any())


def _in_bytes(path: Path, person: Person) -> bool:
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[:4].startswith((GZIP, ZSTD)):
            return person.is_in(unpacked(content[:]))
        return person.is_in(content)
