"""Configurations that came by the API: versions, times, races, upkeep."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recoflow.errors import ConfigurationError
from recoflow.settings.environment import Campaigns, Environment
from recoflow.settings.list_configuration import Configuration
from recoflow.settings.sections import Sftp
from recoflow.storage import configuration_store
from recoflow.storage.configuration_store import ConfigurationStore
from recoflow.storage.lake.lake import Lake

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake" / "lorem")


@pytest.fixture
def lorem() -> Environment:
    return Environment(
        name="lorem",
        sftp=Sftp(username="lorem", private_key=Path("key"), known_hosts=Path("hosts")),
        campaigns=Campaigns(configurations={"discover": Configuration(max_age_days=60)}),
    )


def test_nothing_is_registered_before_the_first_put(lake: Lake, lorem: Environment) -> None:
    assert ConfigurationStore(lake).history().standing() == {}
    assert configuration_store.effective(lorem, ConfigurationStore(lake).history()) == lorem
    assert not ConfigurationStore(lake).delete("fresh", NOW)


def test_the_nth_put_is_version_n_and_the_newest_stands(lake: Lake) -> None:
    register = ConfigurationStore(lake)
    first, is_new = register.put("fresh", {"max_age_days": 3}, NOW)
    assert (first.version, first.registered_at, is_new) == (1, NOW, True)
    second, is_new = register.put("fresh", {"max_age_days": 2}, NOW + HOUR)
    assert (second.version, is_new) == (2, False)
    assert register.history().standing() == {"fresh": second}
    assert register.history().versions("fresh") == [first, second]


def test_a_put_of_what_stands_changes_nothing(lake: Lake) -> None:
    register = ConfigurationStore(lake)
    first, _ = register.put("fresh", {"filters": {"a": "b", "c": "d"}}, NOW)
    assert register.put("fresh", {"filters": {"c": "d", "a": "b"}}, NOW + HOUR) == (first, False)
    assert lake.scan(configuration_store.TABLE).collect().height == 1


def test_a_deleted_one_is_gone_its_versions_stay_and_the_next_put_counts_on(lake: Lake) -> None:
    register = ConfigurationStore(lake)
    body = {"max_age_days": 3}
    register.put("fresh", body, NOW)
    assert register.delete("fresh", NOW + HOUR)
    assert not register.delete("fresh", NOW + HOUR)
    assert register.history().standing() == {}
    assert [entry.version for entry in register.history().versions("fresh")] == [1]
    again, is_new = register.put("fresh", body, NOW + 2 * HOUR)
    assert (again.version, is_new) == (2, True)


def test_what_stood_at_a_time_is_told_later(lake: Lake, lorem: Environment) -> None:
    register = ConfigurationStore(lake)
    register.put("fresh", {"max_age_days": 3}, NOW)
    register.put("fresh", {"max_age_days": 2}, NOW + 2 * HOUR)
    register.delete("fresh", NOW + 4 * HOUR)
    ages = [
        found.max_age_days if found else None
        for hours in (-1, 0, 1, 2, 3, 4)
        for found in [
            configuration_store.effective(
                lorem, ConfigurationStore(lake).history(), NOW + hours * HOUR
            ).campaigns.configurations.get("fresh")
        ]
    ]
    assert ages == [None, 3, 3, 2, 2, None]


def test_the_order_does_not_hang_on_the_writers_clocks(lake: Lake) -> None:
    register = ConfigurationStore(lake)
    register.put("fresh", {"max_age_days": 3}, NOW)
    late, _ = register.put("fresh", {"max_age_days": 2}, NOW - HOUR)
    assert late.registered_at == NOW + timedelta(microseconds=1)
    assert register.history().standing()["fresh"].version == 2


def test_what_stands_in_the_file_is_the_files_and_the_rest_of_the_environment_stays(
    lake: Lake, lorem: Environment
) -> None:
    register = ConfigurationStore(lake)
    register.put("discover", {"max_age_days": 1}, NOW)
    register.put("fresh", {"max_age_days": 2}, NOW)
    merged = configuration_store.effective(lorem, ConfigurationStore(lake).history())
    assert merged.campaigns.configurations["discover"].max_age_days == 60
    assert merged.campaigns.configurations["fresh"] == Configuration(max_age_days=2)
    assert merged.model_copy(update={"campaigns": lorem.campaigns}) == lorem
    assert set(lorem.campaigns.configurations) == {"discover"}


def test_one_that_cannot_be_read_any_more_is_left_out_alone(lake: Lake, lorem: Environment) -> None:
    register = ConfigurationStore(lake)
    register.put("old", {"a_key_of_an_older_recoflow": 1}, NOW)
    register.put("fresh", {"max_age_days": 2}, NOW)
    assert set(configuration_store.effective(lorem, ConfigurationStore(lake).history()).campaigns.configurations) == {
        "discover",
        "fresh",
    }


def test_puts_at_the_same_time_are_all_kept_and_get_versions_of_their_own(lake: Lake) -> None:
    def put(number: int) -> int:
        return ConfigurationStore(Lake(lake.root)).put("fresh", {"max_age_days": number + 1}, NOW)[0].version

    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(put, range(12)))
    assert sorted(versions) == list(range(1, 13))
    ages = {entry.body["max_age_days"]: entry.version for entry in ConfigurationStore(lake).history().versions("fresh")}
    assert ages == {number + 1: version for number, version in enumerate(versions)}


def test_upkeep_loses_no_version(lake: Lake) -> None:
    register = ConfigurationStore(lake)
    for number in range(5):
        register.put("fresh", {"max_age_days": number + 1}, NOW)
    before = register.history().versions("fresh")
    lake.compact(configuration_store.TABLE)
    assert lake.vacuum(configuration_store.TABLE, keep_hours=0) > 0
    assert register.history().versions("fresh") == before
    assert len(lake.files(configuration_store.TABLE)) == 1


@pytest.mark.parametrize(
    ("configuration_id", "body", "problem"),
    [
        ("fresh", {"max_age_days": -1}, "max_age_days: Input should be greater than 0 (found: -1). Correct this value"),
        ("fresh", {"max_age": 1}, "max_age: is not a known key. Did you mean 'max_age_days'?"),
        ("fresh", {"filters": {"a": 5}}, "filters.a"),
        ("fresh", {"consumed": ["purchas"]}, "did you mean purchase?"),
        ("", {}, "configuration_id: is not 1 to 200 printable characters"),
        ("a\nb", {}, "printable"),
        ("x" * 201, {}, "200"),
        (" fresh", {}, "begins or ends with a space"),
    ],
)
def test_what_is_wrong_is_named_with_key_and_cure(
    lorem: Environment, configuration_id: str, body: dict[str, object], problem: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configuration_store.check_configuration(lorem, configuration_id, body)
    assert problem in str(caught.value)


def test_a_sound_body_passes(lorem: Environment) -> None:
    configuration_store.check_configuration(
        lorem, "fresh", {"algorithm": "popular", "filters": {"categories": ["a", "b"]}, "consumed": []}
    )
