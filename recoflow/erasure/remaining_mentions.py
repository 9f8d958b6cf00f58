"""The proof: whether any file still has something of a person, by the rule of `subject`.

What belongs here: looking into files of every kind that an installation writes. What does not: removing anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import polars as pl

from recoflow.erasure import databases, files, logs
from recoflow.erasure.subject import ErasureSubject
from recoflow.storage import sql

LOGS: Final = frozenset({".log", ".out", ".err"})


def search_mentions(paths: Iterable[Path], person: ErasureSubject) -> tuple[int, list[Path]]:
    """Look through files and folders, hidden ones too; returns how many files there were, and those with a mention."""
    found = sorted({file for path in paths for file in files_below(path)})
    return len(found), [file for file in found if mentions(file, person)]


def mentions(path: Path, person: ErasureSubject) -> bool:
    """Whether a file has something of the person, or cannot be read; one that vanishes meanwhile has not."""
    try:
        if databases.is_side_file(path):
            return False  # searched with its database
        if databases.is_database(path):
            return databases.database_mentions(path, person)
        return _BY_SUFFIX.get(path.suffix, files.file_mentions)(path, person)
    except FileNotFoundError:
        return False
    except pl.exceptions.ComputeError:  # e.g. the end is missing, because its writer was killed
        return True


def in_warehouse(path: Path, schema: str, person: ErasureSubject) -> bool:
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
            if table != "items"
        )


def _sql_mention(column: str, person: ErasureSubject) -> str:
    exact = _exact(column, person)
    if exact is not None:
        return f'"{column}" IN ({", ".join(map(sql.quoted, exact)) or "NULL"})'
    return f'regexp_matches("{column}", {sql.quoted(person.pattern)})'


def _exact(column: str, person: ErasureSubject) -> Iterable[str] | None:
    """The values of a column for people that mean the person; None for another column."""
    return {
        "subject": person.subjects,
        "user_id": person.user_ids,
        "device_id": person.device_ids,
    }.get(column)


def files_below(path: Path) -> list[Path]:
    """A file itself, or the files in a folder and below. Links are left out: what they point to lies elsewhere."""
    if path.is_file():
        return [path]
    return [each for each in path.rglob("*") if each.is_file() and not each.is_symlink()]


def _in_parquet(path: Path, person: ErasureSubject) -> bool:
    columns = pl.read_parquet_schema(path)
    if path.parent.name == "_delta_log":  # a checkpoint: nested, small
        rows = pl.read_parquet(path).select(pl.struct(pl.all()).struct.json_encode())
        return any(person.is_in(text.encode()) for text in rows.to_series())
    if "items" in {path.parent.name, path.stem}:
        return False  # items of the lake or of a bundle
    expressions = [_mention(name, person) for name, dtype in columns.items() if dtype == pl.String]
    if not expressions:
        return False
    found = pl.scan_parquet(path, glob=False).filter(_is_of_people(columns))
    return bool(found.select(pl.any_horizontal(expressions).any()).collect().item())


def _is_of_people(columns: Iterable[str]) -> pl.Expr:
    """The rows that are not about items, where a table has both."""
    return pl.col("entity") == "user" if {"entity", "entity_id"} <= {*columns} else pl.lit(value=True)


def _mention(name: str, person: ErasureSubject) -> pl.Expr:
    exact = _exact(name, person)
    if exact is not None:
        return pl.col(name).is_in(sorted(exact)).fill_null(value=False)
    if name == "entity_id":
        return pl.col(name).is_in(sorted(person.user_ids)).fill_null(value=False)
    return pl.col(name).str.contains(person.pattern).fill_null(value=False)


def _in_array(path: Path, person: ErasureSubject) -> bool:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array.dtype.kind == "U" and bool(np.isin(array, [*person.subjects, *sorted(person.distinctive)]).any())


_BY_SUFFIX: Final = {".parquet": _in_parquet, ".npy": _in_array, **dict.fromkeys(LOGS, logs.log_mentions)}
