"""Event and item files: what a file is by its content and its name, and reading it in bounded batches.

What belongs here: compression, framing, dialect, batching. What does not: rules about events.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from recoflow.environment import Environment
from recoflow.errors import SourceError
from recoflow.schema import ParsedBatch
from recoflow.sources import buffers, collect, csvtext, froomle, items, jsonstream, metarank
from recoflow.sources.chunks import Chunk, Read, refilled
from recoflow.sources.collect import Arrival, Collector, Dialect
from recoflow.sources.columns import Easy
from recoflow.sources.jsonstream import JsonChunk

BATCH_ROWS: Final = 100_000  # from which on rows are handed on: they become one row group of the lake
CHUNK_BYTES: Final = 16 * 1024**2
HEAD_BYTES: Final = 1024**2
EXACT_BYTES: Final = 64 * 1024  # below, one event at a time is done before the compiled path is loaded
WORKERS: Final = min(4, os.cpu_count() or 1)  # more would wait for the one thread that reads and cuts
BY_COLUMNS: Final = (froomle.parse, metarank.parse)
SUFFIXES: Final = (".csv", ".json", ".jsonl", ".ndjson")

_GZIP, _ZSTD, _UTF8 = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def read(
    path: Path,
    environment: Environment,
    received_at: datetime,
    *,
    name: str | None = None,
    dialect: Dialect | None = None,
) -> Iterator[ParsedBatch]:
    """Read a file of Froomle events, Froomle items or Metarank events in batches of about a hundred thousand rows.

    Args:
        path: `.csv`, `.json`, `.jsonl` or `.ndjson`, plain, gzip or zstd.
        environment: where the file arrived.
        received_at: time of receipt, with a zone.
        name: what the file is called in rows, rejects and errors; also tells its purpose where the content does not
            (`events`, `items`, `purchases` in it). By default the path's own name.
        dialect: the rules of the file's events, where they are known; by default told by the content. JSON only.

    Raises:
        SourceError: when the whole file cannot be read. Batches before a damage may have been given already.
    """
    shown = name or path.name
    with buffers.kept(), _opened(path, shown) as stream:
        head = bytes(refilled(b"", stream, HEAD_BYTES)[0])
        if head.startswith(_UTF16):
            raise SourceError(shown, "is UTF-16", "Save it as UTF-8")
        head = head.removeprefix(_UTF8)
        if head.strip():
            chunks, found = _framed(head, stream, shown, dialect)
            yield from _batches(_parsed(chunks, found, _arrival(shown, found, environment, received_at)))


def _framed(head: bytes, more: Read, name: str, dialect: Dialect | None) -> tuple[Iterator[Chunk], Dialect]:
    if _is_csv(name, head):
        header = csvtext.header_of(head, name)
        rest = head.partition(b"\n")[2]
        return csvtext.chunks(_rejoined(rest, more), header, CHUNK_BYTES), _dialect_of_header(header, name)
    if dialect is None:
        look_ahead = jsonstream.chunks(_rejoined(head, _nothing), head, CHUNK_BYTES)
        dialect = _dialect_of_values(look_ahead, name)
    return jsonstream.chunks(_rejoined(head, more), head, CHUNK_BYTES), dialect


def _arrival(name: str, dialect: Dialect, environment: Environment, received_at: datetime) -> Arrival:
    default = "purchase" if dialect is froomle.parse and "purchases" in name.lower() else None
    return Arrival(environment, name, received_at, default_event_type=default)


def _parsed(chunks: Iterator[Chunk], dialect: Dialect, arrival: Arrival) -> Iterator[ParsedBatch]:
    """Parse chunks in their order, a few at a time: the compiled path holds no interpreter lock."""
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting: deque[Future[ParsedBatch]] = deque()
        for chunk in chunks:
            if len(waiting) > WORKERS:  # one waits, so that no worker idles while rows are made ready for the lake
                yield waiting.popleft().result()
            waiting.append(pool.submit(_parse_chunk, chunk, dialect, arrival))
        while waiting:
            yield waiting.popleft().result()


def _parse_chunk(chunk: Chunk, dialect: Dialect, arrival: Arrival) -> ParsedBatch:
    if dialect in BY_COLUMNS and len(chunk.text) > EXACT_BYTES:
        return _by_columns(chunk, dialect, arrival)
    collector = _exactly(chunk, range(len(chunk.records.begins)), dialect, arrival)
    return replace(
        collector.batch(),
        event_lines=_lines(chunk, collector.event_records),
        update_lines=_lines(chunk, collector.update_records),
    )


def _exactly(chunk: Chunk, indices: Iterable[int], dialect: Dialect, arrival: Arrival) -> Collector:
    collector = Collector(arrival)
    collector.read(chunk.pieces(indices), dialect)
    collector.read(chunk.broken, dialect)
    return collector


def _by_columns(chunk: Chunk, dialect: Dialect, arrival: Arrival) -> ParsedBatch:
    """The easy records by columns, the others one at a time; rows in the file's order."""
    easy = _easy(chunk, dialect, arrival)
    collector = _exactly(chunk, np.flatnonzero(~easy.is_easy), dialect, arrival)
    exact = collector.batch()
    events, event_lines = _in_order(chunk, easy.events, easy.event_records, exact.events, collector.event_records)
    updates, update_lines = _in_order(chunk, easy.updates, easy.update_records, exact.updates, collector.update_records)
    return ParsedBatch(
        read=exact.read + int(easy.is_easy.sum()),
        events=events,
        updates=updates,
        rejects=exact.rejects,
        ignored_keys=dict(Counter(easy.ignored_keys) + Counter(exact.ignored_keys)),
        event_lines=event_lines,
        update_lines=update_lines,
    )


