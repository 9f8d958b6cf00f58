from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from recoflow.errors import SourceError
from recoflow.formats import files
from recoflow.formats.read_limits import LIMITS, ReadLimits
from recoflow.schema import ParsedBatch
from recoflow.settings.environment import Environment

pytestmark = pytest.mark.slow

ReadBytes = Callable[..., ParsedBatch]

VISIT = {"event_type": "page_visit", "user_id": "u1", "page_type": "home", "timestamp": 1777636800}
OTHER = VISIT | {"user_id": "u2"}
ONE, TWO = json.dumps(VISIT), json.dumps(OTHER)
PRETTY = f"{json.dumps(VISIT, indent=2)}\n{json.dumps(OTHER, indent=2)}"
HEADER = "event_type,user_id,page_type,timestamp"
ROW = "page_visit,u1,home,1777636800"


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True)) if data else b""


both_paths = pytest.mark.parametrize("limits", [LIMITS, ReadLimits(exact_bytes=0)], ids=["exact", "by columns"])


@both_paths
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".ndjson"])
@pytest.mark.parametrize(
    "text",
    [
        f"{ONE}\n{TWO}",
        f"{ONE}\n{TWO}\n",
        f"{ONE}\r\n{TWO}\r\n",
        f"\n{ONE}\n\n  \n{TWO}\n\n",
        f"{ONE}{TWO}",
        f"{ONE} {TWO}",
        PRETTY,
        PRETTY.replace("\n", "\r\n"),
        f"[{ONE},{TWO}]",
        f" [\n{ONE},\n{TWO}\n]\n",
        json.dumps([VISIT, OTHER], indent=2),
        json.dumps({"events": [VISIT, OTHER]}),
        json.dumps({"events": [VISIT, OTHER]}, indent=4),
        "".join(json.dumps({"events": [event]}) + "\n" for event in (VISIT, OTHER)),
    ],
)
def test_every_framing_of_json_is_read(read_bytes: ReadBytes, text: str, suffix: str) -> None:
    batch = read_bytes(f"a{suffix}", text.encode())
    assert batch.rejects.height == 0
    assert batch.events["user_id"].to_list() == ["u1", "u2"]


@both_paths
@pytest.mark.parametrize("text", ["", "\n", " \n\n", "[]", "[ ]", '{"events": []}'])
def test_an_empty_file_has_no_events(read_bytes: ReadBytes, text: str) -> None:
    assert read_bytes("a.json", text.encode()).read == 0


def test_a_header_alone_has_no_events(read_bytes: ReadBytes) -> None:
    assert read_bytes("a.csv", HEADER.encode()).read == 0
    assert read_bytes("b.csv", b"").read == 0


@both_paths
@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, zstd, lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:])]
)
@pytest.mark.parametrize(("name", "text"), [("a.jsonl", f"{ONE}\n{TWO}"), ("a.csv", f"{HEADER}\n{ROW}\n{ROW}")])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_compressed_files_and_byte_order_marks_are_read(
    read_bytes: ReadBytes, name: str, text: str, mark: bytes, pack: Callable[[bytes], bytes]
) -> None:
    batch = read_bytes(f"{name}.gz", pack(mark + text.encode()))
    assert (batch.read, batch.rejects.height) == (2, 0)


@both_paths
def test_one_bad_line_never_stops_the_rest(read_bytes: ReadBytes) -> None:
    bad = [ONE[:-1], "YOLO", "7", '{"event_type": "page_visit",}', "[1]", '{"a": "\\ud800"}']
    text = "\n".join(line for broken in bad for line in (ONE, broken))
    batch = read_bytes("a.jsonl", text.encode() + b'\n{"event_type": "\xff"}\n' + TWO.encode())
    assert batch.events.height == len(bad) + 1
    assert batch.events["user_id"][-1] == "u2"
    assert batch.rejects.select("line", "code", "raw").rows() == [
        (2, "json_truncated", ONE[:-1]),
        (4, "not_json", "YOLO"),
        (6, "not_an_object", "7"),
        (8, "json_trailing_comma", bad[3]),
        (10, "not_an_object", "[1]"),
        (12, "not_utf8", bad[5]),
        (13, "not_utf8", '{"event_type": "�"}'),
    ]
    assert batch.rejects["file"].unique().to_list() == ["a.jsonl"]


def test_comments_as_on_the_seed_page_are_named(read_bytes: ReadBytes) -> None:
    broken = '{\n  "id": "e1", // required\n  "item": "p1"\n}\n'
    batch = read_bytes("a.json", f"{broken}{json.dumps(METARANK_ITEM | {'item': 'p2'})}".encode())
    assert batch.rejects.select("line", "code").rows() == [(1, "json_comment")]
    assert batch.updates["entity_id"].to_list() == ["p2"]


