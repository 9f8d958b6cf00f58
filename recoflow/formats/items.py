"""Froomle-like catalogue rows: one item with its attributes per JSON object or CSV row.

What belongs here: the rules about the attributes that Froomle names, and turning rows into updates. What does not:
folding updates into the catalogue.

[R] An attribute that is absent, empty or null says nothing: what was known of it stays. A row without `timestamp`
counts from its receipt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from recoflow.errors import SourceError
from recoflow.formats import canonical, jsontext, times
from recoflow.formats.batch_builder import BatchBuilder, ParseContext, RawRecord
from recoflow.formats.fields import AVAILABILITIES, BLANK, availability, check_environment, named_text, parsed_number
from recoflow.formats.rejects import EventError, shortened
from recoflow.schema import ParsedBatch
from recoflow.settings.environment import Environment

OWN: Final = frozenset({"item_id", "item_type", "environment", "timestamp", "event_id"})


def from_api(
    body: bytes | None, item_type: str, item_id: str, environment: Environment, received_at: datetime
) -> ParsedBatch:
    """Read the body of `PUT /items/{item_type}/{item_id}`, or of `DELETE` when it is None.

    Raises:
        SourceError: when the body is not a JSON object.
    """
    collector = BatchBuilder(ParseContext(environment, "api", received_at, is_timestamp_required=False))
    row: object = {}
    if body is not None:
        try:
            row = jsontext.decode(body)
        except EventError as error:
            raise SourceError("the request's body", error.message, "Send one JSON object") from None
    if not isinstance(row, dict):
        raise SourceError("the request's body", "is no JSON object", 'Send e.g. {"title": "Jeans"}')
    raw = "" if body is None else body.decode()
    request = {"delete" if body is None else "put": {**row, "item_id": item_id, "item_type": item_type}}
    collector.read([RawRecord(0, raw, request)], parse_request)
    return collector.batch()


def parse_item(value: object, arrival: ParseContext, into: BatchBuilder) -> None:
    """Add the update of one item, a JSON object or the cells of a CSV row by name.

    Raises:
        EventError: naming the first rule that the row breaks.
    """
    if not isinstance(value, dict):
        raise EventError("not_an_object", None, f"{shortened(value)} is no JSON object; send one object per item")
    attributes = {name: _attribute(entry, name) for name, entry in value.items() if name not in OWN}
    known = {name: attribute for name, attribute in attributes.items() if attribute is not None}
    _add(value, "upsert", canonical.json_text(known), arrival, into)


def parse_request(value: object, arrival: ParseContext, into: BatchBuilder) -> None:
    """Add the update of one request of the items API, `{"put": {row}}` or `{"delete": {row}}`.

    Raises:
        EventError: naming the first rule that the row breaks.
    """
    if not isinstance(value, dict) or len(value) != 1:
        raise EventError("not_an_object", None, f"{shortened(value)} is no request of the items API")
    (operation, row), *_ = value.items()
    if operation == "delete" and isinstance(row, dict):
        _add(row, "delete", "{}", arrival, into)
    else:
        parse_item(row, arrival, into)


def _add(row: Mapping[str, object], operation: str, fields: str, arrival: ParseContext, into: BatchBuilder) -> None:
    check_environment(named_text(row, "environment"), "environment", arrival.environment.name)
    item_id = named_text(row, "item_id")
    item_type = named_text(row, "item_type") or arrival.environment.default_item_type
    for name, needed in (("item_id", item_id), ("item_type", item_type)):
        if needed is None:
            raise EventError("missing_field", name, f"{name} is missing; every item needs one")
    moment = _timestamp(row, arrival)
    content = canonical.canonical_text(
        [
            ("entity", "item"),
            ("entity_id", item_id),
            ("entity_type", item_type),
            ("operation", operation),
            ("timestamp", moment),
            ("fields", fields),
        ]
    )
    into.add_update(
        {
            "entity": "item",
            "entity_id": item_id,
            "entity_type": item_type,
            "operation": operation,
            "event_id": named_text(row, "event_id") or canonical.identifier(content),
            "content_hash": canonical.hash64(content),
            "timestamp": moment,
            "fields": fields,
        }
    )


def _timestamp(row: Mapping[str, object], arrival: ParseContext) -> int:
    value = row.get("timestamp")
    if value is None or value == "":
        return arrival.received_micros
    return times.event_time(value, "timestamp", arrival.latest, has_seconds=True)


def _attribute(value: object, name: str) -> object:
    if value is None or (isinstance(value, str) and not value.strip(BLANK)):
        return None
    read = _READERS.get(name)
    return _cell(value) if read is None else read(value, name)


def _list(value: object, name: str) -> list[str]:
    found = _cell(value, name)
    entries = [found] if isinstance(found, str) else found
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise EventError("wrong_type", name, f'{name}: {shortened(value)} is no list of texts; send e.g. ["a","b"]')
    return entries


def _cell(value: object, name: str | None = None) -> object:
    """A CSV cell that is JSON as its value; `name` is given where broken JSON is an error rather than plain text."""
    if not isinstance(value, str) or value[:1] not in ("[", "{"):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        if name is None:
            return value
        raise EventError(
            "wrong_type", name, f'{name}: {shortened(value)} is no JSON list; send e.g. ["a","b"]'
        ) from None


def _moment(value: object, name: str) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=times.publication(value, name))
    return moment.isoformat().replace("+00:00", "Z")


def _plain(value: object, name: str) -> str | None:
    return named_text({name: value}, name)


_READERS: Final[Mapping[str, Callable[[object, str], object]]] = {
    "title": _plain,
    "uri": _plain,
    "url": _plain,
    "access_type": _plain,
    "description": _plain,
    "categories": _list,
    "tags": _list,
    "images": _list,
    "publication_datetime": _moment,
    "price": parsed_number,
    **dict.fromkeys(AVAILABILITIES, availability),
}
