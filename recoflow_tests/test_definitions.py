"""Everything that people see in the Dagster UI, spelled out by hand: a rename is a change of the product."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest

from recoflow.definitions import build_definitions
from recoflow.storage.paths import Paths

LOREM = Path(__file__).parents[1] / "data/environments/lorem.yaml"

PARENTS = {  # asset → what it is made of
    "lorem/events": set(),
    "lorem/quarantine": set(),
    "lorem/readiness": {"lorem/events"},
    "lorem/items": {"lorem/events"},
    "lorem/identity": {"lorem/events"},
    "lorem/interactions": {"lorem/events", "lorem/identity"},
    "lorem/factors": {"lorem/interactions", "lorem/items", "lorem/identity"},
    "lorem/champion": {"lorem/factors"},
    "lorem/campaign_request": {"lorem/champion"},
    "lorem/campaign_recommendations": {"lorem/campaign_request"},
    "lorem/campaign_response": {"lorem/campaign_recommendations"},
    "warehouse": {"lorem/events", "lorem/quarantine", "lorem/items", "lorem/interactions"},
}

CHECKS = {  # asset → its checks; those with a ! block what comes after them
    "lorem/events": """
        files_readable quarantined_share events_unique events_fresh event_kinds_present volume_as_usual
        timestamps_in_range interaction_types_weighted interacted_items_known attributes_exist filter_values_used
        devices_of_one_user anonymous_traffic_pageviews anonymous_traffic_requests anonymous_traffic_clicks
        clicks_join_rankings clicked_items_in_ranking click_positions_spread clicks_without_preceding_recommendation
        clicks_without_preceding_impression clicks_without_following_pageview
    """,
    "lorem/interactions": "rows_sound items_known enough_to_learn interactions_fresh",
    "lorem/factors": """
        !factors_finite !scores_not_constant !coverage !lists_are_personal !better_than_random !not_worse_than_champion
        !split_does_not_leak !final_model_sound !cold_items_encoded !named_models_sound
    """,
    "lorem/champion": "candidate_serves",
    "lorem/campaign_recommendations": """
        !columns_complete !required_values_present !user_groups_known !order_kept !rows_match !request_ids_unique
        !items_recommendable !no_item_repeated !fallback_share !has_recommendations !no_duplicate_users !users_known
        experiments_balanced information_filled
    """,
}

JOBS = {"ingest", "training", "campaign", "campaign_batch", "delivery_log", "retention"}
SENSORS = {"files", "spool", "requests", "first_training", "interrupted_training"}
SCHEDULES = {"lorem_training_schedule", "lorem_retention_schedule", "warehouse_schedule"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> dg.RepositoryDefinition:
    paths = Paths(tmp_path_factory.mktemp("data"))
    paths.environments.mkdir()
    shutil.copy(LOREM, paths.environments)
    return build_definitions(paths.root).get_repository_def()


def test_the_assets_and_what_each_is_made_of(repository: dg.RepositoryDefinition) -> None:
    graph = repository.asset_graph
    found = {key: {each.to_user_string() for each in graph.get(key).parent_keys} for key in graph.get_all_asset_keys()}
    assert {key.to_user_string(): parents for key, parents in found.items()} == PARENTS


def test_the_checks_of_each_asset_and_which_of_them_block(repository: dg.RepositoryDefinition) -> None:
    found: dict[str, set[str]] = {}
    for key in repository.asset_graph.asset_check_keys:
        spec = repository.asset_graph.get_check_spec(key)
        found.setdefault(key.asset_key.to_user_string(), set()).add(f"{'!' * spec.blocking}{key.name}")
    assert found == {asset: set(names.split()) for asset, names in CHECKS.items()}


def test_the_jobs_sensors_and_schedules(repository: dg.RepositoryDefinition) -> None:
    own = {name for name in repository.job_names if not name.startswith("__")}
    assert own == {f"lorem_{name}" for name in JOBS}
    assert {sensor.name for sensor in repository.sensor_defs} == {f"lorem_{name}" for name in SENSORS}
    assert {schedule.name for schedule in repository.schedule_defs} == SCHEDULES


def test_the_partitions_of_campaigns(repository: dg.RepositoryDefinition) -> None:
    graph = repository.asset_graph
    partitioned = {
        key.to_user_string(): graph.get(key).partitions_def.name  # type: ignore[union-attr]
        for key in graph.get_all_asset_keys()
        if graph.get(key).partitions_def is not None
    }
    assert partitioned == {
        f"lorem/campaign_{asset}": "lorem_campaigns" for asset in ("request", "recommendations", "response")
    }


def test_the_resources(repository: dg.RepositoryDefinition) -> None:
    assert set(repository.get_top_level_resources()) == {"installation", "checker", "duckdb"}
