"""Metarank events, one at a time, in the dialect of the seed page (no `event` key) and in the current one.

What belongs here: classification, the rules, and the mapping to the event table. What does not: framing, and the
vectorized form of the same rules (`metarank_columns`), which must agree with this module on every event.

Source: Metarank's public "Supported events" page and its decoder's tests; recoflow's own choices are marked [R].

- A ranking of n items becomes n `impression` rows of kind `ranking`, parts 1 to n, rank = part.
- An interaction becomes one row of kind `interaction`; its type stays in `interaction_type`. [R] The type `impression`
  becomes an `impression` row, so that being shown is never trained on as if it had been liked; whoever counts
  impressions counts those of kind `ranking` where there are any.
- `item` and `user` events become updates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from recoflow.formats import canonical, times
from recoflow.formats.batch_builder import BatchBuilder, ParseContext, Value
from recoflow.formats.fields import AVAILABILITIES, NO_IDENTITY, availability, check_environment, parsed_number
from recoflow.formats.rejects import EventError, shortened, unknown_value

LINKS: Final = ("ranking", "impression", "impression_id")
EVENTS: Final[Mapping[str, str]] = {  # value of the key `event` → what it is
    "item": "item",
    "metadata": "item",
    "user": "user",
    "ranking": "ranking",
    "impression": "ranking",
    "interaction": "interaction",
}
SHARED: Final = frozenset({"event", "id", "timestamp", "fields", "tenant"})
KEYS: Final[Mapping[str, frozenset[str]]] = {
    "item": SHARED | {"item"},
    "user": SHARED | {"user"},
    "ranking": SHARED | {"user", "session", "items"},
    "interaction": SHARED | {"user", "session", "type", "item", *LINKS},
}
MAX_UNFOLDED: Final = 32 * 1024**2  # bytes that the rows of one ranking may take, each with the ranking's fields
ROW: Final = 256  # bytes that a row takes without them, about
ITEM_KEYS: Final = frozenset({"id", "relevancy", "fields", "label"})
EVENT_TYPES: Final[Mapping[str, str]] = {
    "purchase": "purchase",
    "add_to_cart": "add_to_cart",
    "cart": "add_to_cart",
    "impression": "impression",
}


def parse_metarank(value: object, arrival: ParseContext, into: BatchBuilder) -> None:
    """Add the rows of one event, a JSON object.

    Raises:
        EventError: naming the first rule that the event breaks.
    """
    if not isinstance(value, dict):
        raise EventError("not_an_object", None, f"{shortened(value)} is no JSON object; send one object per event")
    what = classify(value)
    check_environment(_identifier(value, "tenant", is_required=False), "tenant", arrival.environment.name)
    shared: dict[str, Value] = {
        "event_id": _identifier(value, "id"),
        "timestamp": _timestamp(value, arrival),
    }
    ignored = [key for key in value if key not in KEYS[what]]
    if what in ("item", "user"):
        _add_update(what, value, shared, into, ignored)
    elif what == "ranking":
        _add_ranking(value, shared, arrival, into, ignored)
    else:
        _add_interaction(value, shared, arrival, into, ignored)
    into.ignore(ignored)


def classify(event: Mapping[str, object]) -> str:
    """What an event is: item, user, ranking or interaction; without the key `event` told by its set of keys.

    Raises:
        EventError: unknown_event_type.
    """
    if "event" in event:
        named = event["event"]
        if isinstance(named, str) and named in EVENTS:
            return EVENTS[named]
        text = named if isinstance(named, str) else canonical.json_text(named)
        raise unknown_value("unknown_event_type", "event", text, EVENTS)
    if "type" in event or any(link in event for link in LINKS):
        return "interaction"
    if "items" in event:
        return "ranking"
    if "item" in event:
        return "item"
    raise EventError(
        "unknown_event_type", "event", "neither event, type, items nor item says what this is; send the key event"
    )


def event_type(interaction: str, *, is_linked: bool, configured: Mapping[str, str]) -> str:
    """The event type that an interaction's type stands for; `configured` is the environment's own mapping."""
    if interaction in configured:
        return configured[interaction]
    if interaction == "click":
        return "click_on_recommendation" if is_linked else "detail_pageview"
    return EVENT_TYPES.get(interaction, "item_interaction")


def _add_update(
    what: str, event: Mapping[str, object], shared: dict[str, Value], into: BatchBuilder, ignored: list[str]
) -> None:
    entity = _identifier(event, what)
    found = _fields(event, "fields", ignored)
    for name in AVAILABILITIES if what == "item" else ():
        if name in found:
            availability(found[name], f"fields: {name}")
    fields = canonical.json_text(found)
    content = canonical.canonical_text(
        [("entity", what), (what, entity), ("timestamp", shared["timestamp"]), ("fields", fields)]
    )
    into.add_update(
        shared
        | {
            "entity": what,
            "entity_id": entity,
            "operation": "upsert",
            "content_hash": canonical.hash64(content),
            "fields": fields,
        }
    )


def _add_ranking(
    event: Mapping[str, object], shared: dict[str, Value], arrival: ParseContext, into: BatchBuilder, ignored: list[str]
) -> None:
    shared |= _visitor(event)
    fields = _fields(event, "fields", ignored)
    items = list(_items(event, fields, ignored))
    content = canonical.canonical_text(
        [
            ("kind", "ranking"),
            *((name, shared[name]) for name in ("timestamp", "user_id", "session_id")),
            ("properties", canonical.json_text(fields)),
            ("items", canonical.json_text(items)),
        ]
    )
    shared |= {
        "kind": "ranking",
        "event_type": "impression",
        "content_hash": canonical.hash64(content),
        "request_id": shared["event_id"],
        "item_type": arrival.environment.default_item_type,
    }
    for rank, item in enumerate(items, 1):
        into.add_event(shared | item | {"part": rank, "rank": rank})


def _add_interaction(
    event: Mapping[str, object], shared: dict[str, Value], arrival: ParseContext, into: BatchBuilder, ignored: list[str]
) -> None:
    interaction = _required(event, "type")
    link = _link(event)
    fields = _fields(event, "fields", ignored)
    shared |= _visitor(event)
    shared |= {
        "item_id": _identifier(event, "item"),
        "interaction_type": interaction,
        "request_id": link,
        "properties": canonical.json_text(fields) if fields else None,
    }
    names = ("timestamp", "user_id", "session_id", "item_id", "interaction_type", "request_id", "properties")
    content = canonical.canonical_text([("kind", "interaction"), *((name, shared[name]) for name in names)])
    configured = arrival.environment.events.metarank_types
    into.add_event(
        shared
        | {
            "kind": "interaction",
            "part": 0,
            "content_hash": canonical.hash64(content),
            "event_type": event_type(interaction, is_linked=link is not None, configured=configured),
            "item_type": arrival.environment.default_item_type,
        }
    )


def _visitor(event: Mapping[str, object]) -> dict[str, Value]:
    user = _identifier(event, "user", is_required=False)
    if user is not None and user.lower() in NO_IDENTITY:  # [R] or every unknown visitor would be one huge user
        user = None
    return {"user_id": user, "session_id": _identifier(event, "session", is_required=False)}


def _items(
    event: Mapping[str, object], shared_fields: Mapping[str, object], ignored: list[str]
) -> Iterator[dict[str, Value]]:
    items = event.get("items")
    if not isinstance(items, list):
        raise EventError("wrong_type", "items", 'items is no list; send [{"id": "p1"}, …]')
    if not items:
        raise EventError("empty_ranking", "items", "items is empty; a ranking shows at least one item")
    shared_text = canonical.json_text(shared_fields) if shared_fields else None
    _check_size(len(items), len((shared_text or "").encode()))
    for index, item in enumerate(items):
        place = f"items[{index}]"
        if not isinstance(item, dict):
            raise EventError("wrong_type", place, f'{place} is no object; send {{"id": "p1"}}')
        if not item.keys() <= ITEM_KEYS:
            ignored += [f"items[].{key}" for key in item if key not in ITEM_KEYS]
        fields = _fields(item, f"{place}.fields", ignored)
        label = _number(item, "label", place)
        relevancy = _number(item, "relevancy", place)
        if relevancy is None and _is_number(fields.get("relevancy")):  # where the current dialect keeps the score
            relevancy = parsed_number(fields.pop("relevancy"), f"{place}.fields")
        own = fields if label is None else {**fields, "label": label}
        yield {
            "item_id": _identifier(item, "id", f"{place}.id"),
            "relevancy": relevancy,
            "properties": canonical.json_text({**shared_fields, **own}) if own else shared_text,
        }


def _check_size(items: int, shared: int) -> None:
    if items * (ROW + shared) > MAX_UNFOLDED:
        message = (
            f"{items:,} items, each with the ranking's {shared:,} bytes of fields, take more than "
            f"{MAX_UNFOLDED // 1024**2} MiB; send fewer items in one ranking, or fewer fields"
        )
        raise EventError("ranking_too_large", "items", message)


def _number(item: Mapping[str, object], name: str, place: str) -> float | None:
    value = item.get(name)
    return None if value is None else parsed_number(value, f"{place}.{name}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _link(event: Mapping[str, object]) -> str | None:
    found = {name: _identifier(event, name, is_required=False) for name in LINKS}
    links = {link for link in found.values() if link is not None}
    if len(links) > 1:
        raise EventError(
            "conflicting_alias",
            next(name for name, link in found.items() if link is not None),
            f"{', '.join(map(shortened, sorted(links)))} are all named as the ranking; send one of {', '.join(LINKS)}",
        )
    return links.pop() if links else None


def _required(event: Mapping[str, object], name: str) -> str:
    return str(_identifier(event, name))


def _identifier(
    event: Mapping[str, object], name: str, place: str | None = None, *, is_required: bool = True
) -> str | None:
    value = event.get(name)
    field = place or name
    if value is None:
        if is_required:
            raise EventError("missing_field", field, f"{field} is missing; send a text that is not empty")
        return None
    if not isinstance(value, str):
        shown = shortened(canonical.json_text(value))
        raise EventError("wrong_type", field, f"{field}: {shown} is no text; put it in quotes")
    if not value.strip():
        cure = "send a text" if is_required else "send a text or leave the key out"
        raise EventError("empty_value", field, f"{field} is empty; {cure}")
    return value


def _timestamp(event: Mapping[str, object], arrival: ParseContext) -> int:
    if event.get("timestamp") is None:
        raise EventError("missing_field", "timestamp", "timestamp is missing; send milliseconds since 1970")
    return times.event_time(event["timestamp"], "timestamp", arrival.latest, has_seconds=False)


def _fields(event: Mapping[str, object], place: str, ignored: list[str]) -> dict[str, object]:
    """Name → value; of two fields with one name the last wins."""
    fields = event.get("fields")
    if fields is None:
        return {}
    if not isinstance(fields, list):
        raise EventError("bad_fields", place, f'{place} is no list; send [{{"name": "title", "value": "x"}}, …]')
    found: dict[str, object] = {}
    for index, entry in enumerate(fields):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or "value" not in entry:
            raise EventError(
                "bad_fields", place, f'{place}[{index}] has no name or no value; send {{"name": "title", "value": "x"}}'
            )
        if not _is_field_value(entry["value"]):
            raise EventError(
                "bad_fields",
                place,
                f"{place}: the value of '{shortened(name)}' is {shortened(canonical.json_text(entry['value']))}; "
                "send true or false, a number, a text, a list of texts or a list of numbers",
            )
        ignored += ["fields[]." + key for key in entry if key not in ("name", "value")]
        found[name] = entry["value"]
    return found


def _is_field_value(value: object) -> bool:
    if isinstance(value, list):
        are_texts = all(isinstance(entry, str) for entry in value)
        return are_texts or all(_is_number(entry) for entry in value)
    return isinstance(value, bool | int | float | str)
