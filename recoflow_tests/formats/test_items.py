from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from recoflow.errors import SourceError
from recoflow.formats import items
from recoflow.schema import ParsedBatch
from recoflow.settings.environment import Environment

ReadBytes = Callable[..., ParsedBatch]

FULL = {
    "title": "Nice jeans",
    "uri": "https://lorem.example/p1",
    "categories": ["trousers", "blue"],
    "tags": ["sale"],
    "images": ["a.png"],
    "access_type": "free",
    "publication_datetime": "1998-05-01T14:00:00+02:00",
    "description": "Blue.",
    "price": 25.5,
    "availability": True,
    "colour": "blue",
    "size": 32,
}


def test_all_attributes_are_kept(read_bytes: ReadBytes, now: datetime) -> None:
    row = {"item_id": "p1", "item_type": "shoe", **FULL}
    batch = read_bytes("lorem_items.jsonl", json.dumps(row).encode())
    (update,) = batch.updates.to_dicts()
    assert (update["entity"], update["entity_id"], update["entity_type"], update["operation"]) == (
        "item",
        "p1",
        "shoe",
        "upsert",
    )
    assert update["timestamp"] == now
    assert json.loads(update["fields"]) == FULL | {"publication_datetime": "1998-05-01T12:00:00Z"}


def test_csv_and_json_of_one_item_are_one_update(read_bytes: ReadBytes) -> None:
    header = "item_id,title,categories,price,availability,timestamp"
    table = read_bytes("items.csv", f'{header}\np1,Jeans,"[""a"",""b""]",25.50,false,1777636800\n'.encode())
    row = {"item_id": "p1", "title": "Jeans", "categories": ["a", "b"], "price": 25.5, "availability": False}
    lines = read_bytes("items.jsonl", json.dumps({**row, "timestamp": 1777636800000}).encode())
    assert table.updates.drop("source").equals(lines.updates.drop("source"))
    assert table.updates["timestamp"].to_list() == [datetime(2026, 5, 1, 12, tzinfo=UTC)]


def test_empty_and_null_attributes_say_nothing(read_bytes: ReadBytes) -> None:
    table = read_bytes("items.csv", b"item_id,title,price\np1,,\n")
    lines = read_bytes("items.jsonl", b'{"item_id": "p1", "title": null, "price": " "}')
    assert table.updates["fields"].to_list() == lines.updates["fields"].to_list() == ["{}"]


@pytest.mark.parametrize(("cell", "value"), [("news", ["news"]), ('"[]"', []), ('"[""a""]"', ["a"])])
def test_a_list_in_a_cell_is_json_or_its_only_entry(read_bytes: ReadBytes, cell: str, value: list[str]) -> None:
    batch = read_bytes("items.csv", f"item_id,tags\np1,{cell}\n".encode())
    assert json.loads(batch.updates["fields"][0]) == {"tags": value}


def test_json_in_the_cell_of_any_attribute_is_read(read_bytes: ReadBytes) -> None:
    batch = read_bytes("items.csv", b'item_id,sizes,note\np1,"[1, 2]",[sic]\n')
    assert json.loads(batch.updates["fields"][0]) == {"sizes": [1, 2], "note": "[sic]"}


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        *[("true", True), ("True", True), ("1", True), ("yes", True), ("false", False), ("0", False), ("no", False)],
        *[(" Y ", True), ("In Stock", True), ("out of stock", False), ("SOLD_OUT", False), ("FALSE ", False)],
    ],
)
def test_availability_is_a_switch(read_bytes: ReadBytes, text: str, *, truth: bool) -> None:
    batch = read_bytes("items.csv", f"item_id,availability\np1,{text}\n".encode())
    assert json.loads(batch.updates["fields"][0]) == {"availability": truth}


