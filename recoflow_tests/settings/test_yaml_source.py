from __future__ import annotations

import pytest
import yaml

from recoflow.settings import yaml_source

FLOW = """\
training: # what competes
  models:
    als: { algorithm: als, alpha: 30 } # the usual one
    bpr: {algorithm: bpr}
  k: 10 # places
"""
BLOCK = """\
training:
  models:
    als:
      algorithm: als # least squares
      # chosen by hand
      alpha: 30 # much
    bpr:
      algorithm: bpr

  k: 10
"""


@pytest.mark.parametrize("text", [FLOW, BLOCK], ids=["flow", "block"])
def test_values_are_set_in_place_and_everything_else_stays(text: str) -> None:
    changed = yaml_source.with_values(text, ("training", "models", "als"), {"alpha": 12.5, "factors": 64})
    read = yaml.safe_load(changed)
    assert read["training"]["models"]["als"] == {"algorithm": "als", "alpha": 12.5, "factors": 64}
    assert read["training"]["models"]["bpr"] == {"algorithm": "bpr"}
    assert read["training"]["k"] == 10
    comments = [line.partition("#")[2] for line in text.splitlines() if "#" in line]
    assert [line.partition("#")[2] for line in changed.splitlines() if "#" in line] == comments


def test_a_flow_mapping_stays_on_its_line() -> None:
    changed = yaml_source.with_values(FLOW, ("training", "models", "als"), {"alpha": 12.5, "regularization": 0.0001})
    assert "    als: { algorithm: als, alpha: 12.5, regularization: 0.0001 } # the usual one\n" in changed


def test_a_block_mapping_gets_its_new_lines_under_the_last_one() -> None:
    changed = yaml_source.with_values(BLOCK, ("training", "models", "bpr"), {"factors": 64, "iterations": 30})
    assert "      algorithm: bpr\n      factors: 64\n      iterations: 30\n\n  k: 10\n" in changed


def test_a_comment_stays_with_its_line() -> None:
    changed = yaml_source.with_values(BLOCK, ("training", "models", "als"), {"factors": 64})
    assert "      alpha: 30 # much\n      factors: 64\n    bpr:\n" in changed


def test_numbers_are_read_back_as_they_were() -> None:
    values = {"a": 1e-05, "b": 0.1, "c": 3, "d": 1e20}
    assert yaml.safe_load(yaml_source.with_values("{x: {a: 1}}", ("x",), values))["x"] == values


@pytest.mark.parametrize("place", [("training", "models", "ease"), ("training", "k"), ("nothing",)])
def test_a_place_without_a_mapping_is_an_error(place: tuple[str, ...]) -> None:
    with pytest.raises(KeyError):
        yaml_source.with_values(FLOW, place, {"alpha": 1})
