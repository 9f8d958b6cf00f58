"""Files that came in or go out: records about a person are taken out of them.

What belongs here: CSV and JSON files, plain or compressed. What does not: tables and models, and what a record means.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from recoflow.privacy.person import Person
from recoflow.storage import artifacts

GZIP: Final = b"\x1f\x8b"
ZSTD: Final = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Redaction:
    """What became of one file: records taken out, or the file as a whole (`is_removed`)."""

    path: Path
    records: int
    is_removed: bool = False


def redact(path: Path, person: Person, is_expendable: Callable[[Path], bool]) -> Redaction | None:
    """Take the records that mention the person out of a file, None when there are none.

    JSON values that stand one to a line are records, and so are the elements of a list that is a line or its `events`.
    A JSON file of another form cannot be cut at a person: it goes as a whole when it is expendable and stays otherwise.

    Args:
        path: plain, gzip or zstd; keeps its name, its compression and the form of its other records.
        person: to take out.
        is_expendable: whether the file's content is kept elsewhere.
    """
    packed = path.read_bytes()
    content = unpacked(packed)
    is_csv = _is_csv(content)
    if not person.is_in(content) and not (is_csv and person.has_short_ids):
        return None
    if is_csv:
        kept, records = _without_rows(content, person)
    else:
        kept, records = _without_lines(content, person)
    if person.is_in(kept):
        if not is_expendable(path):
            return None
        path.unlink()
        return Redaction(path, records, is_removed=True)
    if not records:
        return None
    times = path.stat()
    artifacts.write_atomic(path, _packed_like(packed, kept))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # a segment's says when its events were received
    return Redaction(path, records)


def unpacked(content: bytes) -> bytes:
    """What a compressed file holds; other content as it is, and a damaged file too: it is searched as it lies there."""
    try:
        if content.startswith(GZIP):
            return gzip.decompress(content)
        if content.startswith(ZSTD):
            return bytes(pa.CompressedInputStream(pa.BufferReader(content), "zstd").read())
    except (OSError, EOFError):
        return content
    return content


def _packed_like(original: bytes, content: bytes) -> bytes:
    if original.startswith(GZIP):
        return gzip.compress(content, mtime=0)
    if original.startswith(ZSTD):
        return bytes(pa.compress(content, codec="zstd", asbytes=True))
    return content


def _is_csv(content: bytes) -> bool:
    """Whatever is not JSON."""
    return content[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()[:1] not in {b"{", b"["}


def _without_rows(content: bytes, person: Person) -> tuple[bytes, int]:
    kept, removed = [], 0
    header: list[str] = []
    for raw, cells in _records(content.decode("utf-8", "surrogateescape")):
        if header and person.is_in_row(header, cells):
            removed += 1
            continue
        header = header or [name.strip().lstrip("\ufeff") for name in cells]
        kept.append(raw)
    return "".join(kept).encode("utf-8", "surrogateescape"), removed


def _records(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each record's cells and the very text that it was read from."""
    consumed: list[str] = []

    def lines() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            consumed.append(line)
            yield line

    csv.field_size_limit(2**31 - 1)
    for cells in csv.reader(lines()):
        yield "".join(consumed), cells
        consumed.clear()


def _without_lines(content: bytes, person: Person) -> tuple[bytes, int]:
    kept, removed = [], 0
    for line in content.splitlines(keepends=True):
        if not person.is_in(line):
            kept.append(line)
            continue
        rest, count = _without_elements(line, person)
        removed += count
        if rest is not None:
            kept.append(rest)
    return b"".join(kept), removed


def _without_elements(line: bytes, person: Person) -> tuple[bytes | None, int]:
    """What is left of a line that mentions the person, and how many records went; the line itself if it is none."""
    try:
        value = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except ValueError:
        return line, 0
    elements = value.get("events") if isinstance(value, dict) else value
    if not isinstance(elements, list):
        return None, 1
    others = [each for each in elements if not person.is_in(json.dumps(each).encode())]
    rest: Any = value | {"events": others} if isinstance(value, dict) else others
    return json.dumps(rest, ensure_ascii=False).encode() + b"\n", len(elements) - len(others)
