"""Logs of services and runs: mentions of a person are overwritten where they are.

A log is open in the service that writes it, so it keeps its file and its length. Each byte of an id becomes a `*`.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from recoflow.erasure.subject import ErasureSubject


def redact_log(path: Path, person: ErasureSubject) -> int:
    """Overwrite the mentions in a log and return how many there were."""
    if not path.stat().st_size:
        return 0
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        spans = person.spans(content)
        for begin, end in spans:
            content[begin:end] = b"*" * (end - begin)
        content.flush()
    return len(spans)


def log_mentions(path: Path, person: ErasureSubject) -> bool:
    """Whether a log mentions the person."""
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return bool(person.spans(content))
