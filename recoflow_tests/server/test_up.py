"""What the console of `recoflow up` shows of alerts."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recoflow.errors import StorageError
from recoflow.server.up import Alerts
from recoflow.storage.alerts import raise_alert

NOW = datetime(2026, 11, 30, 6, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with the alert of an earlier day."""
    raise_alert(tmp_path / "logs/alerts.jsonl", StorageError("old", "is full", "Free it"), NOW)
    return tmp_path / "logs/alerts.jsonl"


def test_each_alert_that_any_process_raises_is_one_line_once(path: Path) -> None:
    console: list[str] = []
    alerts = Alerts(path, console.append)
    alerts.look()
    assert console == []
    raise_alert(path, StorageError("lake/lorem/events", "is damaged", "Restore it"), NOW, "lorem")
    alerts.look()
    alerts.look()
    (line,) = console
    assert re.fullmatch(r"\d\d:\d\d:\d\d lorem: lake/lorem/events: is damaged\. Restore it", line)


def test_what_up_itself_reports_is_shown_once_and_in_the_file(path: Path) -> None:
    console: list[str] = []
    alerts = Alerts(path, console.append)
    alerts.report(StorageError("gateway", "stopped with exit code -9", "See data/logs/gateway.log"))
    alerts.look()
    assert len(console) == 1
    assert "gateway" in path.read_text()


def test_foreign_text_in_an_alert_moves_no_cursor(path: Path) -> None:
    console: list[str] = []
    alerts = Alerts(path, console.append)
    raise_alert(path, StorageError("evil\x1b]0;…\x07\x1b[2J\nname.csv", "is damaged", "Remove it"), NOW)
    alerts.look()
    (line,) = console
    assert line.endswith(r"evil\x1b]0;…\x07\x1b[2J\nname.csv: is damaged. Remove it")


def test_an_emptied_file_is_read_from_its_beginning(path: Path) -> None:
    console: list[str] = []
    alerts = Alerts(path, console.append)
    path.write_bytes(b"")
    alerts.look()
    raise_alert(path, StorageError("a", "is damaged", "Remove it"), NOW)
    alerts.look()
    assert len(console) == 1


def test_a_torn_line_is_shown_and_the_ones_behind_it_too(path: Path) -> None:
    console: list[str] = []
    alerts = Alerts(path, console.append)
    with path.open("a") as file:
        file.write('{"at": "2026-11-30T06\n[1]\n')
    raise_alert(path, StorageError("a", "is damaged", "Remove it"), NOW)
    alerts.look()
    assert len(console) == 3
    assert "has a line that is no alert" in console[0]
    assert "a: is damaged" in console[2]


@pytest.mark.fault("H8")
def test_where_no_alert_can_be_written_the_console_has_it(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()  # no folder can be made there
    console: list[str] = []
    Alerts(tmp_path / "logs/alerts.jsonl", console.append).report(StorageError("gateway", "stopped", "See its log"))
    (line,) = console
    assert line.startswith("gateway: stopped. See its log (")
