"""Folders of the temporary directory: what a killed process leaves is found and removed, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from recoflow.storage import scratch
from recoflow.storage.scratch import Scratch

HOLD = """
import time
from recoflow.storage.scratch import Scratch
folder = Scratch()
print(folder.name, flush=True)
time.sleep(60)
"""


@pytest.mark.fault("L17")
def test_a_killed_processs_folder_is_cleared_and_a_living_ones_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    holders = [
        subprocess.Popen(
            (sys.executable, "-c", HOLD), stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
        )
        for _ in range(2)
    ]
    try:
        dead, living = (Path(holder.stdout.readline().strip()) for holder in holders if holder.stdout)
        (dead / "file").write_text("left")
        (tmp_path / "recoflow-scratch-link").symlink_to(tmp_path)
        (tmp_path / "recoflow-of-a-person").mkdir()
        holders[0].send_signal(signal.SIGKILL)
        holders[0].wait()
        assert scratch.clear_scratch(time.time() + 61) == [dead]
        assert not dead.exists()
        assert living.exists()
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            [living.name, "recoflow-of-a-person", "recoflow-scratch-link"]
        )
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


@pytest.mark.fault("L17")
def test_a_folder_that_is_just_being_made_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = tmp_path / f"{scratch.PREFIX}x"
    made.mkdir()
    assert scratch.left(time.time()) == []
    assert scratch.left(time.time() + 61) == [made]


def test_a_folder_goes_with_its_block() -> None:
    with Scratch() as folder:
        assert Path(folder).is_dir()
        assert Path(folder) not in scratch.left(time.time() + 61)
    assert not Path(folder).exists()
