"""A model that should not serve is refused by name in a real training run, and the old one answers the next campaign.

Nothing is mocked: each refusal has a cause that happens, a bad setting or a damaged table.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import dagster as dg
import polars as pl
import pytest
import yaml

from recoflow.models.store import versions
from recoflow.sandbox import world
from recoflow_tests.scenario import Scenario, failed_checks, materializations

NAME = "lorem_weekly_mail_2026-11-22T06:00:00Z.csv"


def configure(scenario: Scenario, **models: dict[str, Any]) -> None:
    path = scenario.layout.environments / "lorem.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["training"]["models"] = models
    path.write_text(yaml.safe_dump(settings))
    scenario.reload()


def poison(scenario: Scenario, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    lake = scenario.definitions.resources["installation"].lake(scenario.environment("lorem"))
    lake.overwrite("interactions", change(lake.scan("interactions").collect()))


def with_the_past_repeated_in_the_future(interactions: pl.DataFrame) -> pl.DataFrame:
    """What two writers at once, or a clock that jumped, would leave: old pairs again, later than everything else.

    Only of anonymous visitors: a campaign for the very people whose rows are damaged is refused too, by name.
    """
    late = interactions["last_at"].max() + timedelta(hours=1)
    visitors = interactions.filter(pl.col("weight") > 0, pl.col("subject").str.starts_with("d:"))
    past = visitors.sort("first_at").head(100)
    again = past.with_columns(pl.lit(late).cast(past.schema[name]).alias(name) for name in ("first_at", "last_at"))
    return pl.concat([interactions, again])


def no_numbers(scenario: Scenario) -> None:
    als, bpr = {"algorithm": "als", "regularization": 1e30}, {"algorithm": "bpr", "regularization": 1e9}
    configure(scenario, als=als, bpr=bpr)


def constant(scenario: Scenario) -> None:
    configure(scenario, als={"algorithm": "als", "regularization": 1000})


def popularity_collapse(scenario: Scenario) -> None:
    configure(scenario, als={"algorithm": "als", "factors": 1, "regularization": 1})


def leaking_split(scenario: Scenario) -> None:
    poison(scenario, with_the_past_repeated_in_the_future)


def worse_challenger(scenario: Scenario) -> None:
    configure(scenario, newest={"algorithm": "newest"})


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's own words on numbers that are none
@pytest.mark.parametrize(
    ("cause", "check"),
    [
        (no_numbers, "factors_finite"),
        (constant, "scores_not_constant"),
        (popularity_collapse, "lists_are_personal"),
        (leaking_split, "split_does_not_leak"),
        (worse_challenger, "not_worse_than_champion"),
    ],
)
def test_a_model_that_should_not_serve_is_refused_by_name_and_the_old_one_answers(
    trained: Scenario, sample: world.World, cause: Callable[[Scenario], None], check: str
) -> None:
    folder = trained.layout.models("lorem")
    champion = versions.champion_version(folder)
    cause(trained)

    result = trained.run("lorem_training")

    assert not result.success
    (refusal,) = [each for each in result.get_asset_check_evaluations() if each.check_name == check]
    assert (refusal.passed, refusal.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert refusal.description
    assert check in failed_checks(result)
    assert "champion" not in materializations(result)
    assert versions.champion_version(folder) == champion

    trained.drop_request(world.request(sample, sample.users[:20]), NAME)
    (request,) = trained.run_requests("lorem_requests")
    answered = trained.campaign(request)
    assert answered.success
    assert materializations(answered)["campaign_recommendations"]["model_version"] == champion
    assert NAME in trained.responses()
