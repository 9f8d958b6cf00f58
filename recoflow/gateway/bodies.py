"""What a request's body becomes: lines for the spool, or the errors of each event.

What belongs here: the bodies of the API. What does not: HTTP, Pub/Sub's envelope (`pubsub`), and the rules about
events, which are those of `formats`. Lines are compact JSON as `formats.files` reads it; an event that states no time
gets that of its receipt, so that it is the same event however often its line is ingested.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from recoflow.errors import SourceError
from recoflow.formats import froomle, items, metarank
from recoflow.formats.batch_builder import EventFormat, ParseContext, RawRecord, collected
from recoflow.gateway.screen import Screen
from recoflow.schema import ParsedBatch
from recoflow.settings.environment import Environment

_ENCODER: Final = msgspec.json.Encoder()
UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True)
class BodyFlaw:
    """Why one event is refused; `index` is its place in the request, from 0."""

    index: int
    field: str | None
    code: str
    message: str


class NotJsonError(Exception):
    """The body is not JSON."""


class TooManyError(Exception):
    """The body has more events than the environment takes at once."""


class RefusedBodyError(Exception):
    """The body is JSON and breaks rules: what is wrong as a whole, or the flaws of its events."""

    def __init__(self, message: str, flaws: Sequence[BodyFlaw] = ()) -> None:
        self.flaws = tuple(flaws)
        super().__init__(message)


@dataclass(frozen=True)
class Accepted:
    """Lines for the spool, each with its line end, and how many events they are."""

    lines: bytes
    events: int


def events(body: bytes, environment: Environment, received_at: datetime) -> Accepted:
    """Read `{"events": [ {…}, … ]}`, all or nothing.

    Raises:
        NotJsonError, TooManyError, RefusedBodyError
    """
    try:
        decoded = msgspec.json.decode(body)
    except UNDECODABLE as error:
        _check_each(body, environment, received_at)
        raise NotJsonError(str(error)) from None
    found = decoded.get("events") if isinstance(decoded, dict) else None
    if not isinstance(found, list):
        raise RefusedBodyError('Events contain errors: the body has no list of events; send {"events": [ … ]}')
    _check_count(found, environment)
    doubtful = Screen(environment, received_at).doubtful(found)
    if doubtful:
        pieces = [RawRecord(index, "", found[index]) for index in doubtful]
        _check(pieces, froomle.parse_froomle, environment, received_at)
    return Accepted(_ENCODER.encode_lines(timed(found, received_at)), len(found))


def item(body: bytes | None, item_type: str, item_id: str, environment: Environment, received_at: datetime) -> Accepted:
    """Read the body of an item's PUT, or of its DELETE when it is None.

    Raises:
        NotJsonError, RefusedBodyError
    """
    row: object = {}
    if body is not None:
        try:
            row = msgspec.json.decode(body)
        except UNDECODABLE as error:
            raise NotJsonError(str(error)) from None
    try:
        batch = items.from_api(body, item_type, item_id, environment, received_at)
    except SourceError as error:
        raise RefusedBodyError(f"Item contains errors: the body {error.problem}") from None
    if batch.rejects.height:
        raise _refused(batch, "Item contains errors")
    assert isinstance(row, dict)
    named = timed([{**row, "item_id": item_id, "item_type": item_type}], received_at)
    return Accepted(_ENCODER.encode_lines([{"delete" if body is None else "put": named[0]}]), 1)


def metarank_events(body: bytes, environment: Environment, received_at: datetime) -> Accepted:
    """Read one Metarank event, a list of them, or one per line; all or nothing.

    Raises:
        NotJsonError, TooManyError, RefusedBodyError
    """
    try:
        found = _metarank_values(body)
    except UNDECODABLE as error:
        raise NotJsonError(str(error)) from None
    _check_count(found, environment)
    pieces = [RawRecord(index, "", value) for index, value in enumerate(found)]
    _check(pieces, metarank.parse_metarank, environment, received_at)
    return Accepted(_ENCODER.encode_lines(found), len(found))


def timed(values: Sequence[Any], moment: datetime) -> list[Any]:
    """The decoded events, those without a time with this one."""
    stamp = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return [
        {**value, "timestamp": stamp} if isinstance(value, dict) and _lacks_time(value) else value for value in values
    ]


def _lacks_time(event: dict[str, Any]) -> bool:
    stated = event.get("timestamp")
    return stated is None or (isinstance(stated, str) and not stated.strip())


def _metarank_values(body: bytes) -> list[Any]:
    try:
        decoded = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return msgspec.json.Decoder().decode_lines(body)
    return decoded if isinstance(decoded, list) else [decoded]


def _check_count(found: Sequence[object], environment: Environment) -> None:
    limit = environment.gateway.max_events
    if len(found) > limit:
        raise TooManyError(f"{len(found)} events are more than {limit}; send several requests")


def _check(pieces: Sequence[RawRecord], dialect: EventFormat, environment: Environment, received_at: datetime) -> None:
    """Apply the exact rules and refuse when an event breaks one."""
    arrival = ParseContext(environment, "api", received_at, is_timestamp_required=False)
    for part in collected(pieces, dialect, arrival):
        batch = part.batch()
        if batch.rejects.height:
            raise _refused(batch, "Events contain errors")


def _check_each(body: bytes, environment: Environment, received_at: datetime) -> None:
    """Refuse a body that could not be decoded by the events at fault, when it is otherwise in order."""
    with contextlib.suppress(SourceError):
        batch = froomle.from_api(body, environment, received_at)
        if batch.rejects.height:
            raise _refused(batch, "Events contain errors")


def _refused(batch: ParsedBatch, subject: str) -> RefusedBodyError:
    flaws = [
        BodyFlaw(row["line"], row["field"], row["code"], row["message"]) for row in batch.rejects.iter_rows(named=True)
    ]
    told = "; ".join(f"event {flaw.index}: {flaw.field or 'event'}: {_reason(flaw)}" for flaw in flaws)
    return RefusedBodyError(f"{subject}: {told}", flaws)


def _reason(flaw: BodyFlaw) -> str:
    return flaw.message.removeprefix(f"{flaw.field}: ")
