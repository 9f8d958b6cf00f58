"""The bytes of a request file before it is parsed: its kind, its header, and the line that each row begins at.

What belongs here: refusing what no CSV reader would notice (polars, DuckDB and pyarrow accept or mend most of these in
silence: docs/spec/campaigns.md). What does not: the meaning of columns and cells.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recoflow.campaigns.requests.rejection import TRUNCATED, rejected

CHUNK = 1 << 22
MAX_HEADER = 1 << 16
CHUNK_HEAD = 8

_MAGIC = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
_QUOTE, _LF, _CR, _COMMA = 34, 10, 13, 44
_WIDE = {  # longer ones first
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_EMPTY = frozenset(' \t\r\n,"\x1a')  # what rows without content are made of; 0x1a ended files of MS-DOS


@dataclass(frozen=True)
class Framing:
    """Where the rows of a file stand.

    Args:
        header: the cells of the first row, as they stand in the file.
        header_line: 1-based line of the header.
        lines: int64 [rows], the 1-based line at which each data row begins; blank lines are no rows.
        is_terminated: whether the file ends with a line end.
        blocks: sizes in bytes of the file's parts, each of them whole rows; the header is in the first one.
    """

    header: tuple[str, ...]
    header_line: int
    lines: npt.NDArray[np.int64]
    is_terminated: bool
    blocks: tuple[int, ...]


def scan_rows(path: Path, *, is_compressed: bool, max_bytes: int, max_rows: int, chunk_bytes: int = CHUNK) -> Framing:
    """Read the file once, in bounded memory, and find its rows.

    Raises:
        RequestRejectedError: `empty_file`, `compressed`, `not_gzip`, `too_large`, `wrong_delimiter`, `nul_byte`,
            `not_utf8`, `cr_only_lines`, `stray_quote`, `second_header`, `header_too_long`, `unreadable_header`,
            `too_many_rows`, or `truncated`.
    """
    scanner = _Scanner(max_rows)
    size = 0
    for chunk in _chunks(path, is_compressed, chunk_bytes):
        size += len(chunk)
        if size > max_bytes:
            raise rejected("too_large", f"the file holds more than {max_bytes:,} bytes", "Split it into several files")
        scanner.feed(chunk)
    if not size:
        raise rejected("empty_file", "the file is empty", "Upload a header and at least one row")
    return scanner.finish()


def _chunks(path: Path, is_compressed: bool, size: int) -> Iterator[bytes]:
    with path.open("rb") as raw:
        magic = _compression(raw.read(CHUNK_HEAD))
        raw.seek(0)
        if magic and not (is_compressed and magic == "gzip"):
            raise rejected("compressed", f"the content is {magic}, not CSV", "Upload plain CSV, or gzip named .csv.gz")
        if is_compressed and magic is None:
            raise rejected("not_gzip", "the name says .gz but the content is not gzip", "Name the file .csv")
        opened = gzip.GzipFile(fileobj=raw, mode="rb") if is_compressed else raw
        try:
            while chunk := opened.read(size):
                yield chunk
        except EOFError:
            raise rejected(TRUNCATED, "the gzip stream ends early", "Upload the whole file again") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise rejected("not_gzip", f"the gzip stream is damaged: {error}", "Upload the file again") from None


@dataclass
class _Scanner:
    """State between chunks. A chunk is scanned once the byte behind it is known: `"` and CR are judged in context."""

    max_rows: int
    head: bytearray = field(default_factory=bytearray)
    pending: bytes = b""
    before: int = _LF  # the byte before the pending chunk; a file begins as a line does
    is_inside_quotes: bool = False
    newlines: int = 0
    row_start: int = 1  # line at which the row that is being read began
    row_is_blank: bool = True
    rows: int = 0
    starts: list[npt.NDArray[np.int64]] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    unblocked: int = 0  # bytes behind the last block
    decoder: codecs.IncrementalDecoder = field(default_factory=codecs.getincrementaldecoder("utf-8"))

    def feed(self, chunk: bytes) -> None:
        if not self.head:
            if _compression(chunk):
                raise rejected("compressed", "the content is compressed twice", "Compress it once")
            if encoding := _wide_encoding(chunk):
                raise rejected("not_utf8", f"the file is {encoding}", "Save it as UTF-8, in Excel as 'CSV UTF-8'")
            self.unblocked = len(chunk) - len(chunk := chunk.removeprefix(codecs.BOM_UTF8))
            first_line = chunk[:MAX_HEADER].lstrip(b" \t\r\n\x1a").partition(b"\n")[0]
            if b"," not in first_line and any(delimiter in first_line for delimiter in (b";", b"\t", b"|")):
                raise rejected(
                    "wrong_delimiter", "the header is not separated by ','", "Use ',' as the delimiter", line=1
                )
        if (place := chunk.find(b"\0")) >= 0:
            line = self._line(chunk, place)
            raise rejected("nul_byte", "the file contains NUL bytes", "Save it as UTF-8 text", line=line)
        carried = len(self.decoder.getstate()[0])
        try:
            self.decoder.decode(chunk)
        except UnicodeDecodeError as error:
            line = self._line(chunk, max(0, error.start - carried))
            raise rejected("not_utf8", "the file is not UTF-8", "Save it as UTF-8", line=line) from None
        if len(self.head) < MAX_HEADER:
            self.head += chunk[:MAX_HEADER]
        if self.pending:
            self._scan(self.pending, following=chunk[0])
        self.pending = chunk

    def finish(self) -> Framing:
        try:
            self.decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise rejected(TRUNCATED, "the file ends inside a character", "Upload the whole file again") from None
        is_terminated = self.pending.endswith(b"\n")
        if self.pending:
            self._scan(self.pending, following=_LF)
        if self.is_inside_quotes:
            raise rejected(
                TRUNCATED, "a quote is opened and never closed", "Upload the whole file", line=self.row_start
            )
        if not self.row_is_blank:
            self._add(np.array([self.row_start], np.int64))
        lines = np.concatenate(self.starts) if self.starts else np.empty(0, np.int64)
        blank, header = self._header()
        if not header:
            raise rejected("empty_file", "the file holds only blank lines", "Upload a header and at least one row")
        blocks = (*self.blocks, self.unblocked) if self.unblocked else tuple(self.blocks)
        return Framing(header, int(lines[blank]), lines[blank + 1 :], is_terminated, blocks)

    def _line(self, chunk: bytes, place: int) -> int:
        return 1 + self.newlines + self.pending.count(b"\n") + chunk.count(b"\n", 0, place)

    def _scan(self, chunk: bytes, following: int) -> None:
        data = np.frombuffer(chunk, np.uint8)
        quotes = data == _QUOTE
        inside = np.full(len(data), self.is_inside_quotes)  # state behind each byte
        if b'"' in chunk:
            parity = np.cumsum(quotes, dtype=np.uint8) & 1  # wraps, which keeps it
            inside ^= parity.astype(np.bool_)
        self._refuse_stray_quotes(data, quotes, inside, following)
        newlines = np.flatnonzero(data == _LF)
        self._refuse_lone_returns(data, inside, newlines, following)
        self._collect_rows(data, newlines, ~inside[newlines])
        self.newlines += len(newlines)
        self.is_inside_quotes = bool(inside[-1])
        self.before = int(data[-1])

    def _refuse_stray_quotes(
        self, data: npt.NDArray[np.uint8], quotes: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_], following: int
    ) -> None:
        at = np.flatnonzero(quotes)
        if not len(at):
            return
        around = np.concatenate(([self.before], data, [following])).astype(np.uint8)
        neighbours = np.where(inside[at], around[at], around[at + 2])  # before an opening, behind a closing quote
        is_stray = ~np.isin(neighbours, (_QUOTE, _COMMA, _LF, _CR))
        if is_stray.any():
            place = at[np.argmax(is_stray)]
            line = 1 + self.newlines + int(np.count_nonzero(data[:place] == _LF))
            if data[max(0, place - 3) : place].tobytes() == codecs.BOM_UTF8:
                problem = f"a second file begins at line {line}, with a byte order mark"
                raise rejected("second_header", problem, "Upload the files one by one", line=line)
            raise rejected(
                "stray_quote",
                "a quote stands inside a cell",
                'Quote the whole cell and double the quotes within it, e.g. "a ""b"" c"',
                line=line,
            )

    def _refuse_lone_returns(
        self,
        data: npt.NDArray[np.uint8],
        inside: npt.NDArray[np.bool_],
        newlines: npt.NDArray[np.int64],
        following: int,
    ) -> None:
        returns = np.flatnonzero(data == _CR)
        if not len(returns):
            return
        behind = np.append(data[1:], np.uint8(following))[returns]
        is_lone = (behind != _LF) & ~inside[returns]
        if is_lone.any():
            line = 1 + self.newlines + int(np.searchsorted(newlines, returns[np.argmax(is_lone)]))
            raise rejected("cr_only_lines", "a line ends in CR alone", "Save the file with LF or CRLF ends", line=line)

    def _collect_rows(
        self, data: npt.NDArray[np.uint8], newlines: npt.NDArray[np.int64], is_end: npt.NDArray[np.bool_]
    ) -> None:
        ends = newlines[is_end]
        self.unblocked += len(data)
        if not len(ends):
            self.row_is_blank = self.row_is_blank and _is_blank(data)
            return
        rest = len(data) - int(ends[-1]) - 1
        self.blocks.append(self.unblocked - rest)
        self.unblocked = rest
        ordinals = 1 + self.newlines + np.flatnonzero(is_end)  # line that each end stands on
        starts = np.concatenate(([self.row_start], ordinals[:-1] + 1))
        lengths = np.diff(ends, prepend=-1) - 1
        is_blank = (lengths == 0) | ((lengths == 1) & (data[ends - 1] == _CR))
        is_blank[0] = self.row_is_blank and _is_blank(data[: ends[0]])
        self._add(starts[~is_blank])
        self.row_start = int(ordinals[-1]) + 1
        self.row_is_blank = _is_blank(data[ends[-1] + 1 :])

    def _add(self, starts: npt.NDArray[np.int64]) -> None:
        self.rows += len(starts)
        if self.rows > self.max_rows + 1:
            raise rejected(
                "too_many_rows", f"the file asks for more than {self.max_rows:,} lists", "Split it into several files"
            )
        self.starts.append(starts)

    def _header(self) -> tuple[int, tuple[str, ...]]:
        """How many rows without content stand before the header, and its cells; none where there is no other row."""
        lines = bytes(self.head).decode("utf-8", "ignore").split("\n")
        before = list(itertools.takewhile(is_empty, lines))
        is_whole = len(self.head) < MAX_HEADER
        if len(before) == len(lines) and is_whole:
            return 0, ()
        if len(before) >= len(lines) - 1 and not is_whole:
            raise rejected(
                "header_too_long", f"the header is longer than {MAX_HEADER:,} bytes", "Check the file", line=1
            )
        try:
            cells = next(csv.reader([lines[len(before)]], strict=True))
        except csv.Error as error:
            raise rejected("unreadable_header", f"the header cannot be read: {error}", "Mend the first line") from None
        return sum(line not in {"", "\r"} for line in before), tuple(cells)


def is_empty(row: str) -> bool:
    """Whether the text of a row has no content: empty cells, quoted or not, blanks, and the end of file of MS-DOS."""
    return _EMPTY.issuperset(row) and row.count('"') % 2 == 0


def _wide_encoding(head: bytes) -> str | None:
    """The name of an encoding whose characters take two or four bytes; without a mark at the header's letters."""
    marked = next((name for mark, name in _WIDE.items() if head.startswith(mark)), None)
    low, high = head[:64:2], head[1:64:2]
    has_zeros = bool(high) and any(all(one) and not any(other) for one, other in ((low, high), (high, low)))
    return marked or ("UTF-16" if has_zeros else None)


def _is_blank(data: npt.NDArray[np.uint8]) -> bool:
    return len(data) == 0 or (len(data) == 1 and int(data[0]) == _CR)


def _compression(head: bytes) -> str | None:
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
