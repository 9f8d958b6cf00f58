"""Froomle events by the chunk: the rules of `froomle` for the records that are easy to read.

What belongs here: the same rules over columns. A record that breaks one, or that is not in the easy form, is left to
`froomle.parse`, which alone decides and explains; so nothing here rejects. What does not: tokenizing.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recoflow import schema
from recoflow.formats import canonical, froomle, spanevents, spanplan, spans
from recoflow.formats.batch_builder import ParseContext
from recoflow.formats.chunks import Chunk
from recoflow.formats.columns import Easy, is_not_utf8, sampled_names, typed
from recoflow.formats.csv_framing import CsvChunk
from recoflow.formats.fields import NO_IDENTITY
from recoflow.formats.spanevents import Columns, Rules
from recoflow.formats.spans import Bytes, Form
from recoflow.settings.environment import Environment

MAX_ODD: Final = 0.05  # share of odd records above which a second look for names is worth it

_IDENTITIES: Final = ("user_id", "device_id")
_ROLES: Final = {
    **dict.fromkeys(froomle.TEXTS, spanplan.REPEATING),
    **dict.fromkeys(("session_id", "item_id", "request_id", "order_id", "referrer", "event_id"), spanplan.UNIQUE),
    **dict.fromkeys(_IDENTITIES, spanplan.IDENTITY),
    **dict.fromkeys(("channel", "page_type", "environment"), spanplan.KNOWN),
    **dict.fromkeys(froomle.NUMBERS, spanplan.NUMBER),
    "event_type": spanplan.TYPE,
    "rank": spanplan.RANK,
    "timestamp": spanplan.TIME,
    "properties": spanplan.OTHERS,
}
_VOCABULARY: Final = dict.fromkeys(_IDENTITIES, "nobody")  # other fields have words by their own name
_ORDER: Final = (*froomle.CONTENT, "environment", "event_id")
_ALWAYS: Final = frozenset({"event_type", "event_id"})  # these are made where they are absent
_IDENTITY: Final = "identity"  # what user_id and device_id meet, and every event type needs
_NEEDS: Final = {kind: frozenset({_IDENTITY, *froomle.REQUIRED[kind]}) for kind in schema.EVENT_TYPES}
_REQUIRED: Final = sorted(frozenset[str]().union(*_NEEDS.values()))

Bools = NDArray[np.bool_]


def parse(chunk: Chunk, arrival: ParseContext) -> Easy:
    """Rows of the chunk's easy records."""
    events, is_easy = _best(chunk, arrival)
    updates = pl.DataFrame(schema=schema.UPDATES)
    return Easy(is_easy, events, updates, np.flatnonzero(is_easy), np.empty(0, np.int64), {})


def _best(chunk: Chunk, arrival: ParseContext) -> tuple[pl.DataFrame, Bools]:
    if isinstance(chunk, CsvChunk):
        return _parse(chunk, list(chunk.header), spans.csv_form(len(chunk.header)), arrival)
    count = len(chunk.records.begins)
    names = sampled_names(chunk, np.arange(count))
    frame, is_easy = _parse_json(chunk, sorted(names), arrival)
    if count - frame.height > count * MAX_ODD:
        more = names | sampled_names(chunk, np.flatnonzero(~is_easy))
        if more > names:
            return _parse_json(chunk, sorted(more), arrival)
    return frame, is_easy


def _parse_json(chunk: Chunk, names: list[str], arrival: ParseContext) -> tuple[pl.DataFrame, Bools]:
    return _parse(chunk, names, spans.json_form(names), arrival)


def _parse(chunk: Chunk, names: list[str], form: Form, arrival: ParseContext) -> tuple[pl.DataFrame, Bools]:
    data = np.frombuffer(chunk.text, np.uint8)
    is_odd = is_not_utf8(chunk)
    fields = [name for name in _ORDER if name in _ALWAYS or _columns(name, names)]
    if "timestamp" not in fields:
        is_odd[:] = True
    rules = _rules(fields, names, arrival)
    columns = spanevents.read(data, *chunk.records[:2], form, rules, is_odd)
    frame = pl.DataFrame(_series(fields, columns, data, rules))
    if is_odd.any():
        frame = frame.filter(pl.Series(~is_odd))
    return _complete(frame, arrival), ~is_odd


def _columns(field: str, names: list[str]) -> list[int]:
    """Where the values of a field are among the names of a chunk."""
    if field == "properties":
        return sorted((place for place, name in enumerate(names) if name not in froomle.KNOWN), key=names.__getitem__)
    return [names.index(name) for name in froomle.ALIASES.get(field, (field,)) if name in names]


def _rules(fields: list[str], names: list[str], arrival: ParseContext) -> Rules:
    """What is to be read into these fields from a chunk with these names, and what must hold."""
    others = _columns("properties", names)
    words = _words(arrival.environment) | {
        "properties": [f"{canonical.json_text(names[column])}:" for column in others],
        "names": [f"{canonical.SEPARATOR}{name}=" for name in froomle.CONTENT],
    }
    ends = np.cumsum([len(texts) for texts in words.values()]).tolist()
    ranges = {name: (end - len(words[name]), end) for name, end in zip(words, ends, strict=True)}
    plan = []
    for field in fields:
        columns = [] if field == "properties" else _columns(field, names)
        first, second = (*columns, -1, -1)[:2]
        name = ranges["names"][0] + froomle.CONTENT.index(field) if field in froomle.CONTENT else -1
        need = _met_by(field, arrival.environment)
        plan.append((_ROLES[field], first, second, need, name, *ranges.get(_VOCABULARY.get(field, field), (0, 0))))
    default = arrival.default_event_type
    return Rules(
        np.array(plan, np.int64),
        spans.words([text for texts in words.values() for text in texts]),
        np.array([_bits(_NEEDS[kind]) for kind in schema.EVENT_TYPES]),
        ranges["event_type"][0] + schema.EVENT_TYPES.index(default) if default is not None else -1,
        arrival.latest,
        froomle.MAX_RANK,
        np.array(others, np.int64),
    )


def _words(environment: Environment) -> dict[str, Sequence[str]]:
    """The texts that fields may have, or may not."""
    return {
        "event_type": schema.EVENT_TYPES,
        "channel": sorted(environment.channels),
        "page_type": sorted(environment.page_types),
        "environment": [environment.name],
        "nobody": NO_IDENTITY,
    }


def _met_by(field: str, environment: Environment) -> int:
    """Bits of the requirements that a field meets; where its type has a default, an item is enough."""
    met = {_IDENTITY} if field in _IDENTITIES else {field}
    if field == "item_id" and environment.default_item_type is not None:
        met.add("item_type")
    return _bits(met)


def _bits(required: Set[str]) -> int:
    return sum(1 << bit for bit, name in enumerate(_REQUIRED) if name in required)


def _series(fields: list[str], found: Columns, data: Bytes, rules: Rules) -> dict[str, pl.Series]:
    """The columns that were read, by name."""
    columns = {"timestamp": pl.Series(found.moments), "content_hash": pl.Series(found.hashes)}
    for index, name in enumerate(fields):
        if name in {*froomle.NUMBERS, "rank"}:
            columns[name] = pl.Series(found.numbers[index], nan_to_null=True)
        elif name == "properties":
            columns[name] = spanevents.texts(found, index, found.objects)
        elif name != "timestamp":
            columns[name] = spanevents.texts(found, index, data, found.ids if name == "event_id" else rules.words.data)
    return columns


def _complete(frame: pl.DataFrame, arrival: ParseContext) -> pl.DataFrame:
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
