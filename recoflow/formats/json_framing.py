"""A stream of JSON in any framing, cut into chunks of one event per line.

What belongs here: JSON lines, one top-level array, an API body, concatenated and pretty-printed objects, and finding
the next event after a broken one. What does not: what an event means.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from recoflow.formats import jsontext
from recoflow.formats.batch_builder import RawRecord
from recoflow.formats.chunks import (
    Read,
    Records,
    Survey,
    Text,
    is_blank,
    last_place,
    lines,
    next_line,
    refilled,
    surveyed,
    too_long,
)
from recoflow.formats.read_limits import MAX_EVENT
from recoflow.formats.rejects import EventError

_DECODER = json.JSONDecoder()
_WRAPPER = re.compile(r'\s*\{\s*"events"\s*:\s*\[')
_BRACKETS = re.compile(r'"(?:[^"\\\n]|\\.)*"|[{}\[\]]')
_NEXT_OBJECT = re.compile(r"\n\s*\{")
_LONG_LINE = 1024**2  # bytes without a line end: objects that stand on one line, side by side


@dataclass(frozen=True)
class JsonChunk:
    """A stretch of a file: events as lines of text, and pieces of text that are no events.

    `numbers` are the file's line numbers of the lines in `text`; None when they count up from `first_line`.
    """

    text: Text
    first_line: int = 1
    numbers: list[int] | None = None
    broken: list[RawRecord] = field(default_factory=list)

    @cached_property
    def survey(self) -> Survey:
        """Of the text."""
        return surveyed(self.text)

    @cached_property
    def records(self) -> Records:
        """Each line of the text that has content."""
        if self.numbers is None:
            return lines(self.text, self.survey.line_ends, self.first_line)
        begins, ends, places = lines(self.text, self.survey.line_ends, 0)
        return Records(begins, ends, np.array(self.numbers, np.int64)[places])

    def pieces(self, indices: Iterable[int]) -> Iterator[RawRecord]:
        """The events of these records with their exact places, texts and values; blank lines have none."""
        records = self.records
        for index in indices:
            line = bytes(self.text[records.begins[index] : records.ends[index]])
            if line.strip():
                found = jsontext.pieces(line, int(records.lines[index]))
                yield from (piece._replace(record=index) for piece in found)


def chunks(read: Read, head: bytes, size: int, first_line: int, *, max_event: int = MAX_EVENT) -> Iterator[JsonChunk]:
    """Cut a stream of which `head` is a look ahead into chunks of about `size` bytes."""
    cut = _line_chunks if _has_lines(head) else _value_chunks
    return cut(read, size, first_line, max_event)


def _has_lines(head: bytes) -> bool:
    text = head.decode("utf-8", errors="replace")
    first, newline, _ = text.lstrip().partition("\n")
    if not first.startswith("{") or _WRAPPER.match(text) or (not newline and len(head) >= _LONG_LINE):
        return False
    try:
        _, end = _DECODER.raw_decode(first)
    except (ValueError, RecursionError):
        stripped = [line.strip() for line in text.splitlines()[:100] if line.strip()]
        return sum(line.startswith("{") and line.endswith("}") for line in stripped) * 2 >= len(stripped)
    return not first[end:].strip().startswith("{")


def _line_chunks(read: Read, size: int, line: int, max_event: int) -> Iterator[JsonChunk]:
    rest: Text = b""
    while True:
        text, is_more = refilled(rest, read, size)
        if not is_more:
            break
        cut = last_place(text, b"\n")
        if cut >= 0:
            chunk = JsonChunk(text[:cut], line)
            line += chunk.survey.line_ends + 1
            if not is_blank(chunk.text):
                yield chunk
        rest = text[cut + 1 :]
        if len(rest) > max_event:
            yield JsonChunk(b"", broken=[too_long(rest, line, max_event)])
            rest = next_line(read, size)
            line += 1
    if not is_blank(rest):
        yield JsonChunk(rest, line)


def _value_chunks(read: Read, size: int, first_line: int, max_event: int) -> Iterator[JsonChunk]:
    texts: list[bytes] = []
    numbers: list[int] = []
    broken: list[RawRecord] = []
    length = 0
    for found in _Values(read, size, first_line, max_event):
        if isinstance(found.value, EventError):
            broken.append(found)
        else:
            texts.append(found.raw.replace("\n", " ").encode("utf-8", errors="surrogateescape"))
            numbers.append(found.line)
        length += len(found.raw)
        if length >= size:
            yield JsonChunk(b"\n".join(texts), numbers=numbers, broken=broken)
            texts, numbers, broken, length = [], [], [], 0
    if numbers or broken:
        yield JsonChunk(b"\n".join(texts), numbers=numbers, broken=broken)


class _Values:
    """The values of a stream one after the other; those that are no JSON carry their error as value."""

    def __init__(self, read: Read, size: int, first_line: int, max_event: int) -> None:
        self._read = read
        self._size = size
        self._max_event = max_event
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
        self._text = ""
        self._at = 0
        self._line = first_line
        self._is_complete = False
        self._open: list[str] = []  # closing brackets that are still to come
        self._after_comma = False

    def __iter__(self) -> Iterator[RawRecord]:
        self._refill()
        if wrapper := _WRAPPER.match(self._text):
            self._open = ["}", "]"]
            self._advance(wrapper.end())
        while self._skip_blank():
            mark = self._text[self._at]
            if self._open and mark == self._open[-1]:
                yield from self._close()
            elif self._open and mark == ",":
                self._after_comma = True
                self._advance(self._at + 1)
            elif not self._open and mark == "[":
                self._open = ["]"]
                self._advance(self._at + 1)
            else:
                self._after_comma = False
                yield self._value()
        if self._open:
            error = EventError(
                "json_truncated", None, f"the file ends before its closing {self._open[-1]}; send it whole"
            )
            yield RawRecord(self._line, "", error)

    def _close(self) -> Iterator[RawRecord]:
        if self._after_comma:
            message = f"the list has a comma before its closing {self._open[-1]}; remove the comma"
            yield RawRecord(self._line, f",{self._open[-1]}", EventError("json_trailing_comma", None, message))
        self._after_comma = False
        self._open.pop()
        self._advance(self._at + 1)

    def _value(self) -> RawRecord:
        while True:
            try:
                end = _DECODER.raw_decode(self._text, self._at)[1]  # the value goes before it is decoded strictly
            except json.JSONDecodeError as error:
                end = len(self._text) if self._is_cut(error) else self._broken_end()
            except RecursionError:
                end = self._broken_end()
            if end < len(self._text) or self._is_complete:
                break
            if len(self._text) - self._at > self._max_event:
                end = self._line_end()
                break
            self._refill()
        raw = self._text[self._at : end]
        place = self._line
        self._advance(end)
        return _checked(raw, place, self._max_event)

    def _is_cut(self, error: json.JSONDecodeError) -> bool:
        """Whether more text may mend this: the longest token that says so late is an escaped pair of characters."""
        is_at_end = error.pos >= len(self._text) - 12 or error.msg.startswith("Unterminated string")
        return is_at_end and not self._is_complete

    def _broken_end(self) -> int:
        """Where a broken value ends by its brackets, but never beyond the next object that begins in column 0."""
        depth = 0
        for match in _BRACKETS.finditer(self._text, self._at):
            bracket = match.group()
            depth += (bracket in "{[") - (bracket in "}]")
            if depth <= 0 and bracket in "}]":
                following = self._text.find("\n{", self._at, match.end())
                return match.end() if following < 0 else following
            if depth == 0:
                break
        return self._line_end() if self._is_complete or depth == 0 else len(self._text)

    def _line_end(self) -> int:
        """Where to go on after an object that never ends, or after text that is no value."""
        if self._text[self._at] == "{":
            following = _NEXT_OBJECT.search(self._text, self._at)
            return following.start() if following else len(self._text)
        newline = self._text.find("\n", self._at)
        return newline if newline >= 0 else len(self._text)

    def _skip_blank(self) -> bool:
        while True:
            self._advance(jsontext.blank_end(self._text, self._at))
            if self._at < len(self._text) or self._is_complete:
                return self._at < len(self._text)
            self._refill()

    def _advance(self, to: int) -> None:
        self._line += self._text.count("\n", self._at, to)
        self._at = to

    def _refill(self) -> None:
        kept = self._text[self._at :]
        block, is_more = refilled(b"", self._read, max(self._size, len(kept)))
        self._is_complete = not is_more
        self._text = kept + self._decode.decode(bytes(block), final=not is_more)
        self._at = 0


def _checked(raw: str, line: int, max_event: int) -> RawRecord:
    """A value by its framing; what strict decoding refuses is refused here, where its text is still as it arrived."""
    data = raw.encode("utf-8", errors="surrogateescape")
    if len(data) > max_event:
        return too_long(data, line, max_event)
    try:
        jsontext.decode(data)
    except EventError as error:
        return RawRecord(line, data.decode(errors="replace"), error)
    return RawRecord(line, raw, None)
