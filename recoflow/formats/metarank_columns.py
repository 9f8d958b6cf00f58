"""Metarank events by the chunk: the rules of `metarank` for the records that are easy to read.

What belongs here: the same rules over columns. A record that breaks one, or that is not in the easy form, is left to
`metarank.parse`, which alone decides and explains; so nothing here rejects. What does not: tokenizing.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recoflow import schema
from recoflow.formats import metarank, spanlists, spans, spanvalues
from recoflow.formats.batch_builder import ParseContext
from recoflow.formats.chunks import Chunk
from recoflow.formats.columns import Easy, is_not_utf8, sampled_names, typed
from recoflow.formats.fields import NO_IDENTITY
from recoflow.formats.spanlists import INTERACTION, ITEM, RANKING, USER
from recoflow.formats.spanvalues import ODD, Column

WHAT: Final = ("item", "user", "ranking", "interaction")  # by the numbers of spanlists
TEXTS: Final = ("event", "id", "user", "session", *metarank.LINKS, "item", "type", "tenant")
NAMES: Final = (*TEXTS, "timestamp", "items", "fields")
FROOMLES: Final = ("event_type", "item_id", "action_item")  # a record that has one may be of the other dialect

Bools = NDArray[np.bool_]


def parse(chunk: Chunk, arrival: ParseContext) -> Easy:
    """Rows of the chunk's easy records."""
    data = np.frombuffer(chunk.text, np.uint8)
    others = sampled_names(chunk, np.arange(len(chunk.records.begins))) - {*NAMES}
    names = [*NAMES, *sorted(others)]
    found = spans.of_chunk(data, *chunk.records[:2], spans.json_form(names, has_lists=True))
    table = _Table(data, names, found)
    table.is_odd |= is_not_utf8(chunk)
    for name in FROOMLES:
        if name in names:
            table.is_odd |= table.has(name)
    what = _classify(table)
    return _rows(table, what, arrival)


class _Table:
    """The spans of a chunk by name; whatever is found odd about a record on the way is marked in `is_odd`."""

    def __init__(self, data: spans.Bytes, names: list[str], found: spans.Spans) -> None:
        self.data = data
        self.names = names
        self.is_odd = found.is_odd
        self._spans = found

    def column(self, name: str) -> Column:
        """Spans of one name."""
        index = self.names.index(name)
        return Column(self._spans.kinds[index], self._spans.starts[index], self._spans.lengths[index])

    def has(self, name: str) -> Bools:
        """Whether the key is there, be it null."""
        return self.column(name).lengths >= 0

    def texts(self, name: str) -> Column:
        """Spans of an identifier."""
        column = self.column(name)
        is_text = column.kinds == spans.TEXT
        first = self.data[np.where(is_text, column.starts, 0)]
        self.is_odd |= (column.kinds > spans.TEXT) | is_text & ((column.lengths == 0) | _IS_SPACE_LEAD[first])
        return column

    def lists(self, name: str) -> Column:
        """Spans of a list, absent where it is null."""
        column = self.column(name)
        self.is_odd |= (column.kinds != spans.ABSENT) & (column.kinds != spans.LIST)
        return column


_IS_SPACE_LEAD: Final = np.isin(np.arange(256), spanlists.SPACE_LEADS)


def _classify(table: _Table) -> NDArray[np.int8]:
    """What each record is, as `metarank.classify` has it; 0 for odd ones."""
    names = sorted(metarank.EVENTS)
    of_name = np.array([WHAT.index(metarank.EVENTS[name]) for name in names] + [0, 0], np.int8)
    named = spanvalues.codes(table.data, table.texts("event"), spans.words(names))
    has_event = table.has("event")
    has_links = np.logical_or.reduce([table.has(name) for name in ("type", *metarank.LINKS)])
    told = np.select([has_links, table.has("items"), table.has("item")], [INTERACTION, RANKING, ITEM], -1)
    table.is_odd |= np.where(has_event, named < 0, told < 0)
    return np.where(has_event, of_name[named], np.maximum(told, 0)).astype(np.int8)


def _rows(table: _Table, what: NDArray[np.int8], arrival: ParseContext) -> Easy:
    texts = {name: table.texts(name) for name in TEXTS}
    tenant = spanvalues.codes(table.data, texts["tenant"], spans.words([arrival.environment.name]))
    moments = spanvalues.times(table.data, table.column("timestamp"), arrival.latest, has_seconds=False)
    lists = {name: table.lists(name) for name in ("fields", "items")}
    _refuse_unread_lists(table, lists["items"], what)
    link = _link(table, texts)
    is_user = what == USER
    subject = _either(is_user, texts["user"], texts["item"])
    is_interaction = what == INTERACTION
    table.is_odd |= (tenant == spanvalues.UNKNOWN) | (moments <= ODD) | (texts["id"].kinds == spans.ABSENT)
    table.is_odd |= (what != RANKING) & (subject.kinds == spans.ABSENT)
    table.is_odd |= (what == RANKING) & ((lists["items"].kinds == spans.ABSENT) | _is_large(**lists))
    table.is_odd |= is_interaction & (texts["type"].kinds == spans.ABSENT)
    visitor = _visitor(table, texts["user"])
    columns = [visitor, texts["session"], subject, texts["type"], link, lists["fields"], lists["items"]]
    starts = np.stack([column.starts for column in columns]).astype(np.int64)
    lengths = np.stack([np.where(column.kinds != spans.ABSENT, column.lengths, -1) for column in columns])
    found = spanlists.read(table.data, what, moments, starts, lengths.astype(np.int64), table.is_odd)
    records = pl.DataFrame(
        {
            "what": what,
            "event_id": spanvalues.strings(table.data, texts["id"]),
            "content_hash": found.hashes,
            "timestamp": moments,
            "subject": spanvalues.strings(table.data, subject),
            "user_id": spanvalues.strings(table.data, visitor),
            "session_id": spanvalues.strings(table.data, texts["session"]),
            "interaction_type": spanvalues.strings(table.data, texts["type"]),
            "link": spanvalues.strings(table.data, link),
        }
    )
    updates = np.flatnonzero(~table.is_odd & (what <= USER))
    return Easy(
        ~table.is_odd,
        _events(table, records, found, arrival),
        _updates(records, found, updates, arrival),
        found.rows.records.astype(np.int64),
        updates,
        _ignored(table, what),
    )


