"""Dry runs of request files, by the function and as people type them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recoflow.campaigns import freshness
from recoflow.campaigns.preview import RequestPreview
from recoflow.cli import app
from recoflow.errors import CampaignError, ConfigurationError, ModelError
from recoflow.models.store import bundle_store, versions
from recoflow.models.store.bundle import Bundle
from recoflow.settings import environment
from recoflow.storage.lake.lake import Lake
from recoflow.storage.paths import Paths

SAMPLE = Path(__file__).parents[2] / "data/environments/lorem.yaml"
HEADER = "environment,user_id,device_id,list_name,list_size,page_type,category\n"
GOOD = HEADER + "lorem,sport,,Top,3,mail,\nlorem,politics,,Top,2,mail,politics\nlorem,sport,,More,2,mail,\n"
NAME = "lorem_weekly_mail_2020-02-02.csv"


@pytest.fixture
def data(tmp_path: Path, newsroom: Bundle) -> Path:
    layout = Paths(tmp_path)
    layout.environments.mkdir()
    (layout.environments / "lorem.yaml").write_text(
        SAMPLE.read_text().replace("max_age_days: 60", "repeat_items: true")
    )
    models = layout.models("lorem")
    tables = {"tables": dict.fromkeys(freshness.TABLES)}  # trained on the tables as they are: there are none
    bundle_store.save_bundle(replace(newsroom, manifest=newsroom.manifest | tables), models / newsroom.version)
    versions.promote(models, newsroom.version)
    return tmp_path


def write(data: Path, text: str, name: str = NAME) -> Path:
    path = data / name
    path.write_text(text)
    return path


def recoflow(data: Path, *arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["request", *map(str, arguments), "--data", str(data)], env={"COLUMNS": "200"})
    return done.exit_code, done.output


def test_a_sound_file_is_counted_and_exits_with_0(data: Path) -> None:
    path = write(data, GOOD)
    code, text = recoflow(data, "validate", path, "--json")
    assert code == 0
    shown = json.loads(text)
    assert shown["counts"] == {"read": 3, "accepted": 3, "failed": 0, "page_types_replaced": 0, "headers_repeated": 0}
    assert (shown["environment"], shown["rejection"], shown["errors"]) == ("lorem", None, [])


def test_refused_rows_are_listed_and_exit_with_1(data: Path) -> None:
    path = write(data, GOOD + "lorem,,,Top,3,mail,\n")
    code, text = recoflow(data, "validate", path)
    assert code == 1
    assert "missing_identity" in text
    assert len(json.loads(recoflow(data, "validate", path, "--json")[1])["errors"]) == 1


@pytest.mark.parametrize("command", ["validate", "preview"])
def test_a_file_that_is_refused_as_a_whole_says_why_and_exits_with_2(data: Path, command: str) -> None:
    code, text = recoflow(data, command, write(data, GOOD.replace(",", ";")))
    assert code == 2
    assert "wrong_delimiter" in text


def test_a_preview_is_the_answer_to_the_first_rows(data: Path) -> None:
    path = write(data, GOOD)
    code, text = recoflow(data, "preview", path, "--rows", "2", "--csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["user_id"], row["item_id"], row["rank"]) for row in rows] == [
        ("sport", "b", "1"),
        ("sport", "c", "2"),
        ("sport", "d", "3"),
        ("politics", "h", "1"),
        ("politics", "g", "2"),
    ]
    assert float(rows[0]["score"]) == 7
    report = json.loads(recoflow(data, "preview", path, "--json")[1])
    assert len(report["rows"]) == 7
    assert {row["campaign_id"] for row in report["rows"]} == {report["campaign_id"]}
    assert "politics" in recoflow(data, "preview", path)[1]


def test_the_environment_is_that_of_the_name_unless_told(data: Path) -> None:
    path = write(data, GOOD, "mail_2020-02-02.csv")
    runner = CliRunner().invoke(app, ["request", "validate", str(path), "--data", str(data)])
    assert isinstance(runner.exception, ConfigurationError)
    assert recoflow(data, "validate", path, "--environment", "lorem")[0] == 0


def test_nothing_is_kept_and_nothing_is_answered_that_is_refused(data: Path) -> None:
    before = sorted(data.rglob("*"))
    path = write(data, GOOD.replace("lorem,sport", "ipsum,sport"))
    settings = environment.load_environment(data / "environments/lorem.yaml")
    trial = RequestPreview(
        path, settings, Paths(data), Lake(Paths(data).lake("lorem")), datetime(2026, 3, 1, tzinfo=UTC)
    )
    assert trial.request.rejection is not None
    assert trial.request.rejection.code == "wrong_environment"
    with pytest.raises(CampaignError):
        trial.preview(1)
    assert sorted(data.rglob("*")) == sorted([*before, path])


def test_without_a_model_the_cure_is_told(data: Path) -> None:
    (Paths(data).models("lorem") / "champion.json").unlink()
    settings = environment.load_environment(data / "environments/lorem.yaml")
    with pytest.raises(ModelError, match="Materialize factors"):
        RequestPreview(write(data, GOOD), settings, Paths(data), Lake(Paths(data).lake("lorem")), datetime.now(UTC))
