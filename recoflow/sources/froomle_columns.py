"""Froomle events by the chunk: the rules of `froomle` for the records that are easy to read.

What belongs here: the same rules over columns. A record that breaks one, or that is not in the easy form, is left to
`froomle.parse`, which alone decides and explains; so nothing here rejects. What does not: tokenizing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from recoflow import schema
from recoflow.environment import Environment
from recoflow.sources import canonical, froomle, spanhashes, spans, spanvalues
from recoflow.sources.chunks import Chunk
from recoflow.sources.collect import Arrival
from recoflow.sources.columns import Easy, is_not_utf8, sampled_names, typed
from recoflow.sources.csvtext import CsvChunk
from recoflow.sources.fields import NO_IDENTITY
from recoflow.sources.spanhashes import Content
from recoflow.sources.spans import Words
from recoflow.sources.spanvalues import ODD, Column, Text

MAX_ODD: Final = 0.05  # share of odd records above which a second look for names is worth it

_REQUIRED: Final = sorted({name for needed in froomle.REQUIRED.values() for name in needed})
_NEEDED: Final = np.array(
    [sum(1 << _REQUIRED.index(name) for name in froomle.REQUIRED[kind]) for kind in schema.EVENT_TYPES], np.uint16
)

Bools = NDArray[np.bool_]


def parse(chunk: Chunk, arrival: Arrival) -> Easy:
    """Rows of the chunk's easy records."""
    events, is_easy = _best(chunk, arrival)
    updates = pl.DataFrame(schema=schema.UPDATES)
    return Easy(is_easy, events, updates, np.flatnonzero(is_easy), np.empty(0, np.int64), {})


def _best(chunk: Chunk, arrival: Arrival) -> tuple[pl.DataFrame, Bools]:
    if isinstance(chunk, CsvChunk):
        return _parse(_csv_table(chunk), arrival)
    count = len(chunk.records.begins)
    names = sampled_names(chunk, np.arange(count))
    frame, is_easy = _parse(_json_table(chunk, sorted(names)), arrival)
    if count - frame.height > count * MAX_ODD:
        more = names | sampled_names(chunk, np.flatnonzero(~is_easy))
        if more > names:
            return _parse(_json_table(chunk, sorted(more)), arrival)
    return frame, is_easy


class _Table:
    """The spans of a chunk by name; whatever is found odd about a record on the way is marked in `is_odd`."""

    def __init__(self, chunk: Chunk, names: list[str], found: spans.Spans) -> None:
        self.data = np.frombuffer(chunk.text, np.uint8)
        self.names = names
        self.is_odd = found.is_odd | is_not_utf8(chunk)
        self._spans = found
        count = len(self.is_odd)
        self._absent = Column(np.zeros(count, np.uint8), np.zeros(count, np.int32), np.zeros(count, np.int32))

    def column(self, name: str) -> Column:
        """Spans of one name, all absent when the chunk does not have it."""
        if name in self.names:
            index = self.names.index(name)
            return _column(self._spans, index)
        return self._absent

    def texts(self, name: str) -> Column:
        """Spans of a field that must be text; an empty text is absent."""
        if name in froomle.ALIASES:
            first, second = (self._plain_texts(alias) for alias in froomle.ALIASES[name])
            self.is_odd |= (first.kinds > 0) & (second.kinds > 0)
            has_first = first.kinds > 0
            return Column(
                np.where(has_first, first.kinds, second.kinds),
                np.where(has_first, first.starts, second.starts),
                np.where(has_first, first.lengths, second.lengths),
            )
        return self._plain_texts(name)

    def _plain_texts(self, name: str) -> Column:
        column = self.column(name)
        self.is_odd |= column.kinds > spans.TEXT
        column.kinds[column.lengths <= 0] = spans.ABSENT
        return column

    def codes(self, name: str, known: Words) -> NDArray[np.int16]:
        """Index in a vocabulary per record, negative where the text is absent or unknown."""
        found = spanvalues.codes(self.data, self.texts(name), known)
        self.is_odd |= found == spanvalues.UNKNOWN
        return found

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A field's numbers, NaN where absent."""
        found, is_odd = spanvalues.numbers(self.data, self.column(name))
        self.is_odd |= is_odd
        return found

    def other_fields(self) -> Text | None:
        """Every field that is not known as one JSON object per record; None when there is no such field."""
        names = sorted(set(self.names) - froomle.KNOWN)
        if not names:
            return None
        keys = spans.words([f"{canonical.json_text(name)}:" for name in names])
        return spanvalues.json_objects(self.data, [self.column(name) for name in names], keys)


def _column(found: spans.Spans, index: int) -> Column:
    return Column(found.kinds[index], found.starts[index], found.lengths[index])


def _csv_table(chunk: CsvChunk) -> _Table:
    data = np.frombuffer(chunk.text, np.uint8)
    return _Table(chunk, list(chunk.header), spans.csv_spans(data, *chunk.records[:2], len(chunk.header)))


def _json_table(chunk: Chunk, names: list[str]) -> _Table:
    data = np.frombuffer(chunk.text, np.uint8)
    return _Table(chunk, names, spans.json_spans(data, *chunk.records[:2], names))


