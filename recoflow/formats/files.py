"""Event and item files: what a file is by its content and its name, and reading it in bounded batches.

What belongs here: framing, batching, and who reads which record. What does not: compression, rules about events.
"""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recoflow.errors import SourceError
from recoflow.formats import (
    batch_builder,
    buffers,
    compressed_input,
    csv_framing,
    dialects,
    froomle,
    json_framing,
    metarank,
)
from recoflow.formats.batch_builder import BatchBuilder, EventFormat, ParseContext
from recoflow.formats.chunks import Chunk, Read, refilled
from recoflow.formats.columns import Easy
from recoflow.formats.csv_framing import CsvChunk
from recoflow.formats.dialects import Mixed
from recoflow.formats.json_framing import JsonChunk
from recoflow.formats.read_limits import LIMITS, ReadLimits
from recoflow.schema import ParsedBatch
from recoflow.settings.environment import Environment

SHORTEST_OBJECT: Final = 24  # bytes; no event is shorter: {"event":"x","user":"y"}
WORKERS: Final = min(4, os.cpu_count() or 1)  # more would wait for the one thread that reads and cuts
BY_COLUMNS: Final = (froomle.parse_froomle, metarank.parse_metarank)
SUFFIXES: Final = (".csv", ".json", ".jsonl", ".ndjson")

_UTF8 = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_EXACT = threading.Lock()  # one at a time: the interpreter runs no two at once, and each may need much memory


def read_events(
    path: Path,
    environment: Environment,
    received_at: datetime,
    *,
    name: str | None = None,
    dialect: EventFormat | None = None,
    limits: ReadLimits = LIMITS,
) -> Iterator[ParsedBatch]:
    """Read a file of Froomle events, Froomle items or Metarank events in batches of about a hundred thousand rows.

    Args:
        path: `.csv`, `.json`, `.jsonl` or `.ndjson`, plain, gzip or zstd.
        environment: where the file arrived; how much a file may hold.
        received_at: time of receipt, with a zone.
        name: what the file is called in rows, rejects and errors; also tells its purpose where the content does not
            (`events`, `items`, `purchases` in it). By default the path's own name.
        dialect: the rules of the file's events, where they are known; by default told by the content. JSON only.
        limits: sizes of batches, chunks and events.

    Raises:
        SourceError: when the whole file cannot be read. Batches before a damage may have been given already.
    """
    shown = name or path.name
    with buffers.kept(), compressed_input.open_input(path, shown, environment.sftp.max_bytes) as stream:
        first = bytes(refilled(b"", stream, limits.head_bytes)[0])
        if first.startswith(_UTF16):
            raise SourceError(shown, "is UTF-16", "Save it as UTF-8")
        more = _rejoined(first.removeprefix(_UTF8), stream)
        head, line = _head(more, limits.head_bytes)
        if head:
            chunks, found = _framed(head, line, more, shown, dialect, limits=limits)
            default = "purchase" if dialects.is_of_purchases(shown) else None
            arrival = ParseContext(environment, shown, received_at, default_event_type=default)
            yield from _batches(_parsed(chunks, found, arrival, limits), shown, limits)


def _head(read: Read, size: int) -> tuple[bytes, int]:
    """The beginning of a stream, without the blank lines before it, and the number of its first line."""
    head, line, is_more = b"", 1, True
    while is_more and len(head) < size:
        text, is_more = refilled(head, read, size)
        head = bytes(text)
        content = head.lstrip()
        begin = head.rfind(b"\n", 0, len(head) - len(content)) + 1
        line += head.count(b"\n", 0, begin)
        head = head[begin:] if content else b""
    return head, line


def _framed(
    head: bytes, line: int, more: Read, name: str, dialect: EventFormat | None, *, limits: ReadLimits
) -> tuple[Iterator[Chunk], EventFormat]:
    if _is_csv(name, head):
        place = f"{name}:{line}"
        first, newline, rest = head.partition(b"\n")
        if not newline and len(first) >= limits.head_bytes:
            problem = f"the first line is longer than {limits.head_bytes:,} bytes"
            raise SourceError(place, problem, "Send a header line with the column names, and one line per row")
        header = csv_framing.header_of(first, place)
        kind = dialects.of_header(header, name, place)
        rows = _rejoined(rest, more)
        return csv_framing.chunks(rows, header, limits.chunk_bytes, line + 1, max_event=limits.event_bytes), kind
    framed = partial(
        json_framing.chunks, head=head, size=limits.chunk_bytes, first_line=line, max_event=limits.event_bytes
    )
    if dialect is None:
        dialect = dialects.of_values(framed(_rejoined(head, _nothing)), name)
    return framed(_rejoined(head, more)), dialect


def _parsed(
    chunks: Iterator[Chunk], dialect: EventFormat, arrival: ParseContext, limits: ReadLimits
) -> Iterator[ParsedBatch]:
    """Parse chunks in their order, a few at a time: the compiled path holds no interpreter lock."""
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting: deque[Future[Iterable[ParsedBatch]]] = deque()
        for chunk in chunks:
            if len(waiting) > WORKERS:  # one waits, so that no worker idles while rows are made ready for the lake
                yield from waiting.popleft().result()
            waiting.append(pool.submit(_parse_chunk, chunk, dialect, arrival, limits))
        while waiting:
            yield from waiting.popleft().result()


