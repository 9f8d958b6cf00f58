"""A file's objects are judged one by one: what stands beside an object does not decide what it is."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from recoflow.formats.read_limits import LIMITS, ReadLimits
from recoflow.schema import ParsedBatch

ReadBytes = Callable[..., ParsedBatch]

ITEM = {"item_id": "p1", "item_type": "article", "title": "T"}
EVENT = {"event_type": "detail_pageview", "page_type": "article_detail", "user_id": "u1", "timestamp": 1777636800}
EVENT |= {"item_id": "p1", "item_type": "article"}
CLICK = {"id": "e1", "item": "p1", "user": "u2", "type": "click", "timestamp": 1777636800000}
BOUGHT = {"user_id": "u3", "item_id": "p1", "item_type": "article", "timestamp": 1777636800}


both_paths = pytest.mark.parametrize("limits", [LIMITS, ReadLimits(exact_bytes=0)], ids=["exact", "by columns"])


@pytest.mark.fault("K4")
@both_paths
@pytest.mark.parametrize("name", ["lorem.jsonl", "lorem_items.jsonl", "lorem_events.jsonl"])
@pytest.mark.parametrize("counts", [(8, 1, 1), (1, 8, 1), (1, 1, 8), (150, 1, 1), (3, 3, 3)])
@pytest.mark.parametrize("framing", ["lines", "list"])
def test_an_object_is_what_it_says_in_whatever_company(
    read_bytes: ReadBytes, name: str, counts: tuple[int, int, int], framing: str
) -> None:
    kinds = zip((ITEM, EVENT, CLICK), counts, strict=True)
    objects = [json.dumps(kind) for kind, count in kinds for _ in range(count)]
    text = "\n".join(objects) if framing == "lines" else f"[{','.join(objects)}]"
    batch = read_bytes(name, text.encode())
    assert batch.rejects.height == 0
    assert batch.updates["entity_id"].to_list() == ["p1"] * counts[0]
    assert batch.events["user_id"].to_list() == ["u1"] * counts[1] + ["u2"] * counts[2]
    assert not batch.updates["fields"].str.contains("u1|u2").any()


@pytest.mark.fault("K4")
@both_paths
def test_an_object_of_both_dialects_is_read_the_same_way_by_both_paths(read_bytes: ReadBytes) -> None:
    both = {**CLICK, **EVENT}
    batch = read_bytes("lorem.jsonl", "\n".join(map(json.dumps, [CLICK, CLICK, both])).encode())
    assert batch.events["user_id"].to_list() == ["u2", "u2", "u1"]


@both_paths
def test_what_a_file_of_purchases_does_not_name_is_a_purchase(read_bytes: ReadBytes) -> None:
    batch = read_bytes("lorem_purchases.jsonl", "\n".join(map(json.dumps, [BOUGHT, EVENT, CLICK])).encode())
    assert batch.events["event_type"].to_list() == ["purchase", "detail_pageview", "detail_pageview"]


@both_paths
def test_an_object_that_says_nothing_is_what_most_of_the_file_is(read_bytes: ReadBytes) -> None:
    batch = read_bytes("lorem.jsonl", "\n".join(map(json.dumps, [CLICK, CLICK, {"a": 1}])).encode())
    assert batch.rejects["message"].to_list() == [
        "event: neither event, type, items nor item says what this is; send the key event"
    ] or batch.rejects["code"].to_list() == ["unknown_event_type"]
