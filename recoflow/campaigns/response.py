"""Rendering a staged campaign: the response file, the errors beside it and the manifest, as they are published.

What belongs here: CSV and JSON exactly as clients get them. What does not: whether they may be published (see `audit`).

Source: Froomle's batch page: columns as in its example, strings quoted, integers not, an empty position for null.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import polars as pl

from recoflow import schema
from recoflow.campaigns import filename, staged_audiences
from recoflow.campaigns.staged_audiences import StagedAudiences
from recoflow.storage import artifacts

if TYPE_CHECKING:
    import pyarrow as pa

    from recoflow.campaigns.request import Request
    from recoflow.campaigns.staged import Staged

_FORMULA: Final = "^[=+\\-@\t\r]"  # what spreadsheets take for a formula
ROWS: Final = 1 << 16


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
    rows = 0

    def render(file: BinaryIO) -> None:
        nonlocal rows
        with _compressing(file, filename.is_compressed(staged.name)) as sink:
            rows = _write_csv(sink, (_frame(part, staged) for part in staged.parts))

    artifacts.write_atomic(path, render)
    return Response(path, rows, artifacts.sha256(path))


def write_errors(errors: pl.DataFrame, path: Path) -> None:
    """Write the side file of refused rows (problems.ERRORS): line, column, code, message."""
    artifacts.write_atomic(path, lambda file: _write_csv(file, iter([errors])))


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


def _frame(part: Path, staged: Staged | StagedAudiences) -> pl.DataFrame:
    if isinstance(staged, StagedAudiences):
        return pl.read_parquet(part, columns=list(staged_audiences.COLUMNS))
    frame = pl.read_parquet(part, columns=list(columns(staged.information_fields)))
    if not staged.csv_safe:
        return frame
    return frame.with_columns(
        pl.when(pl.col(field).str.contains(_FORMULA)).then(pl.lit("'") + pl.col(field)).otherwise(field).alias(field)
        for field in staged.information_fields
    )


@contextmanager
def _compressing(file: BinaryIO, is_compressed: bool) -> Iterator[BinaryIO]:
    if not is_compressed:
        yield file
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as compressed:
        yield cast("BinaryIO", compressed)


def _write_csv(sink: BinaryIO, frames: Iterator[pl.DataFrame]) -> int:
    """pyarrow's "needed" quoting is the one that clients expect: it quotes every string and no number."""
    from pyarrow import csv  # noqa: PLC0415 - late, like all that only campaigns need

    first = _arrow(next(frames))
    rows = len(first)
    options = csv.WriteOptions(quoting_style="needed", batch_size=ROWS)
    with csv.CSVWriter(sink, first.schema, write_options=options) as writer:
        writer.write_table(first)
        for frame in frames:
            writer.write_table(_arrow(frame))
            rows += len(frame)
    return rows


def _arrow(frame: pl.DataFrame) -> pa.Table:
    import pyarrow as pa  # noqa: PLC0415

    kinds = {pl.String: pa.string(), pl.Int64: pa.int64()}
    return frame.to_arrow().cast(pa.schema([(name, kinds[type(kind)]) for name, kind in frame.schema.items()]))
