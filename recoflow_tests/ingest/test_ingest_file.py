"""A file is staged while its hash is made: nothing of a known, broken or changed one stays, whichever is told first."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from recoflow.errors import SourceError
from recoflow.formats import files
from recoflow.formats.read_limits import LIMITS, ReadLimits
from recoflow.ingest.file_hash import ChangedFileError
from recoflow.ingest.run import ingest_file
from recoflow.schema import Counts, ParsedBatch
from recoflow.settings.environment import Environment
from recoflow.settings.sections import Sftp
from recoflow.storage import atomic_files
from recoflow.storage.lake.lake import Lake

PutInOrder = Callable[..., None]

ENVIRONMENT = Environment(name="lorem", sftp=Sftp(username="lorem", private_key="key", known_hosts="hosts"))
ROWS = [f"detail_pageview,ann,home,www,i{number},article,177{number:04}000000\n" for number in range(100)]
CSV = "event_type,user_id,page_type,channel,action_item,action_item_type,timestamp\n" + "".join(ROWS)


@pytest.fixture(params=["hashed_first", "staged_first"])
def put_in_order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> PutInOrder:
    """Makes the hash wait for the end of the parser, or the parser for the hash, from the call on."""
    is_first_done = threading.Event()
    sha256 = atomic_files.sha256
    read = files.read_events

    def late_hash(path: Path) -> str:
        is_first_done.wait(10)
        return sha256(path)

    def hash_and_tell(path: Path) -> str:
        try:
            return sha256(path)
        finally:
            is_first_done.set()

    def late_read(*args: Any, **options: Any) -> Iterator[ParsedBatch]:
        is_first_done.wait(10)
        yield from read(*args, **options)

    def read_and_tell(*args: Any, **options: Any) -> Iterator[ParsedBatch]:
        try:
            yield from read(*args, **options)
        finally:
            is_first_done.set()

    def put(limits: ReadLimits = LIMITS) -> None:
        nonlocal read
        read = partial(read, limits=limits)
        is_hashed_first = request.param == "hashed_first"
        monkeypatch.setattr(atomic_files, "sha256", hash_and_tell if is_hashed_first else late_hash)
        monkeypatch.setattr(files, "read_events", late_read if is_hashed_first else read_and_tell)

    return put


def parquet_files(lake: Lake) -> set[str]:
    return {str(path) for path in Path(lake.root).joinpath("events").glob("*.parquet")}


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "dump.csv"
    path.write_text(CSV)
    return path


def test_a_file_that_arrives_again_is_looked_up_and_leaves_nothing(lake, make, dump, put_in_order):
    first = ingest_file(dump, ENVIRONMENT, lake, make.now)
    before = parquet_files(lake)
    put_in_order()

    again = ingest_file(dump, ENVIRONMENT, lake, make.now, name="again.csv")

    assert (first.was_known, again.was_known) == (False, True)
    assert again.counts == first.counts
    assert first.counts.accepted == 100
    assert parquet_files(lake) == before == set(lake.files("events"))


def test_what_is_wrong_with_a_known_file_is_nobodys_concern(lake, make, dump, put_in_order):
    ingest_file(dump, ENVIRONMENT, lake, make.now)
    put_in_order()

    assert ingest_file(dump, ENVIRONMENT, lake, make.now, name="dump.pdf").was_known


def test_a_file_that_cannot_be_read_to_its_end_leaves_nothing(lake, make, tmp_path, put_in_order):
    path = tmp_path / "dump.csv.gz"
    path.write_bytes(gzip.compress(CSV.encode())[:-10])
    limits = ReadLimits(batch_rows=1, chunk_bytes=1000, head_bytes=1000)
    assert next(files.read_events(path, ENVIRONMENT, make.now, limits=limits)).events.height > 0
    put_in_order(limits)

    with pytest.raises(SourceError, match="cannot be read to its end"):
        ingest_file(path, ENVIRONMENT, lake, make.now)

    assert not parquet_files(lake)


@pytest.mark.parametrize("is_known", [False, True])
def test_a_file_that_is_written_to_while_it_is_read_waits_until_it_is_whole(lake, make, dump, put_in_order, is_known):
    if is_known:
        ingest_file(dump, ENVIRONMENT, lake, make.now)
    before = parquet_files(lake)
    put_in_order()
    read = files.read_events

    def written_to(*args: Any, **options: Any) -> Iterator[ParsedBatch]:
        parsed = [*read(*args, **options)]
        with dump.open("a") as file:
            file.write("purchase,ben,,,i7,article,1770007000000\n")
        yield from parsed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(files, "read_events", written_to)
        with pytest.raises(ChangedFileError, match="was written to while it was read"):
            ingest_file(dump, ENVIRONMENT, lake, make.now)

    assert parquet_files(lake) == before
    assert ingest_file(dump, ENVIRONMENT, lake, make.now).counts == Counts(101, 101 - 100 * is_known, 0, 100 * is_known)


def test_a_file_that_breaks_off_because_it_is_replaced_is_not_taken_for_a_broken_one(lake, make, dump, monkeypatch):
    def replaced(*_: Any, **__: Any) -> Iterator[ParsedBatch]:
        dump.unlink()
        raise SourceError("dump.csv", "cannot be read to its end", "Send it again, whole")
        yield

    monkeypatch.setattr(files, "read_events", replaced)
    with pytest.raises(ChangedFileError):
        ingest_file(dump, ENVIRONMENT, lake, make.now)
