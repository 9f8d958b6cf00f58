"""Metarank's rules by columns are those of the exact path, on whatever mix of good, bad and odd events."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recoflow.formats import batch_builder, files, json_framing, metarank, metarank_columns
from recoflow.formats.read_limits import ReadLimits
from recoflow.schema import ParsedBatch
from recoflow.settings.environment import Environment

pytestmark = pytest.mark.slow

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)
SFTP = {"username": "lorem", "private_key": "key", "known_hosts": "hosts"}
EVENTS = {"item_types": ["article"], "metarank_types": {"like": "add_to_cart"}}
ENVIRONMENT = Environment.model_validate({"name": "lorem", "sftp": SFTP, "events": EVENTS})

TEXTS = st.one_of(
    st.sampled_from(
        [
            "no",
            "In stock",
            "u1",
            "Anonymous",
            "lorem",
            "",
            " ",
            " x",
            "\u00a0",
            "\u3000",
            "«a»",
            'a "b"',
            "a\\b",
            "ключ",
            "é/",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2.5, -0.0, 0.1, 0.0001, 1e-7, 1e15, 123456789012345, 1e16, 10**30, 100.0, 1e22]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(),
)
FLAT = st.one_of(TEXTS, NUMBERS, st.booleans(), st.lists(TEXTS, max_size=3), st.lists(NUMBERS, max_size=3))
ANY = st.one_of(FLAT, st.none(), st.lists(st.one_of(TEXTS, NUMBERS, st.booleans()), max_size=3), st.just({"b": [1]}))
FIELD_NAMES = st.sampled_from(
    ["relevancy", "title", "price", "a", "ключ", "title 2", "", "availability", "is_available", "is_awailable"]
)


def records(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(values).flatmap(
        lambda value: st.permutations(sorted(value)).map(lambda names: {name: value[name] for name in names})
    )


FIELDS = st.one_of(
    st.just([]),
    st.lists(records(name=FIELD_NAMES, value=FLAT), max_size=3),
    st.lists(
        st.one_of(records(name=FIELD_NAMES, value=ANY), ANY, st.just({"name": "a", "value": 1, "b": 2})), max_size=2
    ),
)
ITEMS = st.lists(
    st.one_of(
        records(id=st.sampled_from(["p1", "p2", "p 3"]), relevancy=st.one_of(NUMBERS, NUMBERS.map(str), st.none())),
        records(id=st.sampled_from(["p1", "ключ"]), fields=FIELDS),
        records(id=TEXTS, fields=FIELDS, relevancy=NUMBERS),
        records(id=st.just("p1"), label=ANY),
        ANY,
    ),
    max_size=3,
)
GOOD_ITEMS = st.lists(
    records(id=st.just("p1"), fields=st.lists(records(name=FIELD_NAMES, value=st.just(0.5)), max_size=1)),
    min_size=1,
    max_size=3,
)
TIMES = st.sampled_from(["1777636800000", 1777636800123, "2026-05-01T12:00:00Z", 1777636800, 1777636800000.0, "x"])
SHARED: dict[str, st.SearchStrategy[Any]] = {
    "id": st.sampled_from(["e1", "e2", "a longer identifier"]),
    "timestamp": st.sampled_from(["1777636800000", 1777636800123]),
    "fields": FIELDS,
}
KINDS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "item": {"item": st.just("p1")},
    "user": {"user": st.sampled_from(["u1", "null"])},
    "ranking": {"items": st.one_of(GOOD_ITEMS, ITEMS), "user": st.sampled_from(["u1", "Null"])},
    "interaction": {"item": st.just("p1"), "type": st.sampled_from(["click", "like", "view"])},
}
MORE: dict[str, st.SearchStrategy[Any]] = {
    "event": st.sampled_from(["metadata", "impression", "cart", None]),
    "user": TEXTS,
    "session": TEXTS,
    "item": TEXTS,
    "ranking": TEXTS,
    "impression": TEXTS,
    "impression_id": TEXTS,
    "type": TEXTS,
    "tenant": st.sampled_from(["lorem", "ipsum", None]),
    "source": ANY,
    "timestamp": TIMES,
}


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(sorted(KINDS)))
    event: dict[str, Any] = {name: draw(values) for name, values in {**SHARED, **KINDS[kind]}.items()}
    if draw(st.booleans()):
        event["event"] = kind
    for name in draw(st.lists(st.sampled_from(sorted(MORE)), max_size=2, unique=True)):
        event[name] = draw(MORE[name])
    for name in draw(st.lists(st.sampled_from(sorted(event)), max_size=1)):
        event[name] = draw(ANY)
    for name in draw(st.lists(st.sampled_from(sorted(event)), max_size=1)):
        del event[name]
    return dict(draw(st.permutations(sorted(event.items()))))


def read_both_ways(data: bytes) -> tuple[ParsedBatch, ParsedBatch]:
    found = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "stream.jsonl"
        path.write_bytes(data)
        for exact_bytes in (len(data), 0):
            limits = ReadLimits(exact_bytes=exact_bytes)
            empty = batch_builder.BatchBuilder(batch_builder.ParseContext(ENVIRONMENT, path.name, NOW)).batch()
            read = files.read_events(path, ENVIRONMENT, NOW, dialect=metarank.parse_metarank, limits=limits)
            found.append(batch_builder.merge(list(read) or [empty]))
    return found[0], found[1]


LINES = st.one_of(
    events().map(lambda event: json.dumps(event, ensure_ascii=False).encode()),
    events().map(lambda event: json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()),
    events().map(lambda event: json.dumps(event)[:-1].encode()),
    events().map(lambda event: json.dumps(event).replace("]", ",]", 1).encode()),
    events().map(lambda event: json.dumps(event).replace('"name"', '"name": "b", "name"', 1).encode()),
)
PLAIN = b'{"id":"e","timestamp":"1777636800000","item":"p1"'


@settings(max_examples=60, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=6))
@example([PLAIN + b',"fields":[{"name":"a","value":[1,2}]}'])
@example([PLAIN + b',"fields":[{"name":"a","value":1]}]}'])
@example([PLAIN + b',"fields":[{"name":"a","value":"x"}] ]}'])
@example([PLAIN + b',"fields":[{"name":"a","value":[[1]]}]}'])
@example([PLAIN + b',"fields":[{"name":"b","value":1},{"name":"a","value":2},{"name":"b","value":3}]}'])
@example([PLAIN + b',"fields":[],"source":[,]}', PLAIN + b',"fields":[],"source":1}'])
@example([PLAIN + b',"fields":[],"type":"click","items":[,]}'])
def test_events_read_the_same_by_columns(lines: list[bytes]) -> None:
    exact, columns = read_both_ways(b"\n".join(lines))
    assert columns.rejects.to_dicts() == exact.rejects.to_dicts()
    assert columns.events.to_dicts() == exact.events.to_dicts()
    assert columns.updates.to_dicts() == exact.updates.to_dicts()
    for of_columns, of_exact, rows in (
        (columns.event_lines, exact.event_lines, exact.events),
        (columns.update_lines, exact.update_lines, exact.updates),
    ):
        assert of_columns is not None
        assert of_exact is not None
        assert of_columns.to_list() == of_exact.to_list()
        assert len(of_exact) == len(rows)
    assert columns.ignored_keys == exact.ignored_keys
    assert columns.read == exact.read


def test_plain_events_do_not_need_the_exact_path() -> None:
    fields = [{"name": "title", "value": "Nice"}, {"name": "genres", "value": ["a", "b"]}, {"name": "n", "value": 2.5}]
    shared = {"id": "e1", "timestamp": "1777636800000", "fields": fields, "source": "web"}
    items = [{"id": "p1", "relevancy": 2}, {"id": "p2", "fields": [{"name": "relevancy", "value": 0.25}]}]
    lines = [
        {"event": "item", "item": "p1", **shared},
        {"user": "u1", "event": "user", **shared},
        {"event": "ranking", "user": "u1", "session": "s1", "items": items, **shared},
        {"type": "click", "item": "p1", "ranking": "r1", "user": "u1", **shared},
    ]
    text = "\n".join(json.dumps(line) for line in lines).encode()
    found = metarank_columns.parse(json_framing.JsonChunk(text), batch_builder.ParseContext(ENVIRONMENT, "a", NOW))
    assert found.is_easy.all()
    assert found.events["relevancy"].to_list() == [2.0, 0.25, None]
    assert set(found.events["properties"]) == set(found.updates["fields"])
    assert found.updates["fields"][0] == '{"genres":["a","b"],"n":2.5,"title":"Nice"}'
    assert found.ignored_keys == {"source": 4}
