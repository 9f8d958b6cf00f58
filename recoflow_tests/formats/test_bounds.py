"""Whatever a small file unpacks to, it is read or refused in bounded memory and time, and nothing of it is lost."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from recoflow.errors import SourceError
from recoflow.formats import batch_builder, compressed_input, csv_framing, files, json_framing, spanlists
from recoflow.formats.read_limits import ReadLimits
from recoflow.schema import ParsedBatch
from recoflow.settings.environment import Environment

ReadBytes = Callable[..., ParsedBatch]

HEADER = b"event_type,user_id,page_type,timestamp\n"
ROW = b"page_visit,u1,home,1777636800\n"
ONE = json.dumps({"event_type": "page_visit", "user_id": "u1", "page_type": "home", "timestamp": 1777636800}).encode()

SMALL = ReadLimits(event_bytes=2000, chunk_bytes=500)
OWN = b',"fields":[{"name":"o","value":1}]'

MEASURED = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from recoflow.settings.environment import Environment
from recoflow.errors import SourceError
from recoflow.ingest.run import ingest_file
from recoflow.storage.lake.lake import Lake

sftp = {"username": "lorem", "private_key": "key", "known_hosts": "hosts"}
environment = Environment.model_validate({"name": "lorem", "sftp": sftp, "events": {"item_types": ["article"]}})
path = Path(sys.argv[1])
try:
    ingest_file(path, environment, Lake(path.parent / "lake"), datetime(2026, 5, 2, 12, tzinfo=UTC))
except SourceError:
    pass
status = Path("/proc/self/status").read_text()  # ru_maxrss counts the process that started this one, too
print(int(status.split("VmHWM:")[1].split()[0]) >> 10)
"""


def open_quote() -> Iterator[bytes]:
    yield HEADER + b'page_visit,"'
    yield from (b"x" * 1_000_000 for _ in range(300))


def stray_quote() -> Iterator[bytes]:
    yield HEADER + ROW * 10 + b'page_visit,"u1,home,1777636800\n'
    yield from (ROW * 100_000 for _ in range(45))


def copies() -> Iterator[bytes]:
    yield from ((ONE + b"\n") * 100_000 for _ in range(83))


def blank_lines() -> Iterator[bytes]:
    yield ONE
    yield from (b"\n" * 1_000_000 for _ in range(50))


def empty_objects() -> Iterator[bytes]:
    yield from (b"{}\n" * 1_000_000 for _ in range(5))


def empty_rows() -> Iterator[bytes]:
    yield HEADER
    yield from (b",,,\n" * 1_000_000 for _ in range(5))


def ranking(number: int, items: int, shared: int, own: bytes = b"") -> bytes:
    fields = b'[{"name":"q","value":"%s"}]' % (b"x" * shared)
    shown = b",".join([b'{"id":"p"%s}' % own] * items)
    head = b'{"event":"ranking","id":"rk-%d","timestamp":"1777636800000","user":"u","session":"s"' % number
    return head + b',"fields":%s,"items":[%s]}\n' % (fields, shown)


def large_ranking() -> Iterator[bytes]:
    yield ranking(0, 300_000, 3_000_000)


def many_items() -> Iterator[bytes]:
    yield from (ranking(number, 700_000, 0) for number in range(10))


def rankings() -> Iterator[bytes]:
    yield from (ranking(number, 1000, 10_000) for number in range(500))


def rankings_with_own_fields() -> Iterator[bytes]:
    yield from (ranking(number, 1000, 10_000, OWN) for number in range(200))


def keys_that_nobody_reads() -> Iterator[bytes]:
    head = b'{"event":"item","id":"%d","timestamp":"1777636800000","item":"p","fields":[]'
    for number in range(300):
        yield head % number + b"".join(b',"key %d":1' % (number * 100_000 + key) for key in range(60_000)) + b"}\n"


def nested() -> Iterator[bytes]:
    yield from (b'{"event_type":"page_visit","a":[' + b"{}," * 2_500_000 + b"{}]}\n" for _ in range(5))


