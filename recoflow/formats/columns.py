"""What the dialects have in common when they read a chunk by columns.

What belongs here: the result, its typing, and looks at the chunk that no dialect decides. What does not: rules.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from recoflow.formats.batch_builder import ParseContext
from recoflow.formats.chunks import Chunk

MAX_NAMES: Final = 250  # names of fields that are looked for in a chunk of JSON
CELLS_PER_BYTE: Final = 2  # the same, where records are short: each name takes memory for each record
SAMPLE: Final = 500  # records that are looked at for names

Bools = NDArray[np.bool_]


class Easy(NamedTuple):
    """The rows of a chunk's easy records in their order, and for each row the record that it is from."""

    is_easy: Bools  # per record
    events: pl.DataFrame  # EVENTS
    updates: pl.DataFrame  # UPDATES
    event_records: NDArray[np.int64]
    update_records: NDArray[np.int64]
    ignored_keys: dict[str, int]


def typed(frame: pl.DataFrame, given: Mapping[str, pl.Expr], table: pl.Schema, arrival: ParseContext) -> pl.DataFrame:
    """All columns of a table: those given, else those of the frame, else null, with source and time of receipt."""
    given = {**given, "source": pl.lit(arrival.source), "received_at": pl.lit(arrival.received_micros)}
    columns = {name: given.get(name, pl.col(name) if name in frame.columns else pl.lit(None)) for name in table}
    return frame.select(expression.cast(table[name]).alias(name) for name, expression in columns.items())


def sampled_names(chunk: Chunk, indices: NDArray[np.int64]) -> frozenset[str]:
    """Names of the fields that a sample of these records has."""
    names: set[str] = set()
    for index in indices[:: max(1, len(indices) // SAMPLE)]:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            line = chunk.text[chunk.records.begins[index] : chunk.records.ends[index]]
            names |= msgspec.json.decode(line, type=dict[str, msgspec.Raw]).keys()
    most = min(MAX_NAMES, CELLS_PER_BYTE * len(chunk.text) // max(1, len(chunk.records.begins)))
    return frozenset(sorted(names)[:most])


def is_not_utf8(chunk: Chunk) -> Bools:
    """Records with bytes above 127 in a chunk that is not UTF-8 as a whole."""
    is_odd = np.zeros(len(chunk.records.begins), bool)
    if chunk.survey.is_ascii:
        return is_odd
    try:
        str(chunk.text, "utf-8")
    except UnicodeDecodeError:
        high = np.flatnonzero(np.frombuffer(chunk.text, np.uint8) > 127)
        is_odd[np.searchsorted(chunk.records.begins, high, side="right") - 1] = True
    return is_odd
