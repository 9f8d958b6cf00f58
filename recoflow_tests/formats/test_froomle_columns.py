"""The rules by columns are those of the exact path, on whatever mix of good, bad and odd events."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recoflow import schema
from recoflow.formats import batch_builder, files, froomle_columns, json_framing
from recoflow.formats.read_limits import ReadLimits
from recoflow.schema import ParsedBatch
from recoflow.settings.environment import Environment

pytestmark = pytest.mark.slow

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)
SFTP = {"username": "lorem", "private_key": "key", "known_hosts": "hosts"}
ENVIRONMENTS = [
    Environment.model_validate({"name": "lorem", "sftp": SFTP, "events": {"item_types": types}})
    for types in ([], ["article"])
]

TEXTS = st.one_of(
    st.sampled_from(["u1", "home", "www", "article", "lorem", "null", "Anonymous", "logged out", "", " ", " x", "i,1"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=12),
)
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2.5, 0.1, 0.0001, 1e-7, 1e15, 1e16, -0.0, 123456789012345678, 10**30, 100.0, 0.05]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(),
)
NUMERALS = st.one_of(
    st.sampled_from(
        ["1", "01", "1.50", "+1", "-0", ".5", "5.", "1e3", "1_0", "0x1", "١", "nan", "9" * 16, "0.1" + "0" * 20]
    ),
    NUMBERS.map(str),
)
TIMES = st.one_of(
    st.sampled_from(
        [
            1777636800,
            "1777636800000",
            946684800,
            946684799,
            99_999_999_999,
            100_000_000_000,
            "2026-05-01T12:00:00Z",
            "2026-05-01T12:00:00.1Z",
            "2026-05-01T12:00:00.123456+02:00",
            "2026-05-01T12:00:00.1234567Z",
            "2026-05-01T12:00:00.Z",
            "2026-02-29T12:00:00Z",
            "2024-02-29T23:59:59-11:30",
            "2026-05-01T24:00:00Z",
            "2026-05-01T12:00:00+24:00",
            "2026-05-01T12:00:00",
            "2026-05-01T12:00Z",
            "2026-05-03T12:00:00Z",
            "2026-05-03T12:00:00.000001Z",
            "2000-01-01T00:00:00+00:01",
        ]
    ),
    st.datetimes(datetime(1999, 12, 30), datetime(2026, 5, 5)).map(lambda moment: f"{moment.isoformat()}Z"),  # noqa: DTZ001
    NUMBERS,
    NUMERALS,
)
ANY = st.one_of(
    TEXTS, NUMBERS, NUMERALS, st.booleans(), st.none(), st.lists(TEXTS, max_size=2), st.just({"b": 1, "a": [2]})
)

GOOD: dict[str, st.SearchStrategy[Any]] = {
    "event_type": st.sampled_from(schema.EVENT_TYPES),
    "user_id": st.sampled_from(["u1", "u2", "ü3", "a user with a long name"]),
    "timestamp": st.sampled_from([1777636800, 1777636800123, "1777636800", "2026-05-01T12:00:00Z"]),
    "page_type": st.sampled_from(["home", "category"]),
    "action_item": st.sampled_from(["i1", "i2"]),
    "action_item_type": st.sampled_from(["article", "shoe"]),
    "list_name": st.just("Relevant for you"),
    "request_id": st.just("r1"),
    "campaign_id": st.just("c1"),
    "interaction_type": st.just("like"),
    "checkpoint": st.just("half"),
}
MORE: dict[str, st.SearchStrategy[Any]] = {
    "device_id": TEXTS,
    "item_id": st.sampled_from(["i1", "i2", ""]),
    "item_type": st.sampled_from(["article", ""]),
    "channel": st.sampled_from(["www", "app-ios", "tv", ""]),
    "event_id": TEXTS,
    "rank": st.one_of(st.integers(-1, 20), NUMERALS),
    "price": st.one_of(NUMBERS, NUMERALS),
    "quantity": st.one_of(NUMBERS, NUMERALS),
    "environment": st.sampled_from(["lorem", "ipsum", ""]),
    "session_id": TEXTS,
    "zone": ANY,
    'a "b"': ANY,
    "ключ": ANY,
}


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    event = {name: draw(values) for name, values in GOOD.items()}
    for name in draw(st.lists(st.sampled_from(sorted(MORE)), max_size=4, unique=True)):
        event[name] = draw(MORE[name])
    for name in draw(st.lists(st.sampled_from(sorted(event)), max_size=1)):
        event[name] = draw(TIMES if name == "timestamp" else ANY)
    for name in draw(st.lists(st.sampled_from(sorted(event)), max_size=1)):
        del event[name]
    return dict(draw(st.permutations(sorted(event.items()))))


def read_both_ways(name: str, data: bytes, environment: Environment) -> tuple[ParsedBatch, ParsedBatch]:
    arrival = batch_builder.ParseContext(environment, name, NOW)
    found = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        for exact_bytes in (len(data), -1):
            limits = ReadLimits(exact_bytes=exact_bytes)
            empty = batch_builder.BatchBuilder(arrival).batch()
            batches = list(files.read_events(path, environment, NOW, limits=limits))
            found.append(batch_builder.merge(batches or [empty]))
    return found[0], found[1]


def lines_of(batch: ParsedBatch) -> list[int]:
    """The lines that rows come from, each of which there must be."""
    return [] if batch.event_lines is None else batch.event_lines.to_list()


def assert_same(name: str, data: bytes, environment: Environment) -> None:
    exact, columns = read_both_ways(name, data, environment)
    assert columns.rejects.to_dicts() == exact.rejects.to_dicts()
    assert columns.events.to_dicts() == exact.events.to_dicts()
    assert lines_of(columns) == lines_of(exact)
    assert len(lines_of(exact)) == exact.events.height
    assert columns.read == exact.read == exact.events.height + exact.rejects.height


LINES = st.one_of(
    events().map(lambda event: json.dumps(event, ensure_ascii=False).encode()),
    events().map(lambda event: json.dumps(event, separators=(",", ":")).encode()),
    events().map(lambda event: json.dumps(event)[:-1].encode()),
    events().map(lambda event: (json.dumps(event) * 2).encode()),
    events().map(lambda event: json.dumps({"events": [event]}).encode()),
    events().map(lambda event: json.dumps(event, ensure_ascii=False).encode("utf-8")[:60] + b'\xff"}'),
    events().map(lambda event: json.dumps(event).replace('"user_id"', '"page_type": "home", "user_id"').encode()),
    st.sampled_from([b"", b"  ", b"{}", b"[]", b"null", b"7", b"{", b'{"a":1}}', b'{"a":1,}', b'{"event_type":01}']),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=8), st.sampled_from(ENVIRONMENTS))
@example(
    [b'{"event_type": "page_visit", "user_id": "u", "page_type": "home", "timestamp": 1777636800, "z": 1.}'],
    ENVIRONMENTS[0],
)
@example(
    [b'{"event_type": "page_visit", "user_id": "u", "page_type": "home", "timestamp": 1777636800, "z": 1e5}'],
    ENVIRONMENTS[0],
)
@example([b'{"event_type":"page_visit","user_id":"u","page_type":"home","timestamp":"1777636800"} x'], ENVIRONMENTS[0])
def test_json_lines_read_the_same_by_columns(lines: list[bytes], environment: Environment) -> None:
    assert_same("lorem_events.jsonl", b"\n".join(lines), environment)


CELLS = st.one_of(TEXTS, NUMERALS, TIMES.map(str), st.just('a\n"b"'))


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    header = draw(st.lists(st.sampled_from(sorted(MORE)), max_size=4, unique=True))
    names = draw(st.permutations([*GOOD, *header]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=draw(st.sampled_from(["\n", "\r\n"])))
    writer.writerow(names)
    for _ in range(draw(st.integers(1, 6))):
        row = [str(draw({**MORE, **GOOD}[name])) for name in names]
        for index in draw(st.lists(st.integers(0, len(row) - 1), max_size=1)):
            row[index] = draw(CELLS)
        writer.writerow(row)
        if draw(st.integers(0, 9)) == 0:
            text.write(draw(st.sampled_from(["\n", "a,b\n", '5" tv,x\n', '"open\n', '"a"b,c\n', "\\,\t\n"])))
    return text.getvalue().encode()


@settings(max_examples=60, deadline=None)
@given(tables(), st.sampled_from(ENVIRONMENTS))
def test_csv_reads_the_same_by_columns(table: bytes, environment: Environment) -> None:
    assert_same("lorem_events.csv", table, environment)


def plain(index: int) -> dict[str, Any]:
    return {"event_type": "page_visit", "user_id": f"u{index}", "page_type": "home", "timestamp": 1777636800 + index}


def parse(lines: list[dict[str, Any]]) -> tuple[pl.DataFrame, np.ndarray[Any, Any]]:
    text = "\n".join(json.dumps(line) for line in lines).encode()
    found = froomle_columns.parse(json_framing.JsonChunk(text), batch_builder.ParseContext(ENVIRONMENTS[0], "a", NOW))
    return found.events, found.is_easy


def test_plain_events_do_not_need_the_exact_path() -> None:
    more = {"price": 2.5, "rank": 3, "zone": "sport", "count": 7, "share": 0.25, "is_new": True, "nothing": None}
    frame, is_easy = parse([plain(index) | more for index in range(100)])
    assert is_easy.all()
    assert frame["properties"][0] == '{"count":7,"is_new":true,"share":0.25,"zone":"sport"}'


def test_names_that_a_sample_misses_are_looked_for_again() -> None:
    lines = [plain(index) | ({f"rare{index % 3}": "x"} if index % 10 == 1 else {}) for index in range(3000)]
    frame, is_easy = parse(lines)
    assert is_easy.all()
    assert frame["properties"].null_count() == 2700


def test_odd_events_keep_their_place_in_the_file() -> None:
    lines = [plain(index) | ({"zone": [index]} if index % 7 == 0 else {}) for index in range(50)]
    data = "\n".join(json.dumps(line) for line in lines).encode()
    for batch in read_both_ways("lorem_events.jsonl", data, ENVIRONMENTS[0]):
        assert batch.events["user_id"].to_list() == [f"u{index}" for index in range(50)]
