from __future__ import annotations

from pathlib import Path

from recoflow.defs import batch_runs
from recoflow.storage.sftp.mailbox import IncomingFile


def intake(number: int, *, size: int = 1000, lost: int = 0) -> IncomingFile:
    return IncomingFile(str(number), "requests", f"{number}.csv", Path("x"), "0", size, 1, lost=lost)


def shares(due: list[IncomingFile]) -> list[list[int]]:
    return [[int(each.claim_id) for each in run] for run in batch_runs.share(due)]


def test_small_files_share_a_run_and_a_large_one_has_its_own() -> None:
    due = [intake(1), intake(2, size=batch_runs.LARGE + 1), intake(3), intake(4, size=batch_runs.LARGE)]
    assert shares(due) == [[1, 3, 4], [2]]


def test_a_run_is_bounded_in_files_and_bytes() -> None:
    assert [len(run) for run in shares([intake(number) for number in range(300)])] == [
        batch_runs.FILES,
        batch_runs.FILES,
        44,
    ]
    full = [intake(number, size=batch_runs.LARGE) for number in range(20)]
    assert [len(run) for run in shares(full)] == [8, 8, 4]


def test_files_whose_run_was_lost_share_with_fewer_each_time_until_they_are_alone() -> None:
    lengths = [len(shares([intake(n, lost=lost) for n in range(128)])[0]) for lost in range(5)]
    assert lengths == [128, 32, 8, 2, 1]
    assert shares([intake(1, lost=4), intake(2), intake(3, lost=4), intake(4)]) == [[1], [2, 4], [3]]
