"""Whatever a small file unpacks to, it is read or refused in bounded memory and time, and nothing of it is lost."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from recoflow.environment import Environment
from recoflow.errors import SourceError
from recoflow.schema import ParsedBatch
from recoflow.sources import csvtext, files, jsonstream, packed

ReadBytes = Callable[..., ParsedBatch]

HEADER = b"event_type,user_id,page_type,timestamp\n"
ROW = b"page_visit,u1,home,1777636800\n"
ONE = json.dumps({"event_type": "page_visit", "user_id": "u1", "page_type": "home", "timestamp": 1777636800}).encode()

MEASURED = """
import resource, sys
from datetime import UTC, datetime
from pathlib import Path
from recoflow.environment import Environment
from recoflow.errors import SourceError
from recoflow.events.ingest import ingest_file
from recoflow.storage.lake import Lake

sftp = {"username": "lorem", "private_key": "key", "known_hosts": "hosts"}
environment = Environment.model_validate({"name": "lorem", "sftp": sftp, "events": {"item_types": ["article"]}})
path = Path(sys.argv[1])
try:
    ingest_file(path, environment, Lake(path.parent / "lake"), datetime(2026, 5, 2, 12, tzinfo=UTC))
except SourceError:
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
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
        ("d.jsonl.gz", nested),
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
def test_a_quote_that_never_closes_costs_only_its_record(
    read_bytes: ReadBytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csvtext, "MAX_EVENT", 2000)
    monkeypatch.setattr(files, "CHUNK_BYTES", 500)
    broken = b'page_visit,"u1,home,1777636800\n'
    batch = read_bytes("a.csv", HEADER + ROW * 3 + broken + ROW * 500)
    assert batch.events.height == 503
    assert batch.rejects.select("line", "raw").rows() == [(5, broken.decode().rstrip("\n"))]


@pytest.mark.fault("H9")
@pytest.mark.parametrize("begin", [b"", b'page_visit,"'])
def test_a_row_without_end_is_refused_and_not_kept(
    read_bytes: ReadBytes, monkeypatch: pytest.MonkeyPatch, begin: bytes
) -> None:
    monkeypatch.setattr(csvtext, "MAX_EVENT", 2000)
    monkeypatch.setattr(files, "CHUNK_BYTES", 500)
    batch = read_bytes("a.csv", HEADER + ROW * 3 + begin + b"x" * 9000 + b"\n" + ROW * 50)
    assert batch.events.height == 53
    assert batch.rejects.select("line", "code").rows() == [(5, "too_long")]


@pytest.mark.fault("H9")
def test_a_file_that_unpacks_to_more_than_it_may_is_refused_by_name(
    tmp_path: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress((ONE + b"\n") * 1000))
    with pytest.raises(SourceError, match=r"b\.jsonl\.gz: unpacks to more than 5,000 bytes"):
        drain(path, 5000)
    drain(path, 200_000)
    monkeypatch.setattr(packed, "MAX_RATIO", 10)
    drain(path, 200_000)
    monkeypatch.setattr(packed, "JUDGED_FROM", 5000)
    with pytest.raises(SourceError, match="more than 10 times its"):
        drain(path, 200_000)


def drain(path: Path, max_bytes: int) -> None:
    with packed.opened(path, "b.jsonl.gz", max_bytes) as read:
        while read(memoryview(bytearray(1000))):
            pass


@pytest.mark.fault("L2")
def test_gigabytes_of_zeros_are_refused_soon(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        for _ in range(128):
            stream.write(bytes(2**23))
    with pytest.raises(SourceError, match="more than 1,000 times"):
        drain(path, 2 * 1024**3)


@pytest.mark.fault("L1")
def test_a_header_of_many_columns_is_checked_in_linear_time() -> None:
    line = b",".join(b"column_%d" % number for number in range(70_000))
    begin = time.process_time()
    assert len(csvtext.header_of(line, "a.csv:1")) == 70_000
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
def test_a_file_without_any_event_is_refused_as_a_whole(read_bytes: ReadBytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "HOPELESS", 100)
    monkeypatch.setattr(files, "CHUNK_BYTES", 1000)
    with pytest.raises(SourceError, match=r"none of its first .* line 1 because: event_type is missing"):
        read_bytes("a.jsonl", b"{}\n" * 1000)
    assert read_bytes("a.jsonl", ONE + b"\n" + b"{}\n" * 1000).rejects.height == 1000


def test_one_bound_holds_for_both_formats() -> None:
    assert csvtext.MAX_EVENT == jsonstream.MAX_EVENT == 8 * 1024**2