def _parse(table: _Table, arrival: Arrival) -> tuple[pl.DataFrame, Bools]:
    environment = arrival.environment
    vocabularies = _vocabularies(environment)
    codes = {name: table.codes(name, known) for name, known in vocabularies.items()}
    kinds = _event_types(table, codes["event_type"], arrival)
    table.codes("environment", spans.words([environment.name]))
    texts = {name: (table.data, table.texts(name)) for name in froomle.TEXTS if name not in codes}
    texts |= {name: spanvalues.known(codes[name], known) for name, known in vocabularies.items()}
    _identify(table, texts["user_id"][1], texts["device_id"][1])
    numbers = {name: table.numbers(name) for name in (*froomle.NUMBERS, "rank")}
    rank = numbers["rank"]
    table.is_odd |= (rank != np.floor(rank)) & ~np.isnan(rank) | (rank < 0) | (rank > froomle.MAX_RANK)
    moments = spanvalues.times(table.data, table.column("timestamp"), arrival.latest, has_seconds=True)
    table.is_odd |= moments <= ODD
    others = table.other_fields()
    event_ids = table.texts("event_id")
    table.is_odd |= _lacks_required(kinds, texts, has_default=environment.default_item_type is not None)
    content = _content(texts, numbers, moments, others)
    have_ids = bool((table.is_odd | (event_ids.kinds != spans.ABSENT)).all())
    hashes = spanhashes.hashes(content, len(moments), seeds=1 if have_ids else 2)
    columns = {name: spanvalues.strings(*text) for name, text in texts.items() if text[1].kinds.any()}
    columns |= {name: pl.Series(values, nan_to_null=True) for name, values in numbers.items()}
    columns |= {
        "timestamp": pl.Series(moments),
        "content_hash": pl.Series(np.ascontiguousarray(hashes[:, 0])),
        "event_id": spanvalues.strings(table.data, event_ids),
    }
    if others is not None:
        columns["properties"] = spanvalues.strings(*others)
    is_easy = ~table.is_odd
    frame = pl.DataFrame(columns)
    if not have_ids:
        frame = frame.with_columns(event_id=pl.coalesce("event_id", _hexadecimal(hashes)))
    if not is_easy.all():
        frame = frame.filter(pl.Series(is_easy))
    return _complete(frame, arrival), is_easy


def _vocabularies(environment: Environment) -> dict[str, Words]:
    """The known texts of the fields that have a vocabulary, all in one array of bytes."""
    known = {
        "event_type": schema.EVENT_TYPES,
        "channel": sorted(environment.channels),
        "page_type": sorted(environment.page_types),
    }
    data, starts = spans.words([word for names in known.values() for word in names])
    ends = np.cumsum([len(names) for names in known.values()]).tolist()
    return {
        name: Words(data, starts[end - len(names) : end + 1])
        for (name, names), end in zip(known.items(), ends, strict=True)
    }


def _event_types(table: _Table, codes: NDArray[np.int16], arrival: Arrival) -> NDArray[np.int16]:
    """Index in `schema.EVENT_TYPES` per record."""
    if arrival.default_event_type is not None:
        codes[codes == spanvalues.NOT_THERE] = schema.EVENT_TYPES.index(arrival.default_event_type)
    table.is_odd |= codes < 0
    return codes


def _identify(table: _Table, user: Column, device: Column) -> None:
    for column in (user, device):
        column.kinds[spanvalues.is_any_of(table.data, column, spans.words(list(NO_IDENTITY)))] = spans.ABSENT
    table.is_odd |= (user.kinds == spans.ABSENT) & (device.kinds == spans.ABSENT)


def _lacks_required(kinds: NDArray[np.int16], texts: Mapping[str, Text], *, has_default: bool) -> Bools:
    """Records that lack a field which their event type needs; a default stands in for an item's type."""
    present = np.zeros(len(kinds), np.uint16)
    for bit, name in enumerate(_REQUIRED):
        source = "item_id" if name == "item_type" and has_default else name
        present |= (texts[source][1].kinds != spans.ABSENT).astype(np.uint16) << np.uint16(bit)
    return np.asarray((present & _NEEDED[kinds]) != _NEEDED[kinds])


def _content(
    texts: Mapping[str, Text],
    numbers: Mapping[str, NDArray[np.float64]],
    moments: NDArray[np.int64],
    others: Text | None,
) -> list[Content]:
    """The fields of `froomle.CONTENT` in their order."""
    found = {name: Content(name, text, None) for name, text in texts.items()}
    found |= {name: Content(name, None, spanhashes.double_bits(numbers[name])) for name in froomle.NUMBERS}
    found["rank"] = Content("rank", None, spanhashes.whole(numbers["rank"]))
    found["timestamp"] = Content("timestamp", None, moments)
    if others is not None:
        found["properties"] = Content("properties", others, None)
    return [found[name] for name in froomle.CONTENT if name in found]


def _hexadecimal(hashes: NDArray[np.uint64]) -> pl.Series:
    """Both hashes of each record as 32 hexadecimal digits."""
    digests = pa.Array.from_buffers(pa.binary(16), len(hashes), [None, pa.py_buffer(hashes.astype(">u8").tobytes())])
    return pl.Series(digests.cast(pa.binary())).bin.encode("hex")


def _complete(frame: pl.DataFrame, arrival: Arrival) -> pl.DataFrame:
    """All columns of `schema.EVENTS`."""
    given = {
        "kind": pl.lit("event"),
        "part": pl.lit(0),
    }
    default = arrival.environment.default_item_type
    if default is not None and "item_id" in frame.columns:
        stated = pl.col("item_type") if "item_type" in frame.columns else pl.lit(None, pl.String)
        given["item_type"] = pl.when(pl.col("item_id").is_not_null()).then(stated.fill_null(default)).otherwise(stated)
    return typed(frame, given, schema.EVENTS, arrival)