def _easy(chunk: Chunk, dialect: Dialect, arrival: Arrival) -> Easy:
    """What loads numba, each part only where it is needed."""
    if isinstance(chunk, JsonChunk) and chunk.survey.backslashes:
        from recoflow.sources import escapes  # noqa: PLC0415

        chunk = replace(chunk, text=escapes.spelled_out(chunk.text))
    if dialect is froomle.parse:
        from recoflow.sources import froomle_columns  # noqa: PLC0415

        return froomle_columns.parse(chunk, arrival)
    from recoflow.sources import metarank_columns  # noqa: PLC0415

    return metarank_columns.parse(chunk, arrival)


def _lines(chunk: Chunk, records: NDArray[np.int64] | list[int]) -> pl.Series:
    """The line of the file where each of these records begins."""
    return pl.Series(chunk.records.lines[np.asarray(records, np.int64)])


def _in_order(
    chunk: Chunk, easy: pl.DataFrame, easy_records: NDArray[np.int64], exact: pl.DataFrame, exact_records: list[int]
) -> tuple[pl.DataFrame, pl.Series]:
    """Rows in the order of their records, and their lines."""
    if exact.is_empty():
        return easy, _lines(chunk, easy_records)
    records = np.concatenate([easy_records, np.array(exact_records, np.int64)])
    order = np.argsort(records, kind="stable")
    return pl.concat([easy, exact])[order], _lines(chunk, records[order])


def _batches(parsed: Iterator[ParsedBatch]) -> Iterator[ParsedBatch]:
    """Join chunks until a batch has its size."""
    waiting: list[ParsedBatch] = []
    rows = 0
    for batch in parsed:
        waiting.append(batch)
        rows += max(batch.read, batch.events.height)
        if rows >= BATCH_ROWS:
            yield collect.merge(waiting)
            waiting, rows = [], 0
    if waiting:
        yield collect.merge(waiting)


def _is_csv(name: str, head: bytes) -> bool:
    stem = name.lower().removesuffix(".gz").removesuffix(".zst")
    suffix = Path(stem).suffix
    if suffix in SUFFIXES:
        return suffix == ".csv"
    if head.lstrip()[:1] in (b"{", b"["):
        return False
    raise SourceError(name, "is neither CSV nor JSON by its name", f"Name it with one of {', '.join(SUFFIXES)}")


def _dialect_of_header(header: tuple[str, ...], name: str) -> Dialect:
    dialect = _dialect_of_keys(frozenset(header), name)
    if dialect is None or dialect is metarank.parse:
        problem = f"none of the columns {', '.join(header)} is event_type or item_id"
        raise SourceError(f"{name}:1", problem, "Send a header with the column names of Froomle's events or items")
    return dialect


def _dialect_of_values(chunks: Iterator[Chunk], name: str) -> Dialect:
    """What most of the first hundred objects are; Froomle events when no object says."""
    votes: Counter[Dialect] = Counter()
    for chunk in chunks:
        for piece in chunk.pieces(range(min(100, len(chunk.records.begins)))):
            if isinstance(piece.value, dict) and (dialect := _dialect_of_keys(frozenset(piece.value), name)):
                votes[dialect] += 1
        break
    return votes.most_common(1)[0][0] if votes else items.parse if "items" in name else froomle.parse


def _dialect_of_keys(keys: frozenset[str], name: str) -> Dialect | None:
    """What an object or row with these keys is; the name decides between events and items that lack `event_type`."""
    if "event_type" in keys:
        return froomle.parse
    if keys & {"event", "item", "items"} or ("id" in keys and keys & {"type", "fields", *metarank.LINKS}):
        return metarank.parse
    if "item_id" in keys or "action_item" in keys:
        has_visitor = bool(keys & {"user_id", "device_id"})
        is_events = "action_item" in keys or (has_visitor and "items" not in name)
        return froomle.parse if is_events or "purchases" in name else items.parse
    return None


@contextmanager
def _opened(path: Path, name: str) -> Iterator[Read]:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            if magic.startswith(_GZIP):
                with gzip.open(file) as unzipped:
                    yield unzipped.readinto
            elif magic == _ZSTD:
                with pa.CompressedInputStream(pa.PythonFile(file), "zstd") as unzipped:
                    yield unzipped.readinto
            else:
                yield file.readinto
    except (EOFError, zlib.error, OSError) as error:
        raise SourceError(name, f"cannot be read to its end: {error}", "Send it again, whole") from error


def _rejoined(head: bytes, more: Read) -> Read:
    """A reader that gives `head` again before it goes on."""
    rest = memoryview(head)

    def read_next(into: memoryview) -> int:
        nonlocal rest
        if not rest:
            return more(into)
        length = min(len(rest), len(into))
        into[:length], rest = rest[:length], rest[length:]
        return length

    return read_next


def _nothing(_into: memoryview) -> int:
    return 0
