"""CSV (`,` delimiter, `"` quotes, a header, empty = null), cut into chunks of whole records.

What belongs here: framing, the header, and finding the next record after a broken one. What does not: what a row means.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recoflow.errors import SourceError
from recoflow.formats.batch_builder import RawRecord
from recoflow.formats.chunks import (
    Read,
    Records,
    Survey,
    Text,
    count,
    is_blank,
    last_place,
    lines,
    next_line,
    places,
    refilled,
    surveyed,
    too_long,
)
from recoflow.formats.read_limits import MAX_EVENT
from recoflow.formats.rejects import EventError, shortened

MAX_LINES: Final = 1000  # lines that one quoted record may span

csv.field_size_limit(MAX_EVENT)  # Python's own limit of 128 KiB is shorter than some descriptions


@dataclass(frozen=True)
class CsvChunk:
    """A stretch of a CSV file without its header."""

    header: tuple[str, ...]
    text: Text
    first_line: int
    broken: tuple[RawRecord, ...] = ()

    @cached_property
    def survey(self) -> Survey:
        """Of the text."""
        return surveyed(self.text)

    @cached_property
    def records(self) -> Records:
        """Each record: a line with content, or several where a quoted cell has line ends."""
        found = lines(self.text, self.survey.line_ends, self.first_line)
        if not self.survey.quotes:
            return found
        begins, ends, numbers = found
        quotes = np.searchsorted(places(self.text, b'"', self.survey.quotes), np.stack([begins, ends]))
        odd = np.flatnonzero((quotes[1] - quotes[0]) % 2)
        is_begin = np.ones(len(begins), bool)
        covered = -1
        for line in odd.tolist():
            if line > covered:
                covered = line + self._length(begins, ends, line) - 1
                is_begin[line + 1 : covered + 1] = False
                ends[line] = ends[covered]
        return Records(begins[is_begin], ends[is_begin], numbers[is_begin])

    def pieces(self, indices: Iterable[int]) -> Iterator[RawRecord]:
        """These records with their exact places, texts and cells by name; empty cells are None, blank lines nothing."""
        records = self.records
        for index in indices:
            raw = bytes(self.text[records.begins[index] : records.ends[index]])
            if raw.strip():
                yield self._piece(raw, int(records.lines[index]))._replace(record=index)

    def _length(self, begins: NDArray[np.int64], ends: NDArray[np.int64], start: int) -> int:
        """How many lines the record has; 1 when its quotes do not match, so that the next line is a record again."""
        quotes = 0
        for line in range(start, min(start + MAX_LINES, len(begins))):
            quotes += count(self.text[begins[line] : ends[line]], b'"')
            if quotes % 2 == 0:
                is_record = _has_width(bytes(self.text[begins[start] : ends[line]]), len(self.header))
                return line - start + 1 if is_record else 1
        return 1

    def _piece(self, raw: bytes, line: int) -> RawRecord:
        text = raw.decode("utf-8", errors="replace").removesuffix("\r")
        try:
            cells = _cells(raw)
        except EventError as error:
            return RawRecord(line, text, error)
        if _is_header(cells, self.header):
            message = f"a second header at line {line}; remove it, or send each export as a file of its own"
            return RawRecord(line, text, EventError("second_header", None, message))
        if len(cells) != len(self.header):
            message = f"the row has {len(cells)} fields, the header has {len(self.header)}; quote texts with commas"
            return RawRecord(line, text, EventError("wrong_field_count", None, message))
        return RawRecord(line, text, {name: cell or None for name, cell in zip(self.header, cells, strict=True)})


def header_of(line: bytes, place: str) -> tuple[str, ...]:
    """Column names from the header's line; `place` names it in errors.

    Raises:
        SourceError: when the line is no header that can be used.
    """
    try:
        names = tuple(cell.strip() for cell in _cells(line))
    except EventError as error:
        raise SourceError(place, f"the header cannot be read: {error.message}", "Send a plain header") from None
    if len(names) == 1:
        for other in (";", "\t", "|"):
            if other in names[0]:
                raise SourceError(place, f"the delimiter is {other!r}", "Separate the columns with commas")
    if any(quote in line.decode() for quote in "”“„"):
        raise SourceError(place, "the header has curly quotes", 'Use the plain quote " or none')
    twice = [column for column, count in Counter(names).items() if count > 1]
    if twice or not all(names):
        problem = f"the column {shortened(min(twice))} stands twice" if twice else "a column has no name"
        raise SourceError(place, problem, "Give each column a name of its own")
    return names


def chunks(
    read: Read, header: tuple[str, ...], size: int, line: int, *, max_event: int = MAX_EVENT
) -> Iterator[CsvChunk]:
    """Cut what follows the header, from this line on, into chunks of about `size` bytes that end where a record does.

    A record that has no end within `max_event` bytes has a quote that never closes, or no line end: what stands on its
    first line is refused, and the next line is a record again.
    """
    rest: Text = b""
    while True:
        text, is_more = refilled(rest, read, size)
        if not is_more:
            break
        last = last_place(text, b"\n") + 1
        chunk = CsvChunk(header, text[:last], line)
        if chunk.survey.quotes % 2:
            chunk = CsvChunk(header, text[: _last_record_end(text, len(rest))], line)
        if not chunk.text and len(text) > max_event:
            chunk = CsvChunk(header, text[:last], line)
        rest = text[len(chunk.text) :]
        if chunk.text:
            line += chunk.survey.line_ends
            if not is_blank(chunk.text):
                yield chunk
        elif len(rest) > max_event:
            yield CsvChunk(header, b"", line, (too_long(rest, line, max_event),))
            rest = next_line(read, size)
            line += 1
    if not is_blank(rest):
        yield CsvChunk(header, rest, line)


def _last_record_end(text: Text, begin: int) -> int:
    """Position behind the last line end that is outside of quotes, 0 when there is none; none is before `begin`."""
    block = text[begin:]
    end = last_place(block, b"\n") + 1
    quotes = count(text[: begin + end], b'"')
    while end and quotes % 2:
        before = last_place(block[: end - 1], b"\n") + 1
        quotes -= count(block[before:end], b'"')
        end = before
    return begin + end if end else 0


def _is_header(cells: list[str], header: tuple[str, ...]) -> bool:
    """Whether a row has nothing but names of columns, as where files were joined; a mark of byte order may be there."""
    return cells[0].strip().lstrip("\ufeff") in header and {cell.strip(" \ufeff") for cell in cells} <= {*header}


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
