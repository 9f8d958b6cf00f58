"""How the lake's tables are held in Parquet files, and how their rows come out again.

What belongs here: the tables by name, and the difference between a contract of schema.py and its files. What does not:
commits (lake.py).

Delta has no unsigned integers: UInt64 columns are stored as the Int64 with the same bits. Tables whose rows are looked
up by an id have one more stored column that readers do not see: a hash of the id, because looking a number up takes a
tenth of the time that a text takes, and that is what ingest does with every file that arrives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from recoflow import schema
from recoflow.errors import StorageError
from recoflow.storage import sql
from recoflow.storage.lake import damage

TABLES: Final[Mapping[str, pl.Schema]] = {
    "events": schema.EVENTS,
    "updates": schema.UPDATES,
    "quarantine": schema.REJECTS,
    "ingests": schema.INGESTS,
    "items": schema.ITEMS,
    "identity": schema.IDENTITY,
    "interactions": schema.INTERACTIONS,
    "responses": schema.RESPONSES,
    "configurations": schema.CONFIGURATIONS,
}
ID_HASH: Final = "id_hash"  # XXH64 of the id: its values are specified, unlike those of polars' and DuckDB's hashes
COMPILED_FROM: Final = 20_000  # rows; fewer are hashed before the compiled hash is loaded
ROW_GROUP: Final = 1 << 18
WRITTEN_AT_ONCE: Final = 1 << 16  # values of a column that pyarrow looks at before it asks whether a page is full
REPEATING: Final = frozenset(  # columns of few different values
    {"kind", "part", "event_type", "channel", "page_type", "item_type", "interaction_type", "list_name", "campaign_id"}
    | {"rank", "user_group", "version", "currency", "subscription_type", "checkpoint", "source", "received_at"}
    | {"entity", "entity_type", "operation", "file", "field", "code", "model_version", "published_at"}
)
RANDOM: Final[Mapping[str, frozenset[str]]] = {  # columns of ids and hashes, in no order
    "events": frozenset({"event_id", "user_id", "device_id", "session_id", "content_hash", ID_HASH}),
    "updates": frozenset({"event_id", "content_hash", ID_HASH}),
}
IDS: Final[Mapping[str, tuple[str, str]]] = {"events": ("kind", "event_id"), "updates": ("entity", "event_id")}


def writer(table: str, sink: Any) -> pq.ParquetWriter:
    """What writes tables as `to_arrow` makes them into one Parquet file, each as row groups of `ROW_GROUP` at most.

    pyarrow writes what ingest gives in two thirds of the time that polars takes, because dictionaries are tried only
    where values are known to repeat, and snappy takes a third less of it than zstd does; times take two thirds of the
    bytes as differences. Ids stay as they are: of random UUIDs snappy saves a tenth, and takes seven times as long as
    writing them does. The schema of Arrow stays out: it would tell readers of string views and dictionaries.
    """
    columns = to_arrow(table, pl.DataFrame(schema=TABLES[table])).schema
    times = [name for name, dtype in TABLES[table].items() if dtype == schema.UTC_TIME]
    return pq.ParquetWriter(
        sink,
        columns,
        compression={name: "none" if name in RANDOM.get(table, ()) else "snappy" for name in columns.names},
        use_dictionary=[name for name in columns.names if name in REPEATING],
        column_encoding={name: "DELTA_BINARY_PACKED" for name in times if name not in REPEATING},
        write_statistics=times,
        write_batch_size=WRITTEN_AT_ONCE,
        store_schema=False,
    )


def to_arrow(table: str, frame: pl.DataFrame) -> pa.Table:
    """Rows of the contract as they are written: texts that repeat as dictionaries, others stay where they are.

    `pa.array` and pyarrow's functions on arrays stay out: at their first use pyarrow imports pandas and its compute
    module, 0.2 s in every process that writes.
    """
    columns: dict[str, Any] = {}
    for column in frame.iter_columns():
        stored = column.reinterpret(signed=True) if column.dtype == pl.UInt64 else column
        is_repeating = column.dtype == pl.String and column.name in REPEATING
        columns[column.name] = _dictionary(stored) if is_repeating else _array(stored)
    if table in IDS:
        scope, event_id = IDS[table]
        hashes = pa.py_buffer(_id_hashes(columns[scope], frame[event_id]))
        columns[ID_HASH] = pa.Array.from_buffers(pa.int64(), frame.height, [None, hashes])
    return pa.table(columns)


def _array(column: pl.Series) -> Any:
    return column.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())


def _dictionary(texts: pl.Series) -> Any:
    if len(texts) >= COMPILED_FROM:
        from recoflow.storage.lake import repeating  # noqa: PLC0415 (loads numba)

        if (encoded := repeating.dictionary_encoded(texts)) is not None:
            return encoded
    words = {word: code for code, word in enumerate(texts.drop_nulls().unique(maintain_order=True))}
    codes = pl.Series([words.get(text) for text in texts], dtype=pl.Int32)
    dictionary = pl.Series([*words], dtype=pl.String)
    return pa.DictionaryArray.from_arrays(codes.to_arrow(), dictionary.to_arrow(compat_level=pl.CompatLevel.oldest()))


def _id_hashes(scopes: Any, ids: pl.Series) -> NDArray[np.uint64]:
    words = [*(f"{word}\0" for word in scopes.dictionary.to_pylist()), ""]  # the last one where there is none
    codes = pl.DataFrame(pa.table([scopes.indices], ["codes"]))["codes"].fill_null(len(words) - 1).to_numpy()
    ids = ids.fill_null("")
    if len(ids) < COMPILED_FROM:
        texts = (words[code] + text for code, text in zip(codes.tolist(), ids, strict=True))
        return np.fromiter((xxhash.xxh64_intdigest(text.encode()) for text in texts), np.uint64, len(ids))
    from recoflow.compute import xxh64  # noqa: PLC0415 (loads numba)

    return xxh64.of_texts(ids, words=words, codes=codes)


def arrow_schema(table: str) -> Any:
    """The stored columns as a pyarrow schema."""
    columns = {name: pl.Int64() if dtype == pl.UInt64 else dtype for name, dtype in TABLES[table].items()}
    if table in IDS:
        columns[ID_HASH] = pl.Int64()
    return pl.DataFrame(schema=columns).to_arrow().schema


def select(table: str, files: Sequence[str]) -> str:
    """DuckDB query for the contract's rows in the files; typed and empty when there are none."""
    columns = TABLES[table]
    if files:
        return f"SELECT {', '.join(map(_sql_column, columns, columns.dtypes()))} FROM {sql.parquet(files)}"
    nulls = (f"NULL::{_sql_type(dtype)} AS {name}" for name, dtype in columns.items())
    return f"SELECT {', '.join(nulls)} WHERE false"


