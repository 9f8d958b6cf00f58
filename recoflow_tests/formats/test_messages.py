"""What a message says to send is accepted when it is sent, and no message is longer than people read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from recoflow.errors import SourceError
from recoflow.schema import ParsedBatch

pytestmark = pytest.mark.slow

ReadBytes = Callable[..., ParsedBatch]

ITEM: dict[str, Any] = {"item_id": "p1"}
EVENT: dict[str, Any] = {"event_type": "page_visit", "page_type": "home", "user_id": "u1", "timestamp": 1777636800}
METARANK: dict[str, Any] = {"event": "item", "id": "e", "item": "p1", "timestamp": 1777636800000}
RANKING: dict[str, Any] = {
    "event": "ranking",
    "id": "e",
    "user": "u",
    "timestamp": 1777636800000,
    "items": [{"id": "a"}],
}
EXAMPLE = re.compile(r"e\.g\. (\S+)|send (\[.*\]|\{.*?\})|did you mean ('[^']+')|send (true)")

BAD: list[tuple[dict[str, Any], str, object]] = [
    *((ITEM, "publication_datetime", value) for value in ("yesterday", 7, 1e17, [], "2026-13-01", "12.5")),
    *((ITEM, name, value) for name in ("tags", "categories", "images") for value in ("[a", 7, [1])),
    *((ITEM, "availability", value) for value in ("maybe", 7, [])),
    *((ITEM, "price", value) for value in ("cheap", "12,50", "€5")),
    *((EVENT, "rank", value) for value in ("first", "1st")),
    *((EVENT, name, "two") for name in ("quantity", "price", "discount")),
    *((EVENT, "timestamp", value) for value in ("2026-05-01T12:00:00", "2026-05-01 12:00:00", "2026-05-01 12:00:00Z")),
    *((EVENT, "timestamp", value) for value in ("2026-05-01", "soon", 1.5, 1777636800000000, True, 0, 9e12)),
    *((METARANK, "timestamp", value) for value in ("2026-05-01T12:00:00", "soon", 1777636800, 1.5, "2026-05-01")),
    (EVENT, "event_type", "page_visits"),
    (EVENT, "page_type", "hom"),
    (METARANK, "event", "itm"),
    *((METARANK, "fields", value) for value in ("x", [{"title": "x"}], [7])),
    *((RANKING, "items", value) for value in ("a", ["a"], {"id": "a"})),
    (RANKING, "items", [{"id": "a", "relevancy": "much"}]),
]


def refused(read_bytes: ReadBytes, value: dict[str, Any]) -> str | None:
    name = "lorem_items.jsonl" if value.keys() >= ITEM.keys() else "lorem.jsonl"
    batch = read_bytes(name, json.dumps(value).encode())
    return batch.rejects["message"].item() if batch.rejects.height else None


@pytest.mark.fault("K11")
@pytest.mark.parametrize(("good", "field", "value"), BAD)
def test_the_example_of_a_message_is_accepted(
    read_bytes: ReadBytes, good: dict[str, Any], field: str, value: object
) -> None:
    message = refused(read_bytes, {**good, field: value})
    assert message is not None
    found = EXAMPLE.search(message) or re.search(r"send (2\S+)", message)
    assert found, message
    text = next(group for group in found.groups() if group).rstrip(",;")
    if field == "items" and "relevancy" in message:
        example: object = [{"id": "a", "relevancy": text}]
    elif text[0] in "[{":
        parsed = json.loads(text.replace(", …", ""))
        example = [parsed] if isinstance(parsed, dict) else parsed
    else:
        example = text.strip("'")
    assert refused(read_bytes, {**good, field: example}) is None, (message, example)


@pytest.mark.fault("L8")
@pytest.mark.parametrize("good", [ITEM, EVENT, METARANK, RANKING, {**METARANK, "event": "interaction", "type": "x"}])
def test_no_message_carries_much_of_what_was_sent(read_bytes: ReadBytes, good: dict[str, Any]) -> None:
    long = "ab " * 100_000
    names = (
        "event_type",
        "event",
        "page_type",
        "channel",
        "environment",
        "tenant",
        "rank",
        "price",
        "timestamp",
        "type",
    )
    names += ("publication_datetime", "availability", "tags", "fields", "items", "item", "item_id", "user")
    values = [long, [long], {long: long}, [{"name": long, "value": {}}], [{"id": long, "relevancy": long}]]
    links = {"ranking": long + "1", "impression": long + "2"}
    for changes in [links, {"action_item": long}, *({name: value} for name in names for value in values)]:
        message = refused(read_bytes, {**good, **changes})
        assert message is None or len(message) < 600, (changes.keys(), message[:300])


@pytest.mark.fault("L8")
@pytest.mark.parametrize(
    "line", ["1,2,3\n", "x" * 2000 + "\n", ("x" * 30 + ",") * 70_000, 'a"b' * 1000 + "\n", "x,x" * 999]
)
def test_a_file_without_a_header_is_refused_in_few_words(read_bytes: ReadBytes, line: str) -> None:
    with pytest.raises(SourceError) as refusal:
        read_bytes("lorem_events.csv", (line * 3).encode())
    assert len(str(refusal.value)) < 600
