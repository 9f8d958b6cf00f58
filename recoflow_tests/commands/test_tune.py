"""`recoflow tune`, run as people run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from recoflow.settings import environment
from recoflow.storage.lake.lake import Lake
from recoflow_tests.models.conftest import tasteful

REPOSITORY = Path(__file__).parents[2]
MODELS = """\
  models:
    als: { algorithm: als }
    bpr: { algorithm: bpr } # the best of them on the hold-out serves
"""
BADLY_SET = """\
  models:
    near: { algorithm: item_neighbours, neighbours: 1 } # too few
    top: { algorithm: popular }
"""


def recoflow(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "COLUMNS": "200", "RECOFLOW_DATA": str(data)}
    command = [sys.executable, "-m", "recoflow.cli", "tune", *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An environment with a badly set model, and interactions to learn from."""
    (tmp_path / "environments").mkdir()
    path = tmp_path / "environments/lorem.yaml"
    text = (REPOSITORY / "data/environments/lorem.yaml").read_text()
    assert MODELS in text
    path.write_text(text.replace(MODELS, BADLY_SET))
    Lake(tmp_path / "lake/lorem").overwrite("interactions", tasteful(3))
    return path


def test_a_search_shows_what_it_found_and_the_lines_to_change(file: Path) -> None:
    before = file.read_text()
    shown = recoflow(file.parents[1], "lorem", "--trials", "6")
    assert shown.returncode == 0, shown.stderr
    assert "neighbours 1 → " in shown.stdout
    assert "-    near: { algorithm: item_neighbours, neighbours: 1 } # too few" in shown.stdout
    assert "+    near: { algorithm: item_neighbours, neighbours: " in shown.stdout
    assert file.read_text() == before


def test_write_changes_the_yaml_and_nothing_else_in_it(file: Path) -> None:
    before = file.read_text()
    shown = recoflow(file.parents[1], "lorem", "--trials", "6", "--model", "near", "--write", "--json")
    assert shown.returncode == 0, shown.stderr
    (told,) = json.loads(shown.stdout)["models"]
    assert told["ndcg_after"] > 1.2 * told["ndcg_before"]
    neighbours = told["after"]["neighbours"]
    assert environment.load_environment(file).training.models["near"].neighbours == neighbours
    changed = [line for line in file.read_text().splitlines() if line not in before.splitlines()]
    assert changed == [f"    near: {{ algorithm: item_neighbours, neighbours: {neighbours} }} # too few"]


def test_settings_that_cannot_be_set_in_place_are_given_to_be_copied(file: Path) -> None:
    settings = yaml.safe_load(file.read_text())
    settings["training"]["models"] = {"near": "SHARED", "also": "SHARED"}
    text = yaml.safe_dump(settings)
    text = text.replace("also: SHARED", "also: &bad {algorithm: item_neighbours, neighbours: 1}")
    file.write_text(text.replace("near: SHARED", "near: *bad"))
    before = file.read_text()
    shown = recoflow(file.parents[1], "lorem", "--trials", "6", "--model", "near", "--write")
    assert shown.returncode == 2
    assert "cannot be changed in place" in shown.stderr
    assert "near: {'neighbours': " in shown.stderr
    assert file.read_text() == before


@pytest.mark.parametrize("name", ["top", "nobody"])
def test_a_model_without_settings_to_search_is_an_error_that_names_the_others(file: Path, name: str) -> None:
    shown = recoflow(file.parents[1], "lorem", "--model", name)
    assert shown.returncode == 2
    assert f"--model {name}: is no model with settings to search. There is near" in shown.stderr
