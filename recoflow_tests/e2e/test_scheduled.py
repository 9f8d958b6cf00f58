"""A scheduled campaign, with an experiment on its list, from the schedule's tick to the response on SFTP."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl

from recoflow.campaigns import campaign_record
from recoflow.storage.lake.lake import Lake
from recoflow_tests.e2e.test_event_checks import change
from recoflow_tests.scenario import Scenario

SCHEDULE = "lorem_weekly_campaign_schedule"


def tick(made: Scenario, at: datetime) -> dg.RunRequest | str:
    """What the schedule asks for at a time, or why it asks for nothing."""
    repository = made.definitions.get_repository_def()
    resources = {"installation": made.definitions.resources["installation"]}
    context = dg.build_schedule_context(made.instance, scheduled_execution_time=at, resources=resources)
    data = repository.get_schedule_def(SCHEDULE).evaluate_tick(context)
    return data.run_requests[0] if data.run_requests else str(data.skip_message)


def test_a_scheduled_campaign_is_answered_like_one_that_was_asked_for(trained: Scenario) -> None:
    lists = [{"list_name": "News", "list_size": 3, "page_type": "email"}]
    arms = {"plain": {"weight": 1}, "by_age": {"weight": 1, "configuration": "newest"}}
    change(
        trained,
        "campaigns",
        configurations={"newest": {"algorithm": "newest"}},
        lists={},
        scheduled={"weekly": {"cron": "0 6 * * 1", "active_days": 3, "lists": lists}},
        experiments={"age": {"lists": ["News"], "arms": arms}},
    )
    at = datetime.now(UTC).replace(microsecond=0)
    nobody = tick(trained, at + timedelta(days=400))
    assert nobody == "no user was active in the last 3 days, so nothing is asked for"

    asked = tick(trained, at)
    assert isinstance(asked, dg.RunRequest)
    for _ in range(2):  # a run that is started again asks for nothing more
        assert trained.run("lorem_scheduled", asked).success
    (request,) = trained.run_requests("lorem_requests")
    opened = campaign_record.load_record(trained.layout.campaigns("lorem"), str(request.partition_key))
    assert opened.as_of == at
    result = trained.campaign(request)
    assert result.success

    name = f"lorem_weekly_{at:%Y-%m-%dT%H:%M:%SZ}.csv"
    rows = list(csv.DictReader(io.StringIO(trained.fetch(name))))
    lake = Lake(trained.layout.lake("lorem"))
    active = lake.scan("interactions").filter(pl.col("last_at") >= at - timedelta(days=3)).collect()["subject"]
    users = sorted({subject[2:] for subject in active if subject.startswith("u:")})
    assert list(dict.fromkeys(row["user_id"] for row in rows)) == users
    assert asked.tags["recoflow/audience"] == str(len(users))

    versions = dict(lake.scan("responses").select("user_id", "version").collect().iter_rows())
    assert versions == {row["user_id"]: row["version"] for row in rows}
    assert set(versions.values()) == {"plain", "by_age"}
    (balance,) = [each for each in result.get_asset_check_evaluations() if each.check_name == "experiments_balanced"]
    assert balance.passed
    assert sum(arm["people"] for arm in balance.metadata["arms"].value) == len(users)
    assert isinstance(trained.tick("lorem_requests"), dg.SkipReason)
