"""CSV (`,` delimiter, `"` quotes, a header, empty = null), cut into chunks of whole records.

What belongs here: framing, the header, and finding the next record after a broken one. What does not: what a row means.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from recoflow.errors import SourceError
from recoflow.sources.collect import Piece
from recoflow.sources.jsonstream import MAX_EVENT, Read
from recoflow.sources.rejects import EventError

MAX_RECORD = 1000  # lines that one quoted record may span

csv.field_size_limit(MAX_EVENT)  # Python's own limit of 128 KiB is shorter than some descriptions


@dataclass(frozen=True)
class Records:
    """A stretch of a CSV file without its header."""

    header: tuple[str, ...]
    text: bytes
    first_line: int

    def pieces(self) -> Iterator[Piece]:
        """Every record with its exact place, text and cells by name; empty cells are None."""
        lines = self.text.split(b"\n")
        index = 0
        while index < len(lines):
            if not lines[index].strip():
                index += 1
                continue
            count = _record_length(lines, index, len(self.header))
            yield self._piece(b"\n".join(lines[index : index + count]), self.first_line + index)
            index += count

    def _piece(self, raw: bytes, line: int) -> Piece:
        text = raw.decode("utf-8", errors="replace").removesuffix("\r")
        try:
            cells = _cells(raw)
        except EventError as error:
            return Piece(line, text, error)
        if len(cells) != len(self.header):
            message = f"the row has {len(cells)} fields, the header has {len(self.header)}; quote texts with commas"
            return Piece(line, text, EventError("wrong_field_count", None, message))
        return Piece(line, text, {name: cell or None for name, cell in zip(self.header, cells, strict=True)})


def header_of(head: bytes, name: str) -> tuple[str, ...]:
    """Column names from a file's first line.

    Raises:
        SourceError: when the line is no header that can be used.
    """
    line = head.partition(b"\n")[0]
    try:
        names = tuple(cell.strip() for cell in _cells(line))
    except EventError as error:
        raise SourceError(f"{name}:1", f"the header cannot be read: {error.message}", "Send a plain header") from None
    if len(names) == 1:
        for other in (";", "\t", "|"):
            if other in names[0]:
                raise SourceError(f"{name}:1", f"the delimiter is {other!r}", "Separate the columns with commas")
    if any(quote in line.decode() for quote in "”“„"):
        raise SourceError(f"{name}:1", "the header has curly quotes", 'Use the plain quote " or none')
    twice = {column for column in names if names.count(column) > 1}
    if twice or not all(names):
        problem = f"the column {min(twice)} stands twice" if twice else "a column has no name"
        raise SourceError(f"{name}:1", problem, "Give each column a name of its own")
    return names


def chunks(read: Read, header: tuple[str, ...], size: int) -> Iterator[Records]:
    """Cut what follows the header into chunks of about `size` bytes that end where a record does."""
    rest, line = b"", 2
    while block := read(size):
        rest += block
        cut = _last_record_end(rest)
        if cut:
            yield Records(header, rest[:cut], line)
            line += rest.count(b"\n", 0, cut)
            rest = rest[cut:]
        elif len(rest) > 4 * size:  # a quote that never closes: the exact path finds the next record
            cut = rest.rindex(b"\n") + 1 if b"\n" in rest else len(rest)
            yield Records(header, rest[:cut], line)
            line += rest.count(b"\n", 0, cut)
            rest = rest[cut:]
    if rest.strip():
        yield Records(header, rest, line)


def _last_record_end(text: bytes) -> int:
    """Position behind the last line end that is outside of quotes; 0 when there is none."""
    end = text.rfind(b"\n") + 1
    quotes = text.count(b'"', 0, end)
    while end and quotes % 2:
        before = text.rfind(b"\n", 0, end - 1) + 1
        quotes -= text.count(b'"', before, end)
        end = before
    return end


def _record_length(lines: list[bytes], start: int, width: int) -> int:
    """How many lines the record has; 1 when its quotes do not match, so that the next line is a record again."""
    quotes = 0
    for count, line in enumerate(lines[start : start + MAX_RECORD], 1):
        quotes += line.count(b'"')
        if quotes % 2 == 0:
            return count if count == 1 or _has_width(b"\n".join(lines[start : start + count]), width) else 1
    return 1


def _has_width(raw: bytes, width: int) -> bool:
    try:
        return len(_cells(raw)) == width
    except EventError:
        return False


def _cells(raw: bytes) -> list[str]:
    try:
        text = raw.decode().removesuffix("\r")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except UnicodeDecodeError as error:
        raise EventError("not_utf8", None, f"byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except csv.Error as error:
        raise EventError("bad_quoting", None, f'{error}; put texts in " and double each " in them') from None
    if len(rows) != 1:
        raise EventError("bad_quoting", None, 'a line end stands outside of quotes; put the text in "')
    return rows[0]
