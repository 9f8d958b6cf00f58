"""What people type about versions of a model, run as they run it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from recoflow import schema
from recoflow.models.store import bundle_store, versions
from recoflow.models.store.bundle import Bundle
from recoflow.models.training import pipeline
from recoflow_tests.models.conftest import NOW, catalogue, environment, tasteful

REPOSITORY = Path(__file__).parents[2]
FIRST, SECOND, REFUSED = (f"2026010{day}T000000Z-00000000" for day in (1, 2, 3))


def recoflow(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "COLUMNS": "200", "RECOFLOW_DATA": str(data)}
    command = [sys.executable, "-m", "recoflow.cli", "models", *arguments, "--environment", "lorem"]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)


def trained(algorithm: str) -> Bundle:
    settings = environment(models={"mine": {"algorithm": algorithm}})
    nobody = pl.DataFrame(schema=schema.IDENTITY)
    made = pipeline.train_environment(tasteful(), catalogue(), nobody, settings, None, NOW, {})
    assert made.bundle is not None
    return made.bundle


@pytest.fixture(scope="module")
def bundles() -> tuple[Bundle, Bundle]:
    return trained("item_neighbours"), trained("ease")


@pytest.fixture
def data(bundles: tuple[Bundle, Bundle], tmp_path: Path) -> Path:
    """An installation whose lorem was served by two versions; a third was refused."""
    (tmp_path / "environments").mkdir()
    sample = REPOSITORY / "data/environments/lorem.yaml"
    (tmp_path / "environments/lorem.yaml").write_text(sample.read_text())
    models = tmp_path / "models/lorem"
    for name, made in ((FIRST, bundles[0]), (SECOND, bundles[1])):
        bundle_store.save_bundle(dataclasses.replace(made, version=name), models / name)
        versions.promote(models, name)
    manifest = bundles[0].manifest | {"refused_by": ["not_worse_than_champion"]}
    bundle_store.save_bundle(dataclasses.replace(bundles[0], version=REFUSED, manifest=manifest), models / REFUSED)
    return tmp_path


def champion(data: Path) -> str | None:
    return versions.champion_version(data / "models/lorem")


def test_list_shows_every_version_with_its_judgement_and_state(data: Path) -> None:
    shown = recoflow(data, "list")
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = {line.split("│")[1].strip(): line for line in shown.stdout.splitlines() if line.startswith("│")}
    assert list(lines) == [REFUSED, SECOND, FIRST]
    assert "refused by not_worse_than_champion" in lines[REFUSED]
    assert "in service" in lines[SECOND]
    assert "served before" in lines[FIRST]
    assert "mine (item_neighbours)" in lines[FIRST]


def test_list_is_json_for_machines(data: Path) -> None:
    told = json.loads(recoflow(data, "list", "--json").stdout)
    assert told["service"] == {"version": SECOND, "before": [FIRST], "is_pinned": False}
    assert [each["version"] for each in told["versions"]] == [REFUSED, SECOND, FIRST]
    assert told["versions"][2]["metrics"]["ndcg"] > 0
    assert told["versions"][0]["refused_by"] == ["not_worse_than_champion"]


def test_list_shows_what_there_is_though_the_pointer_is_damaged(data: Path) -> None:
    (data / "models/lorem" / versions.POINTER).write_text("")
    shown = recoflow(data, "list")
    assert shown.returncode == 2
    assert FIRST in shown.stdout
    assert "recoflow models rollback VERSION" in shown.stderr


def test_compare_puts_settings_metrics_and_lists_side_by_side(data: Path) -> None:
    shown = recoflow(data, "compare", FIRST, SECOND)
    assert (shown.returncode, shown.stderr) == (0, "")
    for part in ("item_neighbours", "ease", "neighbours", "ndcg", "heavy", "Top 10 of 240 people whom both know"):
        assert part in shown.stdout
    told = json.loads(recoflow(data, "compare", FIRST, SECOND, "--users", "50", "--json").stdout)
    assert told["overlap"]["users"] == 50
    assert 0 < told["overlap"]["shared"] < 1


def test_a_rollback_takes_effect_and_says_how_to_keep_it(data: Path) -> None:
    shown = recoflow(data, "rollback")
    assert (shown.returncode, champion(data)) == (0, FIRST)
    assert "recoflow models pin" in shown.stdout


def test_a_refused_version_is_put_in_service_only_by_force(data: Path) -> None:
    shown = recoflow(data, "rollback", REFUSED)
    assert (shown.returncode, champion(data)) == (2, SECOND)
    assert "was refused by not_worse_than_champion" in shown.stderr
    assert recoflow(data, "rollback", REFUSED, "--force").returncode == 0
    assert champion(data) == REFUSED


def test_a_pin_holds_until_it_is_taken_back(data: Path) -> None:
    assert recoflow(data, "pin", FIRST).returncode == 0
    assert "in service, pinned" in recoflow(data, "list").stdout
    assert recoflow(data, "rollback", SECOND).returncode == 2
    assert recoflow(data, "unpin").returncode == 0
    assert recoflow(data, "rollback", SECOND).returncode == 0
    assert champion(data) == SECOND
