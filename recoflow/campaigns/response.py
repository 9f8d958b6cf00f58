"""Rendering a staged campaign: the response file, the errors beside it and the manifest, as they are published.

What belongs here: CSV and JSON exactly as clients get them. What does not: whether they may be published (see `audit`).

Source: Froomle's batch page: columns as in its example, strings quoted, integers not, an empty position for null.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import polars as pl

from recoflow import schema
from recoflow.ahead import ahead
from recoflow.campaigns import filename, staged_audiences
from recoflow.campaigns import staged as staging
from recoflow.campaigns.staged import Staged
from recoflow.campaigns.staged_audiences import StagedAudiences
from recoflow.storage import artifacts

if TYPE_CHECKING:
    import pyarrow as pa

    from recoflow.campaigns.request import Request

_FORMULA: Final = "^([=+\\-@\t\r])"  # what spreadsheets take for a formula
ROWS: Final = 1 << 13  # of a batch
BATCHES: Final = 8  # that are read ahead


@dataclass(frozen=True)
class Response:
    """A rendered response.

    Args:
        path: the file, CSV or gzip of it.
        rows: without the header.
        sha256: of the file's bytes.
    """

    path: Path
    rows: int
    sha256: str


def columns(information_fields: tuple[str, ...]) -> tuple[str, ...]:
    """The columns of a response of lists in their order."""
    return (*schema.RESPONSE_COLUMNS, *information_fields, "rank")


def write(staged: Staged | StagedAudiences, path: Path) -> Response:
    """Write the response file of a staged campaign to `path`, gzip where the request was; same input, same bytes."""
    rows, digest = 0, hashlib.sha256()

    def render(file: BinaryIO) -> None:
        nonlocal rows
        is_compressed, counted = filename.is_compressed(staged.name), cast("BinaryIO", _Digesting(file, digest))
        with _compressing(counted, is_compressed) as sink, closing(ahead(_batches(staged), BATCHES)) as batches:
            rows = _write_csv(sink, _kinds(staged), batches)

    artifacts.write_atomic(path, render)
    return Response(path, rows, digest.hexdigest())


def write_errors(errors: pl.DataFrame, path: Path) -> None:
    """Write the side file of refused rows (problems.ERRORS): line, column, code, message."""
    kinds = _arrow(errors.schema)
    artifacts.write_atomic(path, lambda file: _write_csv(file, kinds, errors.to_arrow().cast(kinds).to_batches()))


def write_manifest(staged: Staged | StagedAudiences, response: Response, path: Path) -> None:
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
    artifacts.write_atomic(path, (json.dumps(values, ensure_ascii=True, indent=1, sort_keys=True) + "\n").encode())


class _Digesting(io.BufferedIOBase):
    """A file that counts what is written to it into a digest."""

    def __init__(self, file: BinaryIO, digest: hashlib._Hash) -> None:
        self._file, self._digest = file, digest

    def writable(self) -> bool:
        return True

    def write(self, content: Any, /) -> int:
        self._digest.update(content)
        return self._file.write(content)


def _kinds(staged: Staged | StagedAudiences) -> pa.Schema:
    """The columns that are published."""
    if isinstance(staged, StagedAudiences):
        return _arrow(pl.Schema({name: staged_audiences.PARTS[name] for name in staged_audiences.COLUMNS}))
    kinds = staging.columns(staged.information_fields)
    return _arrow(pl.Schema({name: kinds[name] for name in columns(staged.information_fields)}))


def _batches(staged: Staged | StagedAudiences) -> Iterator[pa.RecordBatch]:
    """What is published of the parts, so little at once that it stays in the processor's cache."""
    from pyarrow import parquet  # noqa: PLC0415 - late, like all that only campaigns need

    kinds = _kinds(staged)
    unsafe = staged.information_fields if isinstance(staged, Staged) and staged.csv_safe else ()
    for part in staged.parts:
        for batch in parquet.ParquetFile(part).iter_batches(ROWS, columns=kinds.names, use_threads=False):
            yield _harmless(batch.select(kinds.names).cast(kinds), unsafe)


def _harmless(batch: pa.RecordBatch, unsafe: tuple[str, ...]) -> pa.RecordBatch:
    """The batch with a ' before what spreadsheets take for a formula."""
    from pyarrow import compute  # noqa: PLC0415

    for name in unsafe:
        cells = compute.replace_substring_regex(batch[name], pattern=_FORMULA, replacement=r"'\1")
        batch = batch.set_column(batch.schema.get_field_index(name), name, cells)
    return batch


@contextmanager
def _compressing(file: BinaryIO, is_compressed: bool) -> Iterator[BinaryIO]:
    if not is_compressed:
        yield file
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as compressed:
        yield cast("BinaryIO", compressed)


def _write_csv(sink: BinaryIO, kinds: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    """pyarrow's "needed" quoting is the one that clients expect: it quotes every string and no number."""
    from pyarrow import csv  # noqa: PLC0415

    rows = 0
    options = csv.WriteOptions(quoting_style="needed", batch_size=ROWS)
    with csv.CSVWriter(sink, kinds, write_options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _arrow(schema: pl.Schema) -> pa.Schema:
    import pyarrow as pa  # noqa: PLC0415

    kinds = {pl.String: pa.string(), pl.Int64: pa.int64()}
    return pa.schema([(name, kinds[type(kind)]) for name, kind in schema.items()])
