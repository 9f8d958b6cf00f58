"""Froomle events, one at a time: the rules, with exact messages.

What belongs here: the fifteen types, their fields, and what each needs. What does not: framing, and the vectorized form
of the same rules (`froomle_columns`), which must agree with this module on every event.

Source: Froomle's public "User interactions" and "Tracking events" pages; recoflow's own choices are those marked [R]
in the comments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from recoflow import schema
from recoflow.errors import SourceError
from recoflow.formats import canonical, jsontext, times
from recoflow.formats.batch_builder import BatchBuilder, ParseContext, Value
from recoflow.formats.fields import BLANK, check_environment, is_nobody, named_text, number
from recoflow.formats.rejects import EventError, shortened, unknown_value
from recoflow.schema import ParsedBatch
from recoflow.settings.environment import Environment

ITEM: Final = ("item_id", "item_type")
REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "page_visit": ("page_type",),
    "detail_pageview": ("page_type", *ITEM),
    "impression": ("list_name", "request_id", *ITEM, "page_type"),
    "click_on_recommendation": ("list_name", "request_id", *ITEM, "page_type"),
    "start_subscription": (),
    "item_interaction": ("interaction_type", *ITEM),
    "user_interaction": ("interaction_type",),
    "cancel_subscription": (),
    "checkpoint": (*ITEM, "checkpoint"),
    "add_to_cart": ITEM,
    "remove_from_cart": ITEM,
    "batch_open": ("campaign_id",),
    "batch_impression": ("campaign_id", "list_name", "request_id", *ITEM),
    "batch_click_on_recommendation": ("campaign_id", "list_name", "request_id", *ITEM),
    "purchase": ITEM,
}
ALIASES: Final[Mapping[str, tuple[str, ...]]] = {  # column → names that it may have in an event, Froomle's first
    "item_id": ("action_item", "item_id"),
    "item_type": ("action_item_type", "item_type"),
}
TEXTS: Final = (
    "event_type",
    "user_id",
    "device_id",
    "session_id",
    "channel",
    "page_type",
    "item_id",
    "item_type",
    "interaction_type",
    "request_id",
    "campaign_id",
    "list_name",
    "user_group",
    "version",
    "currency",
    "order_id",
    "subscription_type",
    "checkpoint",
    "referrer",
)
NUMBERS: Final = ("quantity", "price", "discount")
CONTENT: Final = tuple(name for name in schema.EVENTS if name in {*TEXTS, *NUMBERS, "rank", "timestamp", "properties"})
KNOWN: Final = frozenset(
    {name for column in TEXTS for name in ALIASES.get(column, (column,))}
    | {*NUMBERS, "rank", "timestamp", "event_id", "environment"}
)
MAX_RANK: Final = 1_000_000_000


def from_api(body: bytes, environment: Environment, received_at: datetime, *, source: str = "api") -> ParsedBatch:
    """Read the body of a request, `{"events": [ {…}, … ]}`; a reject's `line` is the index of its event, from 0.

    Raises:
        SourceError: when the body is not JSON or has no list of events.
    """
    try:
        decoded = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        events = msgspec.json.decode(decoded["events"], type=list[msgspec.Raw])
    except (msgspec.MsgspecError, KeyError, RecursionError) as error:
        problem = f"is not JSON with a list of events: {error}"
        raise SourceError("the request's body", problem, 'Send {"events": [ … ]}') from None
    collector = BatchBuilder(ParseContext(environment, source, received_at, is_timestamp_required=False))
    collector.read((jsontext.piece(bytes(event), index) for index, event in enumerate(events)), parse_froomle)
    return collector.batch()


def parse_froomle(value: object, arrival: ParseContext, into: BatchBuilder) -> None:
    """Add the row of one event, a JSON object or the cells of a CSV row by name.

    Raises:
        EventError: naming the first rule that the event breaks.
    """
    if not isinstance(value, dict):
        raise EventError("not_an_object", None, f"{shortened(value)} is no JSON object; send one object per event")
    row: dict[str, Value] = {name: _text(value, name) for name in TEXTS}
    event_type = row["event_type"] = _event_type(row["event_type"] or arrival.default_event_type)
    check_environment(named_text(value, "environment"), "environment", arrival.environment.name)
    _identify(row)
    _check_vocabulary(row, arrival.environment)
    row |= {name: number(value, name) for name in NUMBERS}
    row["rank"] = _rank(value)
    row["timestamp"] = stated = _timestamp(value, arrival)
    row["properties"] = _properties(value)
    content = canonical.canonical_text((name, row[name]) for name in CONTENT)
    if row["item_id"] is not None and row["item_type"] is None:
        row["item_type"] = arrival.environment.default_item_type
    _check_required(row, event_type)
    if stated is None:
        row["timestamp"] = arrival.received_micros
    row["event_id"] = named_text(value, "event_id") or _generated_id(content, stated, arrival)
    into.add_event(row | {"kind": "event", "part": 0, "content_hash": canonical.hash64(content)})


def _generated_id(content: str, stated: int | None, arrival: ParseContext) -> str:
    # Two page views with the same content are two events: when an event states no time, that of its receipt counts.
    if stated is not None:
        return canonical.identifier(content)
    return canonical.identifier(f"{content}{canonical.SEPARATOR}received_at={arrival.received_micros}")


def _text(event: Mapping[str, object], column: str) -> str | None:
    names = ALIASES.get(column)
    if names is None:
        return named_text(event, column)
    first, second = (named_text(event, name) for name in names)
    if first is not None and second is not None and first != second:
        raise EventError(
            "conflicting_alias",
            names[0],
            f"{names[0]} is '{shortened(first)}' and {names[1]} is '{shortened(second)}'; send one of the two",
        )
    return first if first is not None else second


def _event_type(value: Value) -> str:
    if value is None:
        raise EventError("missing_field", "event_type", "event_type is missing; every event needs one")
    if value not in schema.EVENT_TYPES:
        raise unknown_value("unknown_event_type", "event_type", str(value), schema.EVENT_TYPES)
    return str(value)


def _identify(row: dict[str, Value]) -> None:
    for name in ("user_id", "device_id"):
        if is_nobody(str(row[name])):
            row[name] = None
    if row["user_id"] is None and row["device_id"] is None:
        raise EventError(
            "missing_identity", "user_id", "neither user_id nor device_id says who it was; send at least one of them"
        )


def _check_vocabulary(row: Mapping[str, Value], environment: Environment) -> None:
    for name, known in (("channel", environment.channels), ("page_type", environment.page_types)):
        value = row[name]
        if value is not None and value not in known:
            raise unknown_value(f"unknown_{name}", name, str(value), known)


def _check_required(row: Mapping[str, Value], event_type: str) -> None:
    for column in REQUIRED[event_type]:
        if row[column] is None:
            name = ALIASES.get(column, (column,))[0]
            raise EventError("missing_field", name, f"{name} is missing; {event_type} events need it")


def _rank(event: Mapping[str, object]) -> int | None:
    position = number(event, "rank", example="1")
    if position is None:
        return None
    if position != math.floor(position) or not 0 <= position <= MAX_RANK:
        raise EventError(
            "out_of_range", "rank", f"rank: {shortened(event['rank'])} is no position; send a whole number from 0 on"
        )
    return int(position)


def _timestamp(event: Mapping[str, object], arrival: ParseContext) -> int | None:
    value = event.get("timestamp")
    if value is None or (isinstance(value, str) and not value.strip(BLANK)):
        if arrival.is_timestamp_required:
            raise EventError(
                "missing_field", "timestamp", "timestamp is missing; events in files need the time when they happened"
            )
        return None
    return times.event_time(value, "timestamp", arrival.latest, has_seconds=True)


def _properties(event: Mapping[str, object]) -> str | None:
    others = {name: value for name, value in event.items() if name not in KNOWN and value is not None}
    return canonical.json_text(others) if others else None
