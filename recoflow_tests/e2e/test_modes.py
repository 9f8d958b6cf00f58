"""What an ingest, a training and a campaign leave on disk is for its owner alone."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from recoflow.sandbox import world
from recoflow.storage import private
from recoflow_tests import scenario


@pytest.fixture
def umask() -> Iterator[None]:
    """As `recoflow` sets it for itself and its services."""
    before = os.umask(private.UMASK)
    yield
    os.umask(before)


@pytest.mark.fault("M15")
def test_nobody_else_can_read_anything_under_data(
    umask: None, tmp_path: Path, sample: world.World, sample_files: Path
) -> None:
    root = tmp_path / "data"
    with scenario.installed(root, "lorem") as made:
        made.ingest_and_train(sample_files)
        made.drop_request(world.request(sample), "lorem_weekly_mail_2026-11-22.csv")
        (asked,) = made.run_requests("lorem_requests")
        assert made.campaign(asked).success
        open_to_others = [
            f"{path.relative_to(root)} {stat.S_IMODE(path.lstat().st_mode):o}"
            for path in root.rglob("*")
            if not path.is_symlink() and stat.S_IMODE(path.lstat().st_mode) & 0o077
        ]
    assert open_to_others == []
    assert len([*root.rglob("*")]) > 100