@pytest.mark.fault("H9")
@pytest.mark.matrix
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv.gz", open_quote),
        ("a.csv", stray_quote),
        ("a.jsonl.gz", copies),
        ("b.jsonl.gz", blank_lines),
        ("c.jsonl.gz", empty_objects),
        ("c.csv.gz", empty_rows),
        ("d.jsonl.gz", nested),
        ("e.jsonl", large_ranking),
        ("f.jsonl", many_items),
        ("g.jsonl", rankings),
        ("h.jsonl", rankings_with_own_fields),
        ("i.jsonl", keys_that_nobody_reads),
    ],
)
def test_an_ingest_takes_no_gigabyte(tmp_path: Path, name: str, content: Callable[[], Iterator[bytes]]) -> None:
    path = tmp_path / name
    with gzip.open(path, "wb", compresslevel=6) if name.endswith(".gz") else path.open("wb") as file:
        for block in content():
            file.write(block)
    measured = subprocess.run([sys.executable, "-c", MEASURED, str(path)], capture_output=True, text=True, check=True)
    assert int(measured.stdout) < 1024


@pytest.mark.fault("H9")
@pytest.mark.matrix
def test_gigabytes_of_blank_lines_are_read_soon(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(ONE)
        for _ in range(2000):
            file.write(b"\n" * 1024**2)
    begin = time.monotonic()
    measured = subprocess.run([sys.executable, "-c", MEASURED, str(path)], capture_output=True, text=True, check=True)
    assert int(measured.stdout) < 1024
    assert time.monotonic() - begin < 60


@pytest.mark.fault("H9")
def test_blank_lines_are_no_records() -> None:
    text = b"\n \n\r\n5\r\n\n7\nx\r\n\n"
    for chunk in (json_framing.JsonChunk(text, 10), csv_framing.CsvChunk(("a",), text, 10)):
        begins, ends, lines = chunk.records
        assert [text[begin:end] for begin, end in zip(begins, ends, strict=True)] == [b" ", b"5\r", b"7", b"x\r"]
        assert lines.tolist() == [11, 13, 15, 16]


@pytest.mark.fault("H9")
@pytest.mark.parametrize("exact_bytes", [0, 10**9])
@pytest.mark.parametrize(
    "large", [ranking(2, 5000, 10_000), ranking(2, 5000, 10_000, OWN), ranking(2, 140_000, 0)], ids=["a", "b", "c"]
)
def test_a_ranking_whose_rows_are_too_large_is_refused_by_name(
    read_bytes: ReadBytes, exact_bytes: int, large: bytes
) -> None:
    text = ranking(1, 10, 20) + large + ranking(3, 1000, 1000)
    batch = read_bytes("a.jsonl", text, limits=ReadLimits(exact_bytes=exact_bytes))
    assert batch.events.height == 1010
    assert batch.rejects.select("line", "field", "code").rows() == [(2, "items", "ranking_too_large")]
    assert "send fewer items in one ranking" in batch.rejects["message"][0]


@pytest.mark.fault("H9")
@pytest.mark.parametrize("own", [b"", OWN])
def test_rankings_that_give_many_rows_come_in_parts_and_in_order(
    tmp_path: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch, own: bytes
) -> None:
    lines = [ranking(number, 20, 100, own) if number % 3 else b'{"events":3}\n' for number in range(100)]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(lines))
    limits = ReadLimits(exact_bytes=0)
    [whole] = files.read_events(path, environment, datetime(2026, 5, 2, tzinfo=UTC), limits=limits)
    monkeypatch.setattr(spanlists, "MAX_PROPERTIES", 3000)
    limits = ReadLimits(exact_bytes=0, batch_bytes=1, part_characters=5000)
    parts = list(files.read_events(path, environment, datetime(2026, 5, 2, tzinfo=UTC), limits=limits))
    assert max(part.events.height for part in parts) <= 60
    joined = batch_builder.merge(parts)
    assert joined.events.to_dicts() == whole.events.to_dicts()
    assert joined.event_lines is not None
    assert whole.event_lines is not None
    assert joined.event_lines.to_list() == whole.event_lines.to_list()
    assert (joined.read, joined.rejects.height) == (whole.read, whole.rejects.height) == (100, 34)


@pytest.mark.fault("H9")
def test_of_keys_that_nobody_reads_the_most_frequent_are_told(read_bytes: ReadBytes) -> None:
    head = '{"event":"item","id":"%d","timestamp":"1777636800000","item":"p","fields":[],"often":1'
    lines = [head % line + "".join(f',"key {line} {key}":1' for key in range(50)) + "}" for line in range(100)]
    ignored = read_bytes("a.jsonl", "\n".join(lines).encode()).ignored_keys
    assert len(ignored) == batch_builder.MAX_IGNORED
    assert ignored["often"] == 100