def test_an_address_in_a_text_is_no_comment(read_bytes: ReadBytes) -> None:
    batch = read_bytes("a.jsonl", b'{"event_type": "page_visit", "referrer": "https://x.example/#a"')
    assert batch.rejects["code"].to_list() == ["json_truncated"]


def test_a_broken_object_in_a_pretty_file_costs_only_itself(read_bytes: ReadBytes) -> None:
    broken = PRETTY.replace('"user_id": "u1",', '"user_id": "u1"')
    batch = read_bytes("a.json", f"{broken}\n{ONE}".encode())
    assert batch.rejects.select("line", "code").rows() == [(1, "not_json")]
    assert batch.events["user_id"].to_list() == ["u2", "u1"]


def test_an_object_without_end_in_a_pretty_file_costs_only_itself(read_bytes: ReadBytes) -> None:
    first, second = (json.dumps(event, indent=2) for event in (VISIT, OTHER))
    batch = read_bytes("a.json", f"{first[:-2]}\n{second}".encode())
    assert batch.rejects["line"].to_list() == [1]
    assert batch.events["user_id"].to_list() == ["u2"]


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [(f"[{ONE},\n{TWO}", "json_truncated", 2), (f"[{ONE},\n{TWO},\n]", "json_trailing_comma", 3)],
)
def test_a_list_that_is_no_json_keeps_its_events_and_is_reported(
    read_bytes: ReadBytes, text: str, code: str, line: int
) -> None:
    batch = read_bytes("a.json", text.encode())
    assert batch.events["user_id"].to_list() == ["u1", "u2"]
    assert batch.rejects.select("line", "code").rows() == [(line, code)]


def test_lines_are_counted_in_every_framing(read_bytes: ReadBytes) -> None:
    bad = json.dumps(VISIT | {"page_type": "hom"})
    for name, text in (("a.jsonl", f"{ONE}\n\n{bad}"), ("a.json", f"[\n{ONE},\n{bad}]"), ("b.json", f"{PRETTY[:99]}")):
        batch = read_bytes(name, text.encode())
        assert batch.rejects["line"].to_list() == ([1] if name == "b.json" else [3])


@both_paths
@pytest.mark.parametrize("size", [1, 64, 100, 257])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", "".join(f"{ONE}\n{TWO}\n" for _ in range(20))),
        ("a.json", "[" + ",\n".join([ONE, TWO] * 20) + "]"),
        ("b.json", PRETTY * 20),
        ("c.json", json.dumps([{**VISIT, "z": '}]{["\\\n'}, OTHER] * 20)),
        ("d.json", f'{ONE[:-1]}, "z": "\\"{{}}}}\\ud83d\\ude00"}}{TWO}' * 20),
        ("a.csv", HEADER + ",note\n" + (f'{ROW},"a\nb, ""c"""\n{ROW.replace("u1", "u2")},\n' * 20)),
    ],
)
def test_the_size_of_chunks_does_not_show(
    read_bytes: ReadBytes, limits: ReadLimits, name: str, text: str, size: int
) -> None:
    whole = read_bytes(name, text.encode())
    parts = read_bytes(name, text.encode(), limits=replace(limits, chunk_bytes=size, head_bytes=200))
    assert whole.events["user_id"].to_list() == ["u1", "u2"] * 20
    assert parts.events.equals(whole.events)
    assert parts.rejects.height == 0


def test_batches_are_bounded(tmp_path: Path, environment: Environment, now: datetime) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{ONE}\n" * 100)
    limits = ReadLimits(batch_rows=10, chunk_bytes=500, head_bytes=500)
    sizes = [batch.read for batch in files.read_events(path, environment, now, limits=limits)]
    assert sum(sizes) == 100
    assert 10 <= max(sizes) < 20


def test_a_line_without_end_is_refused_and_not_kept(read_bytes: ReadBytes) -> None:
    limits = ReadLimits(event_bytes=2000, chunk_bytes=1000, head_bytes=1000)
    batch = read_bytes("a.jsonl", f'{ONE}\n{{"a": "{"x" * 9000}"}}\n{TWO}\n'.encode(), limits=limits)
    assert batch.events["user_id"].to_list() == ["u1", "u2"]
    assert batch.rejects.select("line", "code").rows() == [(2, "too_long")]
    assert batch.rejects["raw"].str.len_chars().to_list() == [1000]


@both_paths
@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("page_visit,u1,home", "wrong_field_count"),
        (f"{ROW},x", "wrong_field_count"),
        ('page_visit,"u1,home,1777636800', "bad_quoting"),
        ('page_visit,"u1"x,home,1777636800', "bad_quoting"),
        ('page_visit,u1,5" tv,1777636800', "unknown_page_type"),
    ],
)
def test_a_bad_row_costs_only_itself(read_bytes: ReadBytes, row: str, code: str) -> None:
    batch = read_bytes("a.csv", f"{HEADER}\n{ROW}\n{row}\n{ROW}\n{ROW}\n".encode())
    assert batch.events.height == 3
    assert batch.rejects.select("line", "code", "raw").rows() == [(3, code, row)]


