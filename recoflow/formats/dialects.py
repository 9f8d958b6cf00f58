"""Which dialect a file and each of its objects is in, told by the keys; the name helps where the keys do not.

What belongs here: that decision. What does not: the rules of a dialect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass

from recoflow.errors import SourceError
from recoflow.formats import froomle, items, metarank
from recoflow.formats.batch_builder import BatchBuilder, EventFormat, ParseContext
from recoflow.formats.chunks import Chunk
from recoflow.formats.rejects import shortened

LOOKED_AT = 100  # objects of a file that tell what most of it is


@dataclass(frozen=True)
class Mixed:
    """Each object is judged by itself; one that does not say what it is, is what most of the file is."""

    most: EventFormat

    def __call__(self, value: object, arrival: ParseContext, into: BatchBuilder, /) -> None:
        """Parse one object by its own dialect."""
        dialect = of_keys(value.keys(), arrival.source) if isinstance(value, dict) else None
        (dialect or self.most)(value, arrival, into)


def of_header(header: tuple[str, ...], name: str, place: str) -> EventFormat:
    """What every row under this header is.

    Raises:
        SourceError: when it is nothing that CSV can hold.
    """
    dialect = of_keys(set(header), name)
    if dialect is None or dialect is metarank.parse_metarank:
        problem = f"none of the columns {shortened(', '.join(header), 200)} is event_type or item_id"
        raise SourceError(place, problem, "Send a header with the column names of Froomle's events or items")
    return dialect


def of_values(chunks: Iterable[Chunk], name: str) -> Mixed:
    """What most of the first objects are; Froomle events when no object says."""
    votes: Counter[EventFormat] = Counter()
    for chunk in chunks:
        for piece in chunk.pieces(range(min(LOOKED_AT, len(chunk.records.begins)))):
            if isinstance(piece.value, dict) and (dialect := of_keys(piece.value.keys(), name)):
                votes[dialect] += 1
        break
    return Mixed(
        votes.most_common(1)[0][0] if votes else items.parse_item if "items" in name else froomle.parse_froomle
    )


def of_keys(keys: Set[str], name: str) -> EventFormat | None:
    """What an object or row with these keys is; the name decides between events and items that lack `event_type`."""
    has_item = not keys.isdisjoint(("item_id", "action_item"))
    if "event_type" in keys or (has_item and is_of_purchases(name)):
        return froomle.parse_froomle
    if not keys.isdisjoint(("event", "item", "items")) or (
        "id" in keys and not keys.isdisjoint(("type", "fields", *metarank.LINKS))
    ):
        return metarank.parse_metarank
    if has_item:
        has_visitor = not keys.isdisjoint(("user_id", "device_id"))
        is_event = "action_item" in keys or (has_visitor and "items" not in name)
        return froomle.parse_froomle if is_event else items.parse_item
    return None


def is_of_purchases(name: str) -> bool:
    """Whether a file's name says that what lacks an event type is a purchase."""
    return "purchases" in name.lower()
