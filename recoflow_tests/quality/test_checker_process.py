from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recoflow.errors import StorageError
from recoflow.quality import gx_runner
from recoflow.quality.checker_process import Checker
from recoflow.quality.gx_runner import Check, Expectation

pytestmark = pytest.mark.slow

PRESENT = Check("present", "t", "a is there.", (Expectation("ExpectColumnValuesToNotBeNull", {"column": "a"}),))
SOUND, LACKING = {"t": "SELECT 1 AS a"}, {"t": "SELECT NULL::INT AS a"}

DYING = """
import os, signal
from recoflow.quality.checker_process import Checker

with Checker() as checker:
    print(checker.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def checker() -> Iterator[Checker]:
    with Checker() as entered:
        yield entered


@pytest.mark.parametrize("tables", [SOUND, LACKING])
def test_another_process_finds_what_this_one_finds(checker: Checker, tables: dict[str, str]) -> None:
    found = checker.validate(tables, [PRESENT], {"u": "FROM t"})
    assert found == gx_runner.run_checks(tables, [PRESENT], {"u": "FROM t"})
    assert [each.passed for each in found] == [tables is SOUND]


def test_what_cannot_be_computed_is_an_error_here_and_does_not_end_the_other_process(
    checker: Checker, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(b"no Parquet")
    with pytest.raises(StorageError, match=r"damaged\.parquet"):
        checker.validate({"t": f"FROM '{damaged}'"}, [PRESENT], {})
    assert [each.passed for each in checker.validate(SOUND, [PRESENT], {})] == [True]


def test_a_process_that_was_ended_is_an_error_that_says_so() -> None:
    with Checker() as checker:
        os.kill(checker.pid, signal.SIGKILL)
        with pytest.raises(StorageError, match="exit code -9"):
            checker.validate(SOUND, [PRESENT], {})


def test_files_of_the_working_directory_are_no_modules_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pickle.py").write_text("raise SystemExit('not the one of Python')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)  # what this process can import, that one can
    with Checker() as checker:
        assert [each.passed for each in checker.validate(SOUND, [PRESENT], {})] == [True]


def test_leaving_ends_the_process_at_once_and_removes_its_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Checker() as checker:
        assert Path(f"/proc/{checker.pid}").exists()
        (folder,) = tmp_path.iterdir()
        (folder / "left behind").write_text("of a query")
    assert not Path(f"/proc/{checker.pid}").exists()
    assert not folder.exists()


def test_the_process_ends_when_the_one_that_it_serves_is_killed(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}  # for what a killed process cannot remove
    dying = subprocess.run([sys.executable, "-c", DYING], env=environment, capture_output=True, text=True, check=False)
    assert dying.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while Path(f"/proc/{int(dying.stdout)}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
