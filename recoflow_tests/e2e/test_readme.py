"""README stays true: its commands are run, its examples are read."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recoflow_tests.scenario import REPOSITORY, Scenario

README = (REPOSITORY / "README.md").read_text()
RUN_BY_CI = {"make demo", "make test"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line]
    return [line for line in lines if line not in RUN_BY_CI and not line.startswith(". .venv")]


@pytest.fixture
def home(tmp_path: Path, trained_data: Path) -> Path:
    """A checkout with data: what is committed, as links, and a trained environment."""
    for path in REPOSITORY.iterdir():
        if path.name in {"recoflow", "pyproject.toml", "workspace.yaml", "dagster.yaml"}:
            (tmp_path / path.name).symlink_to(path)
    shutil.copytree(trained_data, tmp_path / "data", ignore=shutil.ignore_patterns("mailbox", "sftp"))
    (tmp_path / "data/sample").symlink_to(REPOSITORY / "data/sample")
    return tmp_path


def run(command: list[str] | str, home: Path) -> None:
    tools = str(Path(sys.executable).parent)
    variables = {**os.environ, "DAGSTER_HOME": str(home), "PATH": f"{tools}:{os.environ['PATH']}"}
    shell = isinstance(command, str)
    done = subprocess.run(
        command, cwd=home, env=variables, shell=shell, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_the_two_commands_are_those_of_the_makefile() -> None:
    targets = (REPOSITORY / "Makefile").read_text()
    for command in RUN_BY_CI:
        assert command in README
        assert f"\n{command.removeprefix('make ')}: " in targets


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_works(home: Path, command: str) -> None:
    run(command, home)


def test_the_python_example_works(home: Path) -> None:
    (example,) = blocks("python")
    run([sys.executable, "-W", "error", "-c", example], home)


def test_the_sftp_session_and_the_request_of_the_readme_work(trained: Scenario) -> None:
    if not shutil.which("sftp"):
        pytest.skip("OpenSSH's client is not installed")
    (session,) = blocks("console")
    command, *acts = session.replace(" 2222 ", f" {trained.port} ").splitlines()
    put, get = (act.removeprefix("sftp> ") for act in acts)
    request, _ = blocks("csv")
    root = trained.layout.root
    (root / put.split()[1]).write_text(request)

    def sftp(act: str) -> None:
        words = command.replace("data/", "").split()
        batch = [words[0], "-b", "-", *words[1:]]
        done = subprocess.run(batch, cwd=root, input=act, text=True, capture_output=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr

    sftp(put)
    (asked,) = trained.run_requests("lorem_requests")
    assert trained.campaign(asked).success
    (root / put.split()[1]).unlink()
    sftp(get)
    assert '"reader-00001",,"recoflow"' in (root / put.split()[1]).read_text()


def test_a_run_leaves_nothing_outside_data(home: Path) -> None:
    before = {path.name for path in home.iterdir()}
    run("""dg launch --assets 'key:"lorem/interactions"'""", home)
    assert {path.name for path in home.iterdir()} == before
