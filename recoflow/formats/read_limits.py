"""How much of a file is held in memory and judged at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_EVENT: Final = 8 * 1024**2  # bytes; a longer one is no event but a file without line ends
PART_CHARACTERS: Final = 16 * 1024**2  # characters of properties that are gathered at once


@dataclass(frozen=True)
class ReadLimits:
    """Sizes that reading a file keeps to; bytes are counted after decompression."""

    batch_rows: int = 100_000  # from which on rows are handed on: they become one row group of the lake
    batch_bytes: int = 64 * 1024**2  # the same, where rows are large
    chunk_bytes: int = 4 * 1024**2
    head_bytes: int = 1024**2  # of which format and dialect are told
    event_bytes: int = MAX_EVENT
    exact_bytes: int = 64 * 1024  # below, one event at a time is done before the compiled path is loaded
    part_characters: int = PART_CHARACTERS
    hopeless_rejects: int = 1_000_000  # and no other records: what follows is no better


LIMITS: Final = ReadLimits()
