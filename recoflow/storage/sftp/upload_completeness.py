"""When a file that someone uploads is complete: pure decisions over listings.

What belongs here: the rules of rest, markers and cut-off files. What does not: acting on them (`inbound`).

Most clients write under the final name and some set the source's time or keep the size constant, so neither size nor
age proves anything alone: a file is complete when both stayed the same over two scans and a quiet time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recoflow.storage.sftp import names
from recoflow.storage.sftp.claims import ListingSnapshot
from recoflow.storage.sftp.server_replies import ListingEntry

EMPTY_FACTOR: Final = 10  # an empty file is more often a begun upload than a whole one
JSON_LINES: Final = (b".jsonl", b".ndjson")
_TAIL: Final = 1024 * 1024
_BLANK: Final = b' \t\x1a,"'


@dataclass(frozen=True)
class Complete:
    """A file to claim.

    Args:
        entry: the file.
        markers: endings of the marker files that it has.
        is_whole: a marker says so. A server or a rest only say that the upload ended: one that broke off ends too.
    """

    entry: ListingEntry
    markers: tuple[bytes, ...]
    is_whole: bool


@dataclass(frozen=True)
class UploadStates:
    """What one scan of a folder says.

    Args:
        complete: files to claim, the oldest first.
        changed: sightings to write.
        gone: names of sightings to delete.
    """

    complete: list[Complete]
    changed: dict[bytes, ListingSnapshot]
    gone: list[bytes]


def classify(
    entries: list[ListingEntry], seen: Mapping[bytes, ListingSnapshot], quiet_seconds: float, boot_id: str, boot: float
) -> UploadStates:
    """Decide for each regular data file of a listing whether it is complete.

    Args:
        entries: the folder's listing.
        seen: what earlier scans saw.
        quiet_seconds: how long a file must rest. A marker makes it 0, and so does a server that saw the CLOSE of a file
            that is not empty and knows that its session is done with it.
        boot_id, boot: the present boot and its clock. A sighting of another boot counts for nothing.
    """
    present = {entry.name for entry in entries}
    in_use = {entry.name for entry in entries if entry.attributes.is_in_use}
    data = [entry for entry in entries if entry.attributes.is_regular and names.is_data(entry.name)]
    complete, changed = [], {}
    for entry in sorted(data, key=lambda entry: (entry.attributes.mtime, entry.name)):
        found = entry.attributes
        markers = tuple(ending for ending in names.MARKERS if entry.name + ending in present)
        before = seen.get(entry.name)
        is_same = before is not None and (before.size, before.mtime, before.boot_id) == (
            found.size,
            found.mtime,
            boot_id,
        )
        is_marked = any(ending in names.COMPLETE for ending in markers)
        is_in_use = not in_use.isdisjoint((entry.name, *(entry.name + ending for ending in markers)))
        if not is_in_use and (is_marked or (found.is_closed and found.size)):
            complete.append(Complete(entry, markers, is_whole=is_marked))
        elif is_in_use or before is None or not is_same or before.since > boot:
            changed[entry.name] = ListingSnapshot(found.size, found.mtime, boot_id, boot)
        elif boot - before.since >= quiet_seconds * (1 if found.size else EMPTY_FACTOR):
            complete.append(Complete(entry, markers, is_whole=False))
    still = {entry.name for entry in data}
    return UploadStates(complete, changed, gone=[name for name in seen if name not in still])


def digest_in(marker: bytes) -> str | None:
    """The SHA-256 that a `.sha256` marker holds (`sha256sum` format or the digest alone), None when it holds none."""
    digest = marker.split()[0].lower() if marker.split() else b""
    is_digest = len(digest) == 64 and all(character in b"0123456789abcdef" for character in digest)
    return digest.decode("ascii") if is_digest else None


def looks_cut(path: Path, name: bytes) -> bool:
    """Whether a file looks like an upload that broke off.

    A CSV with an open quote, or with a last row shorter than the header; blank rows at the end do not count. JSON lines
    whose last line has no end. A cut exactly between two rows cannot be seen.
    """
    if path.stat().st_size == 0:
        return False
    if name.lower().endswith(JSON_LINES):
        last = _last_row(path)
        return last.startswith(b"{") and not last.endswith(b"}")
    if not name.lower().endswith(b".csv"):
        return False
    quotes = 0
    with path.open("rb") as file:
        header = file.readline(_TAIL)
        quotes = header.count(b'"')
        while block := file.read(_TAIL):
            quotes += block.count(b'"')
    if quotes % 2:
        return True
    last = _last_row(path)
    if last.count(b'"') % 2:
        return False  # it ends a quoted cell that has line breaks: where its row begins is not known here
    return bool(last) and _cells(last) < _cells(header)


def _last_row(path: Path) -> bytes:
    """The last line with anything in it: Excel leaves rows of empty cells, other tools blanks or Ctrl-Z."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _TAIL, 0))
        rows = file.read().splitlines()
    return next((row for row in reversed(rows) if row.strip(_BLANK)), b"").strip()


def _cells(line: bytes) -> int:
    # Not the csv module: it refuses what a hostile or binary file may hold, and this is only a count.
    return 1 + sum(part.count(b",") for part in line.split(b'"')[::2])
