"""Rendering a staged campaign: the response file, the errors beside it and the manifest, as they are published.

What belongs here: CSV and JSON exactly as clients get them. What does not: whether they may be published (see `gate`).

Source: Froomle's batch page: columns as in its example, strings quoted, integers not, an empty position for null.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import polars as pl

from recoflow import schema
from recoflow.campaigns.audiences import staged_audiences
from recoflow.campaigns.audiences.staged_audiences import StagedAudiences
from recoflow.campaigns.publishing import csv_rows
from recoflow.campaigns.requests import filename
from recoflow.campaigns.staging import staged as staging
from recoflow.campaigns.staging.staged import StagedLists
from recoflow.compute.prefetch import prefetch
from recoflow.storage import atomic_files

if TYPE_CHECKING:
    import pyarrow as pa

    from recoflow.campaigns.requests.model import Request

_FORMULA: Final = "^([=+\\-@\t\r])"  # what spreadsheets take for a formula
STRETCHES: Final = 2  # of rows that are made ahead


@dataclass(frozen=True)
class RenderedResponse:
    """A rendered response.

    Args:
        path: the file, CSV or gzip of it.
        rows: without the header.
        sha256: of the file's bytes.
    """

    path: Path
    rows: int
    sha256: str


def response_columns(information_fields: tuple[str, ...]) -> tuple[str, ...]:
    """The columns of a response of lists in their order."""
    return (*schema.RESPONSE_COLUMNS, *information_fields, "rank")


def write_response(
    staged: StagedLists | StagedAudiences, path: Path, approve: Callable[[], object] = lambda: None
) -> RenderedResponse:
    """Write the response file of a staged campaign to `path`, gzip where the request was; same input, same bytes.

    Args:
        staged: what is written.
        path: the file.
        approve: called when all is written and nothing is to be seen yet; what it raises leaves `path` as it was.
    """
    rows, digest = 0, hashlib.sha256()

    def encoded() -> Iterator[csv_rows.CsvRows]:
        nonlocal rows
        for table in _tables(staged):
            rows += table.num_rows
            yield csv_rows.encode_rows(table)

    def lines() -> Iterator[memoryview]:
        with closing(prefetch(encoded())) as tables:
            yield from csv_rows.csv_lines(tables, STRETCHES + 1)

    def render(file: BinaryIO) -> None:
        is_compressed, counted = filename.is_compressed(staged.name), cast("BinaryIO", _Digesting(file, digest))
        with _compressing(counted, is_compressed) as sink, closing(prefetch(lines(), STRETCHES)) as stretches:
            sink.write(csv_rows.csv_header(published_columns(staged)))
            sink.writelines(stretches)
        approve()

    atomic_files.write_atomic(path, render)
    return RenderedResponse(path, rows, digest.hexdigest())


def write_errors(errors: pl.DataFrame, path: Path) -> None:
    """Write the side file of refused rows (row_rules.ERRORS): line, column, code, message."""
    from pyarrow import csv  # noqa: PLC0415 - a refusal need not wait for the compiled loops of `csv_rows`

    options = csv.WriteOptions(quoting_style="needed")
    atomic_files.write_atomic(path, lambda file: csv.write_csv(errors.to_arrow(), file, options))


def write_manifest(staged: StagedLists | StagedAudiences, response: RenderedResponse, path: Path) -> None:
    """Write the side file of counts."""
    values = {
        "name": staged.name,
        "environment": staged.environment,
        "campaign_id": staged.campaign_id,
        "model_version": staged.model_version,
        "request_sha256": staged.request_sha256,
        "response_sha256": response.sha256,
        "rows": response.rows,
        "counts": asdict(staged.counts),
    }
    _write_json(values, path)


def write_rejection(request: Request, path: Path) -> None:
    """Write the manifest of a request that is refused as a whole; its errors are the only other answer."""
    assert request.rejection is not None
    values = {
        "name": request.name,
        "environment": request.environment,
        "campaign_id": request.campaign_id,
        "request_sha256": request.sha256,
        "rejection": asdict(request.rejection),
    }
    _write_json(values, path)


def _write_json(values: dict[str, Any], path: Path) -> None:
    atomic_files.write_atomic(path, (json.dumps(values, ensure_ascii=True, indent=1, sort_keys=True) + "\n").encode())


class _Digesting(io.BufferedIOBase):
    """A file that counts what is written to it into a digest."""

    def __init__(self, file: BinaryIO, digest: hashlib._Hash) -> None:
        self._file, self._digest = file, digest

    def writable(self) -> bool:
        return True

    def write(self, content: Any, /) -> int:
        self._digest.update(content)
        return self._file.write(content)


def published_columns(staged: StagedLists | StagedAudiences) -> pl.Schema:
    """The columns that are published."""
    if isinstance(staged, StagedAudiences):
        return pl.Schema({name: staged_audiences.PARTS[name] for name in staged_audiences.COLUMNS})
    kinds = staging.part_columns(staged.information_fields)
    return pl.Schema({name: kinds[name] for name in response_columns(staged.information_fields)})


def _tables(staged: StagedLists | StagedAudiences) -> Iterator[pa.Table]:
    """What is published of each part, its texts as dictionaries."""
    from pyarrow import parquet  # noqa: PLC0415 - late, like all that only campaigns need

    kinds = published_columns(staged)
    texts = [name for name, kind in kinds.items() if kind == pl.String]
    unsafe = staged.information_fields if isinstance(staged, StagedLists) and staged.csv_safe else ()
    for part in staged.parts:
        with parquet.ParquetFile(part, read_dictionary=texts) as file:
            table = file.read(columns=kinds.names(), use_threads=False).select(kinds.names())
        yield _harmless(table, unsafe)


def _harmless(table: pa.Table, unsafe: tuple[str, ...]) -> pa.Table:
    """The table with a ' before what spreadsheets take for a formula."""
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import compute  # noqa: PLC0415

    for name in unsafe:
        column = table[name].unify_dictionaries().combine_chunks()
        texts = compute.replace_substring_regex(column.dictionary, pattern=_FORMULA, replacement=r"'\1")
        harmless = pa.DictionaryArray.from_arrays(column.indices, texts)
        table = table.set_column(table.schema.get_field_index(name), name, harmless)
    return table


@contextmanager
def _compressing(file: BinaryIO, is_compressed: bool) -> Iterator[BinaryIO]:
    if not is_compressed:
        yield file
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as compressed:
        yield cast("BinaryIO", compressed)
