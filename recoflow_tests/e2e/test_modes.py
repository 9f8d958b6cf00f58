"""What an ingest and a campaign leave on disk is for its owner alone."""

import os
import shutil
import stat
from collections.abc import Iterator

import pytest

from recoflow.sandbox import world
from recoflow.storage import permissions
from recoflow_tests.scenario import REPOSITORY, Scenario


@pytest.fixture
def umask() -> Iterator[None]:
    """As `recoflow` sets it for itself and its services."""
    before = os.umask(permissions.UMASK)
    yield
    os.umask(before)


@pytest.mark.fault("M15")
def test_nobody_else_can_read_anything_under_data(umask: None, trained: Scenario, sample: world.World) -> None:
    environments = [trained.environment("lorem")]
    permissions.close(trained.layout, permissions.shared(trained.layout, environments))  # what `up` does first
    inbox = trained.layout.inbox("lorem")
    inbox.mkdir(parents=True)
    for file in sorted((REPOSITORY / "data/sample").glob("lorem_events_*")):
        shutil.copyfile(file, inbox / file.name)
    assert trained.run("lorem_ingest").success
    trained.drop_request(world.request(sample), "lorem_weekly_mail_2026-11-22.csv")
    (asked,) = trained.run_requests("lorem_requests")
    assert trained.campaign(asked).success
    paths = [trained.layout.root, *trained.layout.root.rglob("*")]
    assert {"lake", "models", "mailbox", "sftp", "campaigns", "inbox"} <= {path.name for path in paths}
    assert [f"{path} {stat.S_IMODE(path.stat().st_mode):o}" for path in paths if path.stat().st_mode & 0o077] == []