def _refuse_unread_lists(table: _Table, items: Column, what: NDArray[np.int8]) -> None:
    """The tokenizer looked at no more than their brackets and texts."""
    table.is_odd |= (items.kinds == spans.LIST) & (what != RANKING)
    for name in table.names:
        if name not in NAMES:
            table.is_odd |= table.column(name).kinds == spans.LIST


def _is_large(fields: Column, items: Column) -> Bools:
    """Where rankings may be too large (see `metarank.MAX_UNFOLDED`): of items that are as short as they can be."""
    most_items = items.lengths.astype(np.int64) // len('{"id":"a"},') + 1
    is_large: Bools = most_items * (metarank.ROW + np.maximum(fields.lengths, 0)) > metarank.MAX_UNFOLDED
    return is_large


def _link(table: _Table, texts: dict[str, Column]) -> Column:
    """The one link that is there."""
    links = [texts[name] for name in metarank.LINKS]
    table.is_odd |= sum((link.kinds != spans.ABSENT).astype(np.int8) for link in links) > 1
    found = links[0]
    for link in links[1:]:
        found = _either(link.kinds != spans.ABSENT, link, found)
    return found


def _either(is_first: Bools, first: Column, second: Column) -> Column:
    return Column(
        np.where(is_first, first.kinds, second.kinds),
        np.where(is_first, first.starts, second.starts),
        np.where(is_first, first.lengths, second.lengths),
    )


def _visitor(table: _Table, user: Column) -> Column:
    nobody = spanvalues.is_any_of(table.data, user, spans.words(list(NO_IDENTITY)))
    return user._replace(kinds=np.where(nobody, spans.ABSENT, user.kinds).astype(np.uint8))


def _events(table: _Table, records: pl.DataFrame, found: spanlists.RecordFields, arrival: ParseContext) -> pl.DataFrame:
    rows = found.rows
    is_ranking = pl.col("what") == RANKING
    frame = records[rows.records].with_columns(
        part=rows.parts,
        item_id=spanvalues.strings(table.data, _column(rows.starts, rows.lengths)),
        relevancy=pl.Series(rows.relevancy, nan_to_null=True),
        properties=spanvalues.strings(found.text, _column(rows.property_starts, rows.property_lengths)),
    )
    return typed(
        frame,
        {
            "kind": pl.when(is_ranking).then(pl.lit("ranking")).otherwise(pl.lit("interaction")),
            "event_type": pl.when(is_ranking).then(pl.lit("impression")).otherwise(_event_type(frame, arrival)),
            "interaction_type": pl.when(~is_ranking).then("interaction_type"),
            "request_id": pl.when(is_ranking).then("event_id").otherwise("link"),
            "rank": pl.when(is_ranking).then("part"),
            "item_type": pl.lit(arrival.environment.default_item_type),
        },
        schema.EVENTS,
        arrival,
    )


def _column(starts: NDArray[np.int32], lengths: NDArray[np.int32]) -> Column:
    return Column((lengths >= 0).astype(np.uint8), starts, lengths)


def _event_type(frame: pl.DataFrame, arrival: ParseContext) -> pl.Expr:
    """What `metarank.event_type` makes of each interaction."""
    configured = arrival.environment.events.metarank_types
    names = frame.filter(what=INTERACTION)["interaction_type"].unique().drop_nulls().to_list()
    linked, alone = (
        pl.col("interaction_type").replace_strict(
            names,
            [metarank.event_type(name, is_linked=is_linked, configured=configured) for name in names],
            default=None,
            return_dtype=pl.String,
        )
        for is_linked in (True, False)
    )
    return pl.when(pl.col("link").is_not_null()).then(linked).otherwise(alone)


def _updates(
    records: pl.DataFrame, found: spanlists.RecordFields, indices: NDArray[np.int64], arrival: ParseContext
) -> pl.DataFrame:
    fields = spanvalues.strings(found.text, _column(found.field_starts, found.field_lengths))
    given = {
        "entity": pl.when(pl.col("what") == ITEM).then(pl.lit("item")).otherwise(pl.lit("user")),
        "entity_id": pl.col("subject"),
        "operation": pl.lit("upsert"),
    }
    return typed(records.with_columns(fields=fields)[indices], given, schema.UPDATES, arrival)


def _ignored(table: _Table, what: NDArray[np.int8]) -> dict[str, int]:
    """Keys that easy records of a kind carry and nobody reads, and how often."""
    ignored: dict[str, int] = {}
    for name in table.names:
        unread = [number for number, kind in enumerate(WHAT) if name not in metarank.KEYS[kind]]
        count = int((table.has(name) & ~table.is_odd & np.isin(what, unread)).sum())
        if count:
            ignored[name] = count
    return ignored
