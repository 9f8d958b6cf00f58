"""Group commit: many wait for one fsync, each gets its own outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recoflow.errors import StorageError
from recoflow.gateway.admission import AdmissionControl
from recoflow.gateway.bodies import Accepted
from recoflow.gateway.journal import Journal
from recoflow.gateway.metrics import Metrics
from recoflow.storage import spool
from recoflow.storage.paths import Paths
from recoflow.storage.spool import SpoolWriter
from recoflow_tests.gateway.client import write_environment

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def run(folder: Path, work: Callable[[Journal], Awaitable[None]]) -> list[float]:
    """Do the work with a journal, close it, and give the times of its commits."""
    commits: list[float] = []

    async def all_of_it() -> None:
        journal = Journal(SpoolWriter(folder, "events", 10**6), lambda: NOW, commits.append)
        await work(journal)
        await journal.close()

    asyncio.run(all_of_it())
    return commits


def test_requests_that_come_at_once_share_a_commit(tmp_path: Path) -> None:
    async def work(journal: Journal) -> None:
        await asyncio.gather(*[journal.append(b"%d\n" % number) for number in range(100)])

    assert len(run(tmp_path, work)) == 1
    (segment,) = spool.sealed(tmp_path)
    assert segment.read_bytes().split() == [b"%d" % number for number in range(100)]


def test_what_comes_during_a_commit_waits_for_the_next(tmp_path: Path) -> None:
    async def work(journal: Journal) -> None:
        first = asyncio.create_task(journal.append(b"1\n"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.gather(first, *[journal.append(b"2\n") for _ in range(9)])

    assert len(run(tmp_path, work)) == 2


def test_all_of_a_group_that_could_not_be_written_are_told_and_the_next_one_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "spool"

    async def work(journal: Journal) -> None:
        folder.write_text("a file where the folder should be")
        outcomes = await asyncio.gather(journal.append(b"1\n"), journal.append(b"2\n"), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StorageError, StorageError]
        folder.unlink()
        await journal.append(b"3\n")

    run(folder, work)
    (segment,) = spool.sealed(folder)
    assert segment.read_bytes() == b"3\n\n"


def test_a_request_that_is_cancelled_does_not_harm_its_group(tmp_path: Path) -> None:
    async def work(journal: Journal) -> None:
        cancelled, other = (asyncio.create_task(journal.append(line)) for line in (b"1\n", b"2\n"))
        await asyncio.sleep(0)
        cancelled.cancel()
        await other
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    run(tmp_path, work)
    assert b"2\n" in spool.sealed(tmp_path)[0].read_bytes()


@pytest.mark.parametrize(("age", "is_sealed"), [(timedelta(0), True), (timedelta(seconds=1), False)])
def test_a_segment_is_sealed_when_it_is_old_enough(tmp_path: Path, age: timedelta, is_sealed: bool) -> None:
    async def work(journal: Journal) -> None:
        await journal.append(b"1\n")
        await journal.seal_if_older(age)
        assert bool(spool.sealed(tmp_path)) == is_sealed

    run(tmp_path, work)


@pytest.mark.fault("L5")
@pytest.mark.parametrize("moves", [timedelta(hours=-3), timedelta(hours=3)])
def test_when_a_segment_is_sealed_does_not_depend_on_the_time_of_day(tmp_path: Path, moves: timedelta) -> None:
    wall, seconds = [NOW], [100.0]

    async def work() -> None:
        writer = SpoolWriter(tmp_path, "events", 10**6, lambda: seconds[0])
        journal = Journal(writer, lambda: wall[0])
        await journal.append(b"1\n")
        wall[0] += moves
        seconds[0] += 9
        await journal.seal_if_older(timedelta(seconds=10))
        assert not spool.sealed(tmp_path)
        seconds[0] += 1
        await journal.seal_if_older(timedelta(seconds=10))
        assert len(spool.sealed(tmp_path)) == 1
        await journal.close()

    asyncio.run(work())


@pytest.mark.fault("L5")
def test_what_was_acknowledged_is_handed_over_at_once_although_the_clock_was_set_back(tmp_path: Path) -> None:
    lorem, wall = write_environment(Paths(tmp_path), "lorem"), [NOW]

    async def work() -> None:
        intake = AdmissionControl(lorem, tmp_path / "spool", lambda: wall[0], Metrics())
        await intake.keep("events", Accepted(b"1\n", 1))
        wall[0] -= timedelta(days=1)
        await intake.seal()  # before a person is forgotten
        assert len(spool.sealed(tmp_path / "spool")) == 1
        await intake.close()

    asyncio.run(work())
