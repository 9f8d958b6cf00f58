"""Text files that came in or go out: records of a person are removed from them, mentions in other records are blanked.

What a record is and what a mention is: see `records` and `subject`. Not here: tables, models, logs and databases.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from recoflow.erasure import compressed_files, records
from recoflow.erasure.records import Tally
from recoflow.erasure.subject import ErasureSubject
from recoflow.storage import atomic_files


@dataclass(frozen=True)
class Redaction:
    """What became of one file: records removed, mentions blanked, or the file removed as a whole (`is_removed`)."""

    path: Path
    records: int
    blanked: int = 0
    is_removed: bool = False


def redact_file(path: Path, person: ErasureSubject, is_expendable: Callable[[Path], bool]) -> Redaction | None:
    """Clear a file of the person; None when nothing of the person is in it, or nothing can be done.

    A damaged archive cannot be written again: it is removed when it is expendable and stays otherwise.

    Args:
        path: plain, gzip or zstd; keeps its name, its compression, its times and the form of all other records.
        person: to take out.
        is_expendable: whether the file is not needed any more.
    """
    if not file_mentions(path, person):
        return None
    if compressed_files.is_damaged(path):
        if not is_expendable(path):
            return None
        path.unlink()
        return Redaction(path, 0, is_removed=True)
    tally = Tally()
    times = path.stat()
    atomic_files.write_atomic(path, compressed_files.packed_like(path, _cleaned(path, person, tally)))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # a segment's says when its events were received
    return Redaction(path, tally.removed, tally.blanked)


def file_mentions(path: Path, person: ErasureSubject) -> bool:
    """Whether anything of the person is in a file; of a damaged archive, in the part that can be read."""
    if not any(map(person.may_be_in, compressed_files.overlapping_blocks(path))):
        return False
    if compressed_files.is_damaged(path):
        return True
    tally = Tally()
    return any(tally.removed or tally.blanked for _ in _cleaned(path, person, tally))


def _cleaned(path: Path, person: ErasureSubject, tally: Tally) -> Iterator[bytes]:
    return records.cleaned(records.pieces(path, person), person, tally)