def _parse_chunk(
    chunk: Chunk, dialect: EventFormat, arrival: ParseContext, limits: ReadLimits
) -> Iterable[ParsedBatch]:
    """The rows of a chunk in the file's order. Of what gives many, more are parsed as they are asked for."""
    most = dialect.most if isinstance(dialect, Mixed) else dialect
    if most in BY_COLUMNS and len(chunk.text) > limits.exact_bytes and _has_long_records(chunk):
        easy = _easy(chunk, most, arrival)
        odd, *more = islice(_exactly(chunk, np.flatnonzero(~easy.is_easy), dialect, arrival, limits), 2)
        if not more:
            return [_in_file_order(chunk, easy, odd)]
    parts = _exactly(chunk, np.arange(len(chunk.records.begins)), dialect, arrival, limits)
    return chain([_batch(chunk, next(parts))], (_batch(chunk, part) for part in parts))


def _batch(chunk: Chunk, exact: BatchBuilder) -> ParsedBatch:
    return replace(
        exact.batch(),
        event_lines=_lines(chunk, exact.event_records),
        update_lines=_lines(chunk, exact.update_records),
    )


def _has_long_records(chunk: Chunk) -> bool:
    """Whether the records are long enough for their columns, which take memory for each cell, empty ones included."""
    least = 2 * len(chunk.header) if isinstance(chunk, CsvChunk) else SHORTEST_OBJECT
    return least * len(chunk.records.begins) <= len(chunk.text)


def _exactly(
    chunk: Chunk, indices: NDArray[np.int64], dialect: EventFormat, arrival: ParseContext, limits: ReadLimits
) -> Iterator[BatchBuilder]:
    """These records and what is broken, one at a time, in one part or several."""
    pieces = chain(chunk.pieces(indices.tolist()), chunk.broken)
    parts = batch_builder.collected(pieces, dialect, arrival, full=limits.part_characters)
    while True:
        with _EXACT:
            part = next(parts, None)
        if part is None:
            return
        yield part


def _in_file_order(chunk: Chunk, easy: Easy, collector: BatchBuilder) -> ParsedBatch:
    """The easy records, which were read by columns, and the others, which were read one at a time."""
    exact = collector.batch()
    events, event_lines = _in_order(chunk, easy.events, easy.event_records, exact.events, collector.event_records)
    updates, update_lines = _in_order(chunk, easy.updates, easy.update_records, exact.updates, collector.update_records)
    return ParsedBatch(
        read=exact.read + int(easy.is_easy.sum()),
        events=events,
        updates=updates,
        rejects=exact.rejects,
        ignored_keys=batch_builder.most_ignored(Counter(easy.ignored_keys) + Counter(exact.ignored_keys)),
        event_lines=event_lines,
        update_lines=update_lines,
    )


def _easy(chunk: Chunk, dialect: EventFormat, arrival: ParseContext) -> Easy:
    """What loads numba, each part only where it is needed."""
    if isinstance(chunk, JsonChunk) and chunk.survey.backslashes:
        from recoflow.formats import escapes  # noqa: PLC0415

        chunk = replace(chunk, text=escapes.spelled_out(chunk.text))
    if dialect is froomle.parse_froomle:
        from recoflow.formats import froomle_columns  # noqa: PLC0415

        return froomle_columns.parse(chunk, arrival)
    from recoflow.formats import metarank_columns  # noqa: PLC0415

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


def _batches(parsed: Iterator[ParsedBatch], name: str, limits: ReadLimits) -> Iterator[ParsedBatch]:
    """Join chunks until a batch has its size.

    Raises:
        SourceError: when so many records were refused, and none accepted, that no event can be expected any more.
    """
    waiting: list[ParsedBatch] = []
    rows = size = accepted = refused = 0
    first_reject: dict[str, Any] = {}
    for batch in parsed:
        waiting.append(batch)
        rows += max(batch.read, batch.events.height)
        size += sum(int(frame.estimated_size()) for frame in (batch.events, batch.updates, batch.rejects))
        refused += batch.rejects.height
        accepted += batch.read - batch.rejects.height
        if refused and not accepted:
            first_reject = first_reject or batch.rejects.row(0, named=True)
            if refused >= limits.hopeless_rejects:
                raise _hopeless(first_reject, refused, name)
        if rows >= limits.batch_rows or size >= limits.batch_bytes:
            yield batch_builder.merge(waiting)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield batch_builder.merge(waiting)


def _hopeless(first_reject: Mapping[str, Any], refused: int, name: str) -> SourceError:
    problem = f"none of its first {refused:,} events can be accepted, line {first_reject['line']} because: "
    return SourceError(name, problem + first_reject["message"], "Mend what makes the file, and send it again")


def _is_csv(name: str, head: bytes) -> bool:
    stem = name.lower().removesuffix(".gz").removesuffix(".zst")
    suffix = Path(stem).suffix
    if suffix in SUFFIXES:
        return suffix == ".csv"
    if head.lstrip()[:1] in (b"{", b"["):
        return False
    raise SourceError(name, "is neither CSV nor JSON by its name", f"Name it with one of {', '.join(SUFFIXES)}")


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