def create_view(connection: duckdb.DuckDBPyConnection, table: str, files: Sequence[str]) -> None:
    """A temporary DuckDB view of the contract's rows in the files, by the name of the table.

    Raises:
        StorageError: they lack a column of the contract, because an older recoflow wrote them.
    """
    try:
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS {select(table, files)}")
    except duckdb.BinderException as error:
        folder = files[0].rpartition("/")[0] if files else table
        problem = f"has not the columns of the table {table}: an older recoflow wrote it ({str(error).splitlines()[0]})"
        cure = damage.cure(Path(folder)) if table in damage.DERIVED else "Use the recoflow that wrote it"
        raise StorageError(folder, problem, cure) from None


def from_stored(table: str, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Rows of the contract out of rows as they were written."""
    return rows.select(_typed(name, dtype) for name, dtype in TABLES[table].items())


def _typed(name: str, dtype: pl.DataType) -> pl.Expr:
    return pl.col(name).reinterpret(signed=False) if dtype == pl.UInt64 else pl.col(name)


def _sql_type(dtype: pl.DataType) -> str:
    names: dict[pl.DataType, str] = {
        pl.String(): "VARCHAR",
        pl.Int32(): "INTEGER",
        pl.Int64(): "BIGINT",
        pl.UInt64(): "UBIGINT",
        pl.Float64(): "DOUBLE",
        pl.Boolean(): "BOOLEAN",
        schema.UTC_TIME: "TIMESTAMPTZ",
    }
    return names[dtype]


def _sql_column(name: str, dtype: pl.DataType) -> str:
    if dtype == pl.UInt64:
        return f"({name}::HUGEINT & 18446744073709551615)::UBIGINT AS {name}"
    return name