@pytest.mark.fault("H9")
def test_a_quote_that_never_closes_costs_only_its_record(read_bytes: ReadBytes) -> None:
    broken = b'page_visit,"u1,home,1777636800\n'
    batch = read_bytes("a.csv", HEADER + ROW * 3 + broken + ROW * 500, limits=SMALL)
    assert batch.events.height == 503
    assert batch.rejects.select("line", "raw").rows() == [(5, broken.decode().rstrip("\n"))]


@pytest.mark.fault("H9")
@pytest.mark.parametrize("begin", [b"", b'page_visit,"'])
def test_a_row_without_end_is_refused_and_not_kept(read_bytes: ReadBytes, begin: bytes) -> None:
    text = HEADER + ROW * 3 + begin + b"x" * 9000 + b"\n" + ROW * 50
    batch = read_bytes("a.csv", text, limits=SMALL)
    assert batch.events.height == 53
    assert batch.rejects.select("line", "code").rows() == [(5, "too_long")]


@pytest.mark.fault("H9")
def test_a_file_that_unpacks_to_more_than_it_may_is_refused_by_name(tmp_path: Path, environment: Environment) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress((ONE + b"\n") * 1000))
    with pytest.raises(SourceError, match=r"b\.jsonl\.gz: unpacks to more than 5,000 bytes"):
        drain(path, 5000)
    drain(path, 200_000)


def drain(path: Path, max_bytes: int) -> None:
    with compressed_input.open_input(path, "b.jsonl.gz", max_bytes) as read:
        while read(memoryview(bytearray(1000))):
            pass


def zeros(path: Path, mebibytes: int) -> Path:
    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        for _ in range(mebibytes):
            stream.write(bytes(2**20))
    return path


@pytest.mark.fault("L2")
def test_gigabytes_of_zeros_are_refused_soon(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="more than 1,000 times its"):
        drain(zeros(tmp_path / "a.jsonl.zst", 1024), 2 * 1024**3)


@pytest.mark.fault("L2")
def test_a_high_ratio_of_compression_is_refused_only_where_much_is_unpacked(tmp_path: Path) -> None:
    path = zeros(tmp_path / "a.jsonl.zst", 64)
    assert path.stat().st_size * 1000 < 64 * 1024**2
    drain(path, 2 * 1024**3)
    with pytest.raises(SourceError, match="more than 1,000 times its"):
        drain(zeros(path, 65), 2 * 1024**3)


@pytest.mark.fault("L1")
def test_a_header_of_many_columns_is_checked_in_linear_time() -> None:
    line = b",".join(b"column_%d" % number for number in range(70_000))
    begin = time.process_time()
    assert len(csv_framing.header_of(line, "a.csv:1")) == 70_000
    assert time.process_time() - begin < 5


@pytest.mark.fault("L3")
@pytest.mark.parametrize("blank", [b"\n" * 2_500_000, b" " * 2_500_000 + b"\n", b" \r\n" * 900_000])
@pytest.mark.parametrize(("name", "text"), [("a.jsonl", ONE), ("a.json", b"[" + ONE + b"]"), ("a.csv", HEADER + ROW)])
def test_what_stands_behind_a_blank_megabyte_is_read(
    read_bytes: ReadBytes, blank: bytes, name: str, text: bytes
) -> None:
    batch = read_bytes(name, blank + text)
    assert (batch.events.height, batch.rejects.height) == (1, 0)


@pytest.mark.fault("L3")
@pytest.mark.parametrize(("name", "text"), [("a.jsonl", b"{}"), ("a.json", b"[{}]"), ("a.csv", HEADER + b"x")])
def test_leading_blank_lines_count(read_bytes: ReadBytes, name: str, text: bytes) -> None:
    batch = read_bytes(name, b"\n \n\n" + text)
    assert batch.rejects["line"].to_list() == [4 + text.count(b"\n")]


@pytest.mark.fault("H9")
def test_a_file_without_any_event_is_refused_as_a_whole(read_bytes: ReadBytes) -> None:
    limits = ReadLimits(hopeless_rejects=100, chunk_bytes=1000)
    with pytest.raises(SourceError, match=r"none of its first .* line 1 because: event_type is missing"):
        read_bytes("a.jsonl", b"{}\n" * 1000, limits=limits)
    assert read_bytes("a.jsonl", ONE + b"\n" + b"{}\n" * 1000, limits=limits).rejects.height == 1000
