"""A campaign keeps the settings that it was answered with: who edits an environment's file changes later ones only."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import yaml

from recoflow.defs import batch_runs
from recoflow.sandbox import world
from recoflow.storage.configuration_store import ConfigurationStore
from recoflow_tests.scenario import Scenario

TICKS = 4  # within which a file is taken in
OLD, NEW = (f"lorem_weekly_mail_2026-11-{day}T06:00:00Z.csv" for day in (22, 23))


def answered(made: Scenario, request: str, name: str) -> dg.RunRequest:
    made.drop_request(request, name)
    (asked,) = made.run_requests("lorem_requests")
    assert made.campaign(asked).success
    return asked


def edit(made: Scenario, **campaigns: Any) -> None:
    path = made.layout.environments / "lorem.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["campaigns"] |= campaigns
    path.write_text(yaml.safe_dump(settings))
    made.reload()


def test_a_published_campaign_gives_the_same_bytes_after_an_edit_alone_and_beside_new_ones(
    trained: Scenario, sample: world.World
) -> None:
    old = answered(trained, world.request(sample, sample.users[:5]), OLD)
    sent = {name: trained.fetch(name) for name in (OLD, f"{OLD}.manifest.json")}
    edit(
        trained,
        provider="another",
        version="edited",
        information_fields=["title"],
        lists={},
        experiments={"halves": {"arms": {"left": {"weight": 1}, "right": {"weight": 1}}}},
    )
    assert trained.campaign(dg.RunRequest(partition_key=old.partition_key)).success
    assert {name: trained.fetch(name) for name in sent} == sent

    trained.drop_request(world.request(sample, sample.users[:5]), NEW)
    (new,) = trained.run_requests("lorem_requests")
    config = batch_runs.run_config(trained.environment("lorem"), [str(old.partition_key), str(new.partition_key)])
    assert trained.campaign(dg.RunRequest(run_config=config, job_name="lorem_campaign_batch")).success
    assert {name: trained.fetch(name) for name in sent} == sent
    rows = list(csv.DictReader(io.StringIO(trained.fetch(NEW))))
    assert {row["user_group"] for row in rows} == {"another"}
    assert {row["version"] for row in rows} <= {"left", "right"}
    assert "title" in rows[0]
    assert "url" not in rows[0]


def test_a_configuration_that_was_put_counts_though_the_clock_of_its_writer_is_ahead(trained: Scenario) -> None:
    register = ConfigurationStore(trained.definitions.resources["installation"].lake(trained.environment("lorem")))
    now = datetime.now(UTC)
    register.put("fresh", {"algorithm": "newest"}, now + timedelta(hours=1))
    register.put("fresh", {"algorithm": "newest", "filters": {"item_type": "none"}}, now)
    row = "environment,user_id,list_name,list_size,configuration_id,page_type\nlorem,somebody,For you,5,fresh,email\n"
    answered(trained, row, OLD)
    assert trained.fetch(OLD).splitlines()[1:] == []  # the second: no item is of that type
    assert f"{OLD}.errors.csv" not in trained.responses()


def test_no_attempt_is_wasted_while_an_environments_file_is_wrong(trained: Scenario, sample: world.World) -> None:
    path, lorem = trained.layout.environments / "lorem.yaml", trained.environment("lorem")
    sound = path.read_text()
    path.write_text(sound.replace("poll_seconds", "poll_secconds"))
    trained.drop_request(world.request(sample, sample.users[:5]), OLD)
    told = [str(getattr(trained.tick("lorem_requests"), "skip_message", "")) for _ in range(TICKS)]
    assert told[-1].startswith("no run starts until this is mended: ")
    assert "lorem.yaml:" in told[-1]
    assert "Did you mean 'poll_seconds'?" in told[-1]
    with trained.definitions.resources["installation"].mailbox(lorem) as mailbox:
        assert [intake.attempts for intake in mailbox.pending("requests")] == [0]
    path.write_text(sound)
    assert isinstance(trained.tick("lorem_requests"), dg.SensorResult)
