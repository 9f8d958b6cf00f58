"""The records of a text file, CSV or JSON, and the same file without a person.

A file is read record by record. Records that have no id of the person are not parsed and keep every byte.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from recoflow.erasure import compressed_files
from recoflow.erasure.subject import ErasureSubject, is_item

BOM: Final = "\ufeff"
BLOCK: Final = 1 << 20  # bytes that are read at once
_DECODER: Final = json.JSONDecoder()


@dataclass(frozen=True)
class RecordPart:
    """A part of a file.

    Args:
        text: as it is in the file, with its line end.
        records: what it says, by the names of fields; empty where it has no id of the person, or is no record.
        is_whole: whether the text is one record; otherwise it is a JSON list of records, or has one as `events`.
        is_json: whether it is JSON.
        is_candidate: whether it may have an id of the person.
    """

    text: str
    is_json: bool
    is_candidate: bool = False
    records: tuple[Mapping[str, Any], ...] = ()
    is_whole: bool = True


@dataclass
class Tally:
    """What was removed from a file: records of the person, and mentions in records of others."""

    removed: int = 0
    blanked: int = 0


def pieces(path: Path, person: ErasureSubject) -> Iterator[RecordPart]:
    """The parts of a file, plain or compressed, which together are its content.

    JSON values may be one to a line, several to a line or over several lines.

    Raises:
        One of `compressed_files.DAMAGE`: the archive is damaged.
    """
    with compressed_files.open_compressed(path) as file:
        head = file.read(4096).decode("utf-8", "surrogateescape").removeprefix(BOM).lstrip()
    if head[:1] not in {"{", "["}:
        with compressed_files.open_compressed(path) as file:
            yield from _rows(file, person)
    elif _is_by_lines(path, person):
        with compressed_files.open_compressed(path) as file:
            for line in _lines(file):
                yield _json_piece(line.decode("utf-8", "surrogateescape"), person)
    else:
        with compressed_files.open_compressed(path) as file:
            content = file.read()
        yield from _values(content.decode("utf-8", "surrogateescape"), person)


def cleaned(parts: Iterable[RecordPart], person: ErasureSubject, tally: Tally) -> Iterator[bytes]:
    """The parts without the person, one for each; counts in `tally` what is missing."""
    for part in parts:
        text = _cleaned(part, person, tally) if part.is_candidate else part.text
        yield text.encode("utf-8", "surrogateescape")


def of_text(text: str, person: ErasureSubject) -> RecordPart:
    """One text of a table as a part of a file: a JSON value, else a text without fields."""
    if text.lstrip()[:1] in {"{", "["}:
        return _json_piece(text, person)
    return RecordPart(text, is_json=False, is_candidate=True)


def _cleaned(part: RecordPart, person: ErasureSubject, tally: Tally) -> str:
    own = [record for record in part.records if person.owns(record)]
    tally.removed += len(own)
    if own and part.is_whole:
        return ""
    text = _without(part.text, own) if own else part.text
    if part.records and all(map(is_item, part.records)):
        return text
    blanked = person.blanked_json(text) if part.is_json else person.blanked(text)
    tally.blanked += blanked != text
    return blanked


def _without(text: str, own: list[Mapping[str, Any]]) -> str:
    """A JSON list, or an object with the list `events`, without these elements."""
    value = json.loads(text.removeprefix(BOM))
    elements = value["events"] if isinstance(value, dict) else value
    others = [each for each in elements if each not in own]
    rest = value | {"events": others} if isinstance(value, dict) else others
    return json.dumps(rest, ensure_ascii=False) + "\n"


def _rows(file: BinaryIO, person: ErasureSubject) -> Iterator[RecordPart]:
    csv.field_size_limit(2**31 - 1)
    consumed: list[str] = []
    header: list[str] = []
    with io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="") as content:
        rows = csv.reader(_noted(content, consumed))
        while True:
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error:  # such a file is refused; its text is searched nevertheless
                cells = []
            text = "".join(consumed)
            consumed.clear()
            if not header:
                header = [name.strip().lstrip(BOM) for name in cells]
                cells = []  # a file without a header begins with a record, whose fields are unknown: it is a text
            yield _row_piece(text, header, cells, person)


def _noted(lines: Iterable[str], consumed: list[str]) -> Iterator[str]:
    """The same lines, each also put into `consumed`."""
    for line in lines:
        consumed.append(line)
        yield line


def _row_piece(text: str, header: list[str], cells: list[str], person: ErasureSubject) -> RecordPart:
    is_candidate = person.may_be_in(text.encode("utf-8", "surrogateescape"))
    record = (dict(zip(header, cells, strict=False)),) if is_candidate and cells else ()
    return RecordPart(text, is_json=False, is_candidate=is_candidate, records=record)


def _is_by_lines(path: Path, person: ErasureSubject) -> bool:
    """Whether every line that may have an id is a JSON value of its own."""
    try:
        with compressed_files.open_compressed(path) as file:
            for line in _lines(file):
                if person.may_be_in(line):
                    json.loads(line.decode("utf-8", "surrogateescape").removeprefix(BOM))
    except (ValueError, RecursionError):
        return False
    return True


def _lines(file: BinaryIO) -> Iterator[bytes]:
    # Not the file's own: pyarrow's streams have no readline.
    begun: list[bytes] = []
    while block := file.read(BLOCK):
        first, *others = block.split(b"\n")
        begun.append(first)
        for line in others:
            yield b"".join(begun) + b"\n"
            begun = [line]
    yield b"".join(begun)


def _json_piece(text: str, person: ErasureSubject) -> RecordPart:
    if not person.may_be_in(text.encode("utf-8", "surrogateescape")):
        return RecordPart(text, is_json=True)
    try:
        value = json.loads(text.removeprefix(BOM))
    except (ValueError, RecursionError):
        return RecordPart(text, is_json=True, is_candidate=True)
    return _piece_of(text, value)


def _piece_of(text: str, value: Any) -> RecordPart:
    elements = value.get("events") if isinstance(value, dict) else value
    is_whole = not isinstance(elements, list)
    listed = elements if isinstance(elements, list) else [value]
    records = tuple(each for each in listed if isinstance(each, dict))
    return RecordPart(text, is_json=True, is_candidate=True, records=records, is_whole=is_whole)


def _values(text: str, person: ErasureSubject) -> Iterator[RecordPart]:
    """The JSON values in a text, whatever is between them; a line where none begins is a text."""
    at = 0
    while at < len(text):
        begin = at
        while begin < len(text) and text[begin] in f"{BOM} \t\r\n":
            begin += 1
        try:
            value, end = _DECODER.raw_decode(text, begin) if text[begin : begin + 1] in {"{", "["} else (None, 0)
        except (ValueError, RecursionError):
            value, end = None, 0
        end = end or text.find("\n", begin) + 1 or len(text)
        if not person.may_be_in(text[at:end].encode("utf-8", "surrogateescape")):
            yield RecordPart(text[at:end], is_json=True)
        elif value is None:
            yield RecordPart(text[at:end], is_json=True, is_candidate=True)
        else:
            yield _piece_of(text[at:end], value)
        at = end
