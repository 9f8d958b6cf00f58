from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from recoflow import schema
from recoflow.campaigns import inputs
from recoflow.campaigns.publishing import response_files
from recoflow.errors import CampaignError, ModelError
from recoflow.models.store import bundle as bundles
from recoflow.models.store import bundle_store, versions
from recoflow.storage.lake.lake import Lake
from recoflow_tests.campaigns.conftest import make_environment


@pytest.fixture
def place(tmp_path: Path, newsroom: bundles.Bundle) -> SimpleNamespace:
    """A campaign's folder, two versions of a model with the first in service, and a lake with one table."""
    models, lake = tmp_path / "models", Lake(tmp_path / "lake")
    for version in ("v1", "v2"):
        bundle_store.save_bundle(dataclasses.replace(newsroom, version=version), models / version)
    versions.promote(models, "v1")
    lake.overwrite("items", newsroom.items)
    (tmp_path / "campaign").mkdir()
    return SimpleNamespace(folder=tmp_path / "campaign", models=models, lake=lake, items=newsroom.items)


def choose(place: SimpleNamespace, **campaigns: str) -> inputs.Inputs:
    now = inputs.inputs_in_service(place.models, place.lake, make_environment(**campaigns))
    return inputs.choose_inputs(place.folder, place.models, place.lake, now)


def rendered(place: SimpleNamespace) -> None:
    (place.folder / response_files.MANIFEST).write_text("{}")


def test_inputs_are_what_is_in_service_and_stay_though_tables_change(place):
    first = choose(place)
    versions = {"interactions": None, "items": place.lake.version("items"), "identity": None}
    assert first == inputs.Inputs("v1", versions, make_environment().model_dump(mode="json"))
    assert first.chosen_anew is None
    place.lake.overwrite("items", place.items.head(3))
    assert choose(place) == first == inputs.load_inputs(place.folder)


def test_until_something_is_rendered_a_new_champion_is_taken_up(place):
    choose(place)
    versions.promote(place.models, "v2")
    again = choose(place)
    assert again.model_version == "v2"
    assert "v1 is not the champion any more" in str(again.chosen_anew)
    assert choose(place).chosen_anew is None


def test_a_campaign_that_was_rendered_keeps_its_model(place):
    first = choose(place)
    rendered(place)
    versions.promote(place.models, "v2")
    assert choose(place) == first


def test_until_something_is_rendered_new_settings_are_taken_up_and_then_no_more(place):
    choose(place)
    second = choose(place, provider="mended")
    assert "has other settings now" in str(second.chosen_anew)
    assert second.environment() == make_environment(provider="mended")
    rendered(place)
    assert choose(place, provider="edited later") == second == inputs.load_inputs(place.folder)


def test_settings_come_back_as_they_were(place):
    environment = make_environment(
        information_fields=("url", "title"),
        lists={"Top": "varied"},
        configurations={
            "varied": {
                "filters": {"section": ["sport", "news"]},
                "constraints": [{"query": {"key": "n", "match": {"value": 1, "not": True}}, "limit": {"max": 1}}],
                "boosts": [{"query": {"key": "is_free", "contains": {"value": True}}, "factor": 1.5}],
                "minimum_score": -math.inf,
                "consumed": [],
            }
        },
        experiments={"trial": {"arms": {"a": {"weight": 1}, "b": {"weight": 0.1, "configuration": "varied"}}}},
    )
    now = inputs.inputs_in_service(place.models, place.lake, environment)
    inputs.choose_inputs(place.folder, place.models, place.lake, now)
    assert inputs.load_inputs(place.folder) == now
    assert inputs.load_inputs(place.folder).environment() == environment


@pytest.mark.parametrize("settings", [{}, {"name": "lorem", "a_key_of_another_recoflow": 1}])
def test_settings_of_another_version_of_recoflow_are_chosen_anew_and_said(place, settings):
    kept = {"model_version": "v1", "tables": dict(choose(place).tables), "settings": settings}
    (place.folder / inputs.FILE).write_text(json.dumps(kept))
    rendered(place)
    with pytest.raises(CampaignError, match="another version of recoflow"):
        inputs.load_inputs(place.folder).environment()
    again = choose(place)
    assert "another version of recoflow" in str(again.chosen_anew)
    assert again.environment() == make_environment()


def test_a_model_or_a_table_version_that_is_gone_is_chosen_anew_and_said(place):
    first = choose(place)
    rendered(place)
    place.lake.overwrite("items", place.items.head(3))
    place.lake.vacuum("items", keep_hours=0)
    second = choose(place)
    assert second.tables["items"] != first.tables["items"]
    assert f"version {first.tables['items']} of items is gone" in str(second.chosen_anew)
    versions.promote(place.models, "v2")
    (place.models / "v1").rename(place.models / ".gone")
    third = choose(place)
    assert (third.model_version, third.chosen_anew) == ("v2", "model version v1 is gone")


def test_a_table_that_did_not_exist_is_not_read_as_if_it_had(place):
    first = choose(place)
    place.lake.overwrite("identity", pl.DataFrame(schema=schema.IDENTITY))
    second = choose(place)
    assert first.tables["identity"] is None
    assert second.tables["identity"] is not None


def test_nothing_can_be_answered_without_a_champion(place, tmp_path):
    with pytest.raises(ModelError, match="no champion"):
        inputs.inputs_in_service(tmp_path / "none", place.lake, make_environment())


def test_a_campaign_without_inputs_or_with_damaged_ones_is_an_error(place):
    with pytest.raises(CampaignError, match="nothing was staged"):
        inputs.load_inputs(place.folder)
    (place.folder / inputs.FILE).write_text('{"model": 1}')
    with pytest.raises(CampaignError, match="damaged"):
        choose(place)
