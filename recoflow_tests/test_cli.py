"""What people type, run as they run it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recoflow.cli import app

REPOSITORY = Path(__file__).parents[1]
SAMPLE = REPOSITORY / "data/environments/lorem.yaml"


def recoflow(*arguments: str, data: Path | None = None, folder: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "COLUMNS": "200"} | ({"RECOFLOW_DATA": str(data)} if data else {})
    command = [sys.executable, "-m", "recoflow.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments/lorem.yaml").write_text(SAMPLE.read_text())
    return tmp_path


def test_help_is_a_tour() -> None:
    shown = recoflow("--help")
    assert shown.returncode == 0
    for command in ("recoflow demo", "recoflow up", "recoflow check", "dg launch"):
        assert command in shown.stdout


def test_check_shows_each_environment(data: Path) -> None:
    shown = recoflow("check", data=data)
    assert shown.returncode == 0
    assert "Lorem Daily" in shown.stdout


def test_check_names_what_is_wrong_in_one_line_without_a_traceback(data: Path) -> None:
    path = data / "environments/lorem.yaml"
    path.write_text(path.read_text().replace("half_life_days", "half_life_dayz"))
    shown = recoflow("check", data=data)
    assert shown.returncode == 2
    assert "lorem.yaml:" in shown.stderr
    assert "events.half_life_dayz" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_brackets_in_an_error_are_no_markup(tmp_path: Path) -> None:
    shown = recoflow("check", data=tmp_path / "[extra]" / "[/red]")
    assert shown.returncode == 2
    assert f"{tmp_path}/[extra]/[/red]/environments: has no environment" in shown.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("gateway", "--port", "70000"),
        ("sandbox", "sftp", "--port", "-1"),
        ("sandbox", "world", "{folder}/world", "--users", "4"),
        ("sandbox", "world", "{folder}/world", "--items", "3"),
        ("sandbox", "world", "{folder}/world", "--events", "2"),
        ("quarantine", "export", "{folder}", "-e", "lorem"),
        ("audience", "-e", "lorem", "--item", "a", "--size", "3", "--out", "{folder}"),
    ],
)
def test_options_that_cannot_be_are_told_with_the_usage(data: Path, arguments: tuple[str, ...]) -> None:
    """And not by a traceback."""
    named = [each.format(folder=data) for each in arguments]
    shown = CliRunner().invoke(app, named, env={"RECOFLOW_DATA": str(data), "COLUMNS": "200"})
    assert shown.exit_code == 2
    assert "Invalid value for" in shown.output


def test_demo_outside_the_repository_says_where_to_run_it(tmp_path: Path) -> None:
    shown = recoflow("demo", folder=tmp_path)
    assert shown.returncode == 2
    assert "has no workspace.yaml" in shown.stderr


def test_sandbox_world_writes_the_files_of_a_publisher(tmp_path: Path) -> None:
    options = ("--users", "20", "--items", "30", "--events", "500", "--end", "2026-11-01T00:00:00")
    shown = recoflow("sandbox", "world", str(tmp_path / "world"), *options)
    assert shown.returncode == 0
    names = {path.name for path in (tmp_path / "world").iterdir()}
    assert "lorem_weekly_mail_2026-11-01T00:00:00Z.csv" in names
    assert any(name.startswith("lorem_items_") for name in names)
