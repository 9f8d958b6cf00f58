"""When a file that someone uploads is complete: pure decisions over listings.

What belongs here: the rules of rest, markers and cut-off CSVs. What does not: acting on them (`intake`).

Most clients write under the final name and some set the source's time or keep the size constant, so neither size nor
age proves anything alone: a file is complete when both stayed the same over two scans and a quiet time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recoflow.storage import names
from recoflow.storage.claims import Sighting
from recoflow.storage.sftp_wire import Entry

EMPTY_FACTOR: Final = 10  # an empty file is more often a begun upload than a whole one
_TAIL: Final = 1024 * 1024


@dataclass(frozen=True)
class Complete:
    """A file to claim.

    Args:
        entry: the file.
        markers: endings of the marker files that it has.
        is_whole: a marker or the server says that the upload ended; else the file rested long enough.
    """

    entry: Entry
    markers: tuple[bytes, ...]
    is_whole: bool


@dataclass(frozen=True)
class Verdict:
    """What one scan of a folder says.

    Args:
        complete: files to claim, the oldest first.
        changed: sightings to write.
        gone: names of sightings to delete.
    """

    complete: list[Complete]
    changed: dict[bytes, Sighting]
    gone: list[bytes]


def judge(
    entries: list[Entry], seen: Mapping[bytes, Sighting], quiet_seconds: float, boot_id: str, boot: float
) -> Verdict:
    """Decide for each regular data file of a listing whether it is complete.

    Args:
        entries: the folder's listing.
        seen: what earlier scans saw.
        quiet_seconds: how long a file must rest; markers and the server's own knowledge make it 0.
        boot_id, boot: the present boot and its clock. A sighting of another boot counts for nothing.
    """
    present = {entry.name for entry in entries}
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
        if found.is_closed or any(ending in names.COMPLETE for ending in markers):
            complete.append(Complete(entry, markers, is_whole=True))
        elif before is None or not is_same or before.since > boot:
            changed[entry.name] = Sighting(found.size, found.mtime, boot_id, boot)
        elif boot - before.since >= quiet_seconds * (1 if found.size else EMPTY_FACTOR):
            complete.append(Complete(entry, markers, is_whole=False))
    still = {entry.name for entry in data}
    return Verdict(complete, changed, gone=[name for name in seen if name not in still])


def digest_in(marker: bytes) -> str | None:
    """The SHA-256 that a `.sha256` marker holds (`sha256sum` format or the digest alone), None when it holds none."""
    digest = marker.split()[0].lower() if marker.split() else b""
    is_digest = len(digest) == 64 and all(character in b"0123456789abcdef" for character in digest)
    return digest.decode("ascii") if is_digest else None


def looks_cut(path: Path, name: bytes) -> bool:
    """Whether a CSV looks like an upload that broke off: an open quote, or a last row shorter than the header.

    A cut exactly between two rows cannot be seen.
    """
    if not name.lower().endswith(b".csv") or path.stat().st_size == 0:
        return False
    quotes = 0
    with path.open("rb") as file:
        header = file.readline(_TAIL)
        quotes = header.count(b'"')
        while block := file.read(_TAIL):
            quotes += block.count(b'"')
        file.seek(max(file.tell() - _TAIL, 0))
        rows = file.read().rstrip(b"\r\n").splitlines()
    if quotes % 2:
        return True
    last = rows[-1] if rows else b""
    if last.count(b'"') % 2:
        return False  # it ends a quoted cell that has line breaks: where its row begins is not known here
    return _cells(last) < _cells(header)


def _cells(line: bytes) -> int:
    # Not the csv module: it refuses what a hostile or binary file may hold, and this is only a count.
    return 1 + sum(part.count(b",") for part in line.split(b'"')[::2])
