from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recoflow.sandbox import world
from recoflow_tests import scenario
from recoflow_tests.scenario import Scenario


@pytest.fixture(scope="session")
def sample() -> world.World:
    return world.generate(users=300, items=150, events=12_000, days=30, end=datetime.now(UTC).replace(microsecond=0))


@pytest.fixture(scope="session")
def sample_files(sample: world.World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    world.write_world(sample, folder, days_per_file=15)
    return folder


@pytest.fixture(scope="session")
def trained_data(sample_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose lorem has a champion."""
    root = tmp_path_factory.mktemp("trained") / "data"
    with scenario.installed(root, "lorem") as made:
        made.ingest_and_train(sample_files)
    return root


@pytest.fixture
def trained(trained_data: Path, tmp_path: Path) -> Iterator[Scenario]:
    """An installation of its own, with the model of `trained_data`."""
    with scenario.installed(tmp_path / "data", "lorem", template=trained_data) as made:
        yield made