@pytest.mark.parametrize(
    ("row", "field", "code"),
    [
        ({"item_id": ""}, "item_id", "missing_field"),
        ({"item_id": 7}, "item_id", "wrong_type"),
        ({"price": "cheap"}, "price", "not_a_number"),
        ({"availability": "maybe"}, "availability", "wrong_type"),
        ({"categories": [1]}, "categories", "wrong_type"),
        ({"tags": "[a"}, "tags", "wrong_type"),
        ({"title": 7}, "title", "wrong_type"),
        ({"availability": ["no"]}, "availability", "wrong_type"),
        ({"is_available": "maybe"}, "is_available", "wrong_type"),
        ({"publication_datetime": "soon"}, "publication_datetime", "timestamp_unreadable"),
        ({"publication_datetime": 1e17}, "publication_datetime", "timestamp_unreadable"),
        ({"publication_datetime": 7}, "publication_datetime", "timestamp_unreadable"),
        ({"timestamp": "soon"}, "timestamp", "timestamp_unreadable"),
        ({"timestamp": "2026-05-09T12:00:00Z"}, "timestamp", "timestamp_in_future"),
        ({"environment": "ipsum"}, "environment", "other_environment"),
    ],
)
def test_a_row_that_breaks_a_rule_is_refused(
    read_bytes: ReadBytes, row: dict[str, object], field: str, code: str
) -> None:
    batch = read_bytes("items.jsonl", json.dumps({"item_id": "p1", **row}).encode())
    (reject,) = batch.rejects.to_dicts()
    assert (reject["field"], reject["code"]) == (field, code)


@pytest.mark.fault("K11")
@pytest.mark.parametrize(
    ("written", "read"),
    [
        (1777593600000, "2026-05-01T00:00:00Z"),
        ("1777593600000", "2026-05-01T00:00:00Z"),
        (1777593600, "2026-05-01T00:00:00Z"),
        ("2026-05-01", "2026-05-01T00:00:00Z"),
        ("2026-05-01T12:00:00", "2026-05-01T12:00:00Z"),
        ("2026-05-01 12:00:00", "2026-05-01T12:00:00Z"),
        ("2026-05-01 12:00:00+02:00", "2026-05-01T10:00:00Z"),
        ("2026-05-01T12:00Z", "2026-05-01T12:00:00Z"),
        ("2031-01-01T00:00:00Z", "2031-01-01T00:00:00Z"),
    ],
)
def test_a_publication_is_read_as_the_catalogue_reads_it(read_bytes: ReadBytes, written: object, read: str) -> None:
    row = {"item_id": "p1", "publication_datetime": written}
    (fields,) = read_bytes("items.jsonl", json.dumps(row).encode()).updates["fields"]
    assert json.loads(fields) == {"publication_datetime": read}


@pytest.mark.fault("K8")
@pytest.mark.parametrize(
    "again", ["item_id,title", "\ufeffitem_id,title", " item_id , title", "title,item_id", '"item_id","title"']
)
def test_a_second_header_is_no_item(read_bytes: ReadBytes, again: str) -> None:
    batch = read_bytes("items.csv", f"item_id,title\np1,Jeans\n{again}\np2,Shirt\n".encode())
    assert batch.updates["entity_id"].to_list() == ["p1", "p2"]
    (reject,) = batch.rejects.to_dicts()
    assert (reject["line"], reject["code"]) == (3, "second_header")
    assert "second header at line 3" in reject["message"]


def test_the_item_type_has_the_environments_default(read_bytes: ReadBytes, without_default: Environment) -> None:
    assert read_bytes("items.csv", b"item_id,title\np1,Jeans\n").updates["entity_type"].to_list() == ["article"]
    batch = read_bytes("items.csv", b"item_id,title\np1,Jeans\n", of=without_default)
    assert batch.rejects["field"].to_list() == ["item_type"]


def test_a_put_updates_and_a_delete_disables(environment: Environment, now: datetime) -> None:
    put = items.from_api(b'{"title": "Jeans"}', "article", "p1", environment, now).updates.to_dicts()[0]
    delete = items.from_api(None, "article", "p1", environment, now).updates.to_dicts()[0]
    assert (put["operation"], put["fields"]) == ("upsert", '{"title":"Jeans"}')
    assert (delete["operation"], delete["fields"], delete["entity_id"]) == ("delete", "{}", "p1")


def test_the_path_names_the_item_not_the_body(environment: Environment, now: datetime) -> None:
    batch = items.from_api(b'{"item_id": "other", "title": "x"}', "article", "p1", environment, now)
    assert batch.updates["entity_id"].to_list() == ["p1"]


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"{", b"\xff"])
def test_a_put_without_an_object_is_an_error(environment: Environment, now: datetime, body: bytes) -> None:
    with pytest.raises(SourceError, match="request's body"):
        items.from_api(body, "article", "p1", environment, now)


def test_an_old_value_sent_again_later_is_another_update(environment: Environment, now: datetime) -> None:
    first, again, later = (
        items.from_api(b'{"price": 10}', "article", "p1", environment, moment).updates["event_id"][0]
        for moment in (now, now, now + timedelta(days=2))
    )
    assert first == again != later
