"""Pub/Sub messages: Google's envelopes, and what a message's data becomes.

What belongs here: everything that push and pull share. What does not: HTTP, and the connection (`subscriber`).

[R] A message holds one Froomle event, `{"events": [ … ]}`, or a list of events: there is no public schema. A publisher
gets no answer from us and Pub/Sub delivers again what is not acknowledged, so a message with a bad event is taken as
well: the ingest puts the event into quarantine, where it can be seen. An event that states no time gets the message's,
which stays the same when Pub/Sub delivers twice.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from recoflow.gateway.bodies import Accepted, RefusedBodyError, timed

_ENCODER: Final = msgspec.json.Encoder()


class _Message(msgspec.Struct, rename="camel"):
    data: str = ""
    publish_time: str = ""


class _Envelope(msgspec.Struct):
    message: _Message


def pushed(body: bytes, received_at: datetime) -> Accepted:
    """Read Pub/Sub's push envelope, `{"message": {"data": "<base64>", "publishTime": …}, "subscription": …}`.

    Raises:
        RefusedBodyError: when the body is something else.
    """
    try:
        message = msgspec.json.decode(body, type=_Envelope).message
        data = base64.b64decode(message.data, validate=True)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RefusedBodyError(f"This is no push request of Pub/Sub: {error}") from None
    return taken(data, _moment(message.publish_time) or received_at)


def taken(data: bytes, published_at: datetime) -> Accepted:
    """The lines of one message's data; what is no JSON becomes one JSON text, for the quarantine."""
    if not data:
        return Accepted(b"", 0)
    try:
        found = _values(msgspec.json.decode(data))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = [data.decode(errors="replace")]
    return Accepted(_ENCODER.encode_lines(timed(found, published_at)), len(found))


def _values(decoded: Any) -> list[Any]:
    if isinstance(decoded, dict) and "event_type" not in decoded and isinstance(decoded.get("events"), list):
        return list(decoded["events"])
    return decoded if isinstance(decoded, list) else [decoded]


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else None
