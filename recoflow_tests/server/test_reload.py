"""Environments' files that change while the installation runs are read when no run is at work."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from recoflow.server.reload import Changes
from recoflow.storage.paths import Paths
from recoflow_tests import scenario


@dataclass
class FakeStack:
    layout: Paths
    is_busy: bool = False
    times_read: int = 0
    told: list[str] = field(default_factory=list)

    @property
    def ui(self) -> Any:
        return type("Ui", (), {"is_busy": lambda _: self.is_busy})()

    def read_again(self) -> None:
        self.times_read += 1

    @property
    def file(self) -> Path:
        return self.layout.environments / "lorem.yaml"


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    layout = Paths(tmp_path)
    layout.environments.mkdir()
    scenario.write_environment(layout, "lorem")
    return FakeStack(layout)


def changes(stack: FakeStack) -> Changes:
    return Changes(stack, stack.told.append)  # type: ignore[arg-type]


def test_a_changed_file_is_read_once(stack: FakeStack) -> None:
    watcher = changes(stack)
    watcher.look()
    assert stack.times_read == 0
    stack.file.write_text(stack.file.read_text() + "# more\n")
    watcher.look()
    watcher.look()
    assert stack.times_read == 1
    assert stack.told[0].startswith("lorem.yaml changed")


def test_a_new_environment_is_read(stack: FakeStack) -> None:
    watcher = changes(stack)
    scenario.write_environment(stack.layout, "ipsum")
    watcher.look()
    assert stack.times_read == 1
    assert stack.told[0].startswith("ipsum.yaml changed")


def test_a_change_waits_for_the_end_of_runs(stack: FakeStack) -> None:
    watcher = changes(stack)
    stack.is_busy = True
    stack.file.write_text(stack.file.read_text() + "# more\n")
    watcher.look()
    assert (stack.times_read, stack.told) == (0, [])
    stack.is_busy = False
    watcher.look()
    assert stack.times_read == 1


def test_a_wrong_file_is_told_once_and_not_read(stack: FakeStack) -> None:
    watcher = changes(stack)
    stack.file.write_text("name: 7\n")
    watcher.look()
    watcher.look()
    assert stack.times_read == 0
    assert len(stack.told) == 1
    assert "lorem.yaml" in stack.told[0]
