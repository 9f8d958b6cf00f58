"""Segments of the spool: durable, whole, sealed once, and recovered when their writer is gone."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import resource
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recoflow.errors import StorageError
from recoflow.storage import spool
from recoflow.storage.spool import SpoolWriter

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def writer(folder: Path, kind: str = "events", seal_bytes: int = 10**6) -> SpoolWriter:
    return SpoolWriter(folder, kind, seal_bytes, lambda: 7.0)


def opened(folder: Path) -> list[Path]:
    return list(folder.glob(f"*{spool.OPEN}"))


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in spool.sealed(folder)]


def test_batches_are_in_the_file_as_soon_as_append_returns(tmp_path: Path) -> None:
    one = writer(tmp_path / "deep" / "folder")
    one.append([b"1\n2\n", b"3\n"], NOW)
    (path,) = opened(tmp_path / "deep" / "folder")
    assert path.read_bytes() == b"1\n2\n\n3\n\n"
    assert one.age() == 0


def test_a_sealed_segment_is_seen_and_the_next_batch_opens_another(tmp_path: Path) -> None:
    one = writer(tmp_path)
    one.append([b"1\n"], NOW)
    assert spool.sealed(tmp_path) == []
    one.seal()
    one.seal()
    assert one.age() is None
    one.append([b"2\n"], NOW)
    assert contents(tmp_path) == [b"1\n\n"]
    assert len(opened(tmp_path)) == 1


def test_a_segment_is_sealed_by_its_size(tmp_path: Path) -> None:
    one = writer(tmp_path, seal_bytes=6)
    for number in range(4):
        one.append([b"%d\n" % number], NOW)
    assert sorted(contents(tmp_path)) == [b"0\n\n1\n\n", b"2\n\n3\n\n"]


def test_kinds_have_segments_of_their_own(tmp_path: Path) -> None:
    for kind in spool.KINDS:
        one = writer(tmp_path, kind)
        one.append([b"1\n"], NOW)
        one.seal()
    assert [spool.kind_of(path) for path in spool.sealed(tmp_path)] == list(spool.KINDS)


def test_the_segment_of_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    one = writer(tmp_path)
    one.append([b"1\n"], NOW)
    assert spool.recover(tmp_path) == []
    one.append([b"2\n"], NOW)
    one.seal()
    assert contents(tmp_path) == [b"1\n\n2\n\n"]


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (b"1\n2\n\n", [b"1\n2\n\n"]),
        (b"1\n\n2\n3\n", [b"1\n\n"]),
        (b"1\n\n2", [b"1\n\n"]),
        (b"1\n\n\x00\x00", [b"1\n\n"]),
        (b"1\n2", []),
        (b"", []),
    ],
)
def test_what_a_crash_left_is_sealed_behind_its_last_whole_batch(
    tmp_path: Path, left: bytes, kept: list[bytes]
) -> None:
    (tmp_path / "events-1.jsonl.open").write_bytes(left)
    assert len(spool.recover(tmp_path)) == len(kept)
    assert contents(tmp_path) == kept
    assert opened(tmp_path) == []
    assert spool.recover(tmp_path) == []


def test_a_full_disk_refuses_the_batch_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    one = writer(tmp_path)
    one.append([b"1\n"], NOW)
    with _files_of_at_most(100), pytest.raises(StorageError, match="cannot be written"):
        one.append([b"2" * 1000 + b"\n"], NOW)
    one.append([b"3\n"], NOW)
    one.seal()
    assert sorted(contents(tmp_path)) == [b"1\n\n", b"3\n\n"]
    assert opened(tmp_path) == []


def test_what_is_not_flushed_is_not_acknowledged_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    one = writer(tmp_path)
    one.append([b"1\n"], NOW)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(StorageError, match="Input/output error"):
            one.append([b"2\n"], NOW)
    one.append([b"3\n"], NOW)
    one.seal()
    assert sorted(contents(tmp_path)) == [b"1\n\n", b"3\n\n"]


def test_a_first_batch_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    one = writer(tmp_path)
    with _files_of_at_most(100), pytest.raises(StorageError):
        one.append([b"2" * 1000 + b"\n"], NOW)
    assert list(tmp_path.iterdir()) == []


def test_writers_and_recoveries_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write_many, args=(tmp_path, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        spool.recover(tmp_path)
    for worker in workers:
        worker.join()
    found = b"".join(contents(tmp_path)).split()
    assert sorted(found) == sorted(b"%d-%d" % (worker, batch) for worker in range(3) for batch in range(60))


def _write_many(folder: Path, number: int) -> None:
    one = writer(folder)
    for batch in range(60):
        one.append([b"%d-%d\n" % (number, batch)], NOW)
        if batch % 3 == 0:
            one.seal()
    one.seal()


@contextlib.contextmanager
def _files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