@both_paths
def test_a_row_that_is_not_utf8_costs_only_itself(read_bytes: ReadBytes) -> None:
    batch = read_bytes("a.csv", f"{HEADER}\n{ROW}\n".encode() + b"page_visit,\xe9,home,1\n" + ROW.encode())
    assert batch.rejects.select("line", "code").rows() == [(3, "not_utf8")]
    assert batch.events.height == 2


@both_paths
def test_quoted_cells_may_hold_anything(read_bytes: ReadBytes) -> None:
    row = 'page_visit,"u, ""1""",home,1777636800,"two\nlines"'
    batch = read_bytes("a.csv", f"{HEADER},note\r\n{row}\r\n\r\n{ROW},\r\n".encode())
    assert batch.events["user_id"].to_list() == ['u, "1"', "u1"]
    assert json.loads(batch.events["properties"][0]) == {"note": "two\nlines"}


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("event_type;user_id;page_type", "delimiter is ';'"),
        ("event_type\tuser_id", "delimiter"),
        ("”event_type”,”user_id”", "curly quotes"),
        ("event_type,user_id,user_id", "stands twice"),
        ("event_type,,user_id", "no name"),
        ("a,b", "none of the columns"),
    ],
)
def test_a_header_that_cannot_be_used_is_an_error(read_bytes: ReadBytes, header: str, problem: str) -> None:
    with pytest.raises(SourceError, match=problem):
        read_bytes("a_events.csv", f"{header}\nx,y\n".encode())


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("a.jsonl", "x".encode("utf-16"), "UTF-16"),
        ("a.jsonl.gz", gzip.compress(ONE.encode() * 50, mtime=0)[:-10], "read to its end"),
        ("a.jsonl.gz", b"\x1f\x8b\x08\x00 no", "read to its end"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd no", "read to its end"),
        ("a.xml", b"<a/>", "neither CSV nor JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(read_bytes: ReadBytes, name: str, data: bytes, problem: str) -> None:
    with pytest.raises(SourceError, match=problem):
        read_bytes(name, data)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path, environment: Environment, now: datetime) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        list(files.read_events(tmp_path / "no.csv", environment, now))


ITEM = {"item_id": "p1", "title": "Jeans"}
METARANK_ITEM = {"id": "e1", "item": "p1", "timestamp": 1777636800000}
METARANK_CLICK = METARANK_ITEM | {"type": "click"}
BOUGHT = {"user_id": "u1", "item_id": "p1", "item_type": "shoe", "timestamp": 1777636800}


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("lorem.jsonl", VISIT, "event"),
        ("lorem_items.jsonl", VISIT, "event"),
        ("lorem.jsonl", ITEM, "item"),
        ("lorem.jsonl", METARANK_ITEM, "item"),
        ("lorem_events.jsonl", METARANK_ITEM, "item"),
        ("lorem_items.jsonl", METARANK_CLICK, "interaction"),
        ("lorem_purchases.jsonl", BOUGHT, "event"),
        ("lorem_items.jsonl", BOUGHT, "item"),
    ],
)
def test_the_content_tells_the_dialect_and_the_name_helps(
    read_bytes: ReadBytes, name: str, value: dict[str, object], kind: str
) -> None:
    batch = read_bytes(name, json.dumps(value).encode())
    found = batch.events["kind"].to_list() or batch.updates["entity"].to_list()
    assert (found, batch.rejects.height) == ([kind], 0)


@both_paths
@pytest.mark.parametrize("name", ["lorem_purchases_2026-05-01.csv", "lorem_Purchases.csv"])
def test_a_dump_of_purchases_needs_no_event_type(read_bytes: ReadBytes, name: str) -> None:
    header, row = (",".join(map(str, part)) for part in (BOUGHT.keys(), BOUGHT.values()))
    batch = read_bytes(name, f"{header}\n{row}\n".encode())
    assert batch.events.select("event_type", "item_id").rows() == [("purchase", "p1")]


def test_the_name_that_is_given_is_the_one_that_is_shown(
    tmp_path: Path, environment: Environment, now: datetime
) -> None:
    path = tmp_path / "download.tmp"
    path.write_text(f"{ONE}\nYOLO")
    (batch,) = files.read_events(path, environment, now, name="periodic/lorem_events.jsonl")
    assert batch.events["source"].to_list() == batch.rejects["file"].to_list() == ["periodic/lorem_events.jsonl"]
