"""The table `responses` says what people were given: what was published, since when, and nothing else."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl
import pytest
import yaml

from recoflow.defs import clock, sensors
from recoflow.errors import MailboxError
from recoflow.sandbox import world
from recoflow.storage.lake.lake import Lake
from recoflow.storage.sftp import transfer
from recoflow.storage.sftp.mailbox import Mailbox
from recoflow_tests.scenario import Scenario

NAME = "lorem_weekly_mail_2026-11-22T06:00:00Z.csv"
GIVEN = ("user_id", "list_name", "item_id", "request_id", "version")


@pytest.fixture
def asked(trained: Scenario, sample: world.World) -> dg.RunRequest:
    trained.drop_request(world.request(sample, sample.users[:5]), NAME)
    (request,) = trained.run_requests("lorem_requests")
    return request


def noted(made: Scenario) -> pl.DataFrame:
    return made.definitions.resources["installation"].lake(made.environment("lorem")).scan("responses").collect()


def sent(made: Scenario) -> set[tuple[str, ...]]:
    return {tuple(row[name] for name in GIVEN) for row in csv.DictReader(io.StringIO(made.fetch(NAME)))}


def refuse(*_: object, **__: object) -> None:
    raise MailboxError("the server", "has no room", "Make some")


def fail_at(owner: object, step: str, trained: Scenario, asked: dg.RunRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the campaign with one step that fails."""
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, refuse)
        assert not trained.campaign(asked).success


def test_rows_are_of_a_time_that_is_fixed_before_the_upload(
    trained: Scenario, asked: dg.RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest: Callable[..., None] = transfer.upload
    uploaded: list[datetime] = []

    def upload(*rest: object, **more: object) -> None:
        uploaded.append(datetime.now(UTC))
        honest(*rest, **more)

    monkeypatch.setattr(transfer, "upload", upload)
    begin = datetime.now(UTC)
    assert trained.campaign(asked).success
    (at,) = noted(trained)["published_at"].unique()
    assert begin <= at <= uploaded[0]
    assert set(noted(trained).select(GIVEN).rows()) == sent(trained)


def test_attempts_that_send_nothing_leave_no_rows_and_the_one_that_does_leaves_its_own(
    trained: Scenario, asked: dg.RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(Mailbox, "publish", trained, asked, monkeypatch)
    assert noted(trained).is_empty()

    settings = yaml.safe_load((trained.layout.environments / "lorem.yaml").read_text())
    settings["campaigns"]["version"] = "another"
    (trained.layout.environments / "lorem.yaml").write_text(yaml.safe_dump(settings))
    trained.reload()
    trained.rest()
    (again,) = trained.run_requests("lorem_requests")
    assert trained.campaign(again).success
    assert set(noted(trained).select(GIVEN).rows()) == sent(trained)


def test_an_answer_that_a_newer_file_supersedes_leaves_no_rows(
    trained: Scenario, asked: dg.RunRequest, sample: world.World
) -> None:
    trained.drop_request(world.request(sample, sample.users[5:7]), NAME)
    asked_for = trained.run_requests("lorem_requests")
    (newer,) = [request for request in asked_for if request.partition_key != asked.partition_key]
    assert trained.campaign(asked).success
    assert noted(trained).is_empty()
    assert trained.campaign(newer).success
    assert set(noted(trained).select(GIVEN).rows()) == sent(trained)


def test_what_is_published_without_a_run_is_noted_by_one_of_its_own(
    trained: Scenario, asked: dg.RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = datetime.now(UTC)
    fail_at(transfer, "upload", trained, asked, monkeypatch)
    (noting,) = trained.run_requests("lorem_requests")  # it publishes what was held back
    assert NAME in trained.responses()
    assert noted(trained).is_empty()

    assert noting.job_name == "lorem_delivery_log"
    assert trained.campaign(noting).success
    assert set(noted(trained).select(GIVEN).rows()) == sent(trained)
    assert noted(trained).height == len(sent(trained))
    assert noted(trained)["published_at"].min() >= before
    assert isinstance(trained.tick("lorem_requests"), dg.SkipReason)


def test_a_run_that_dies_behind_its_publication_is_made_up_for_once(
    trained: Scenario, asked: dg.RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(Lake, "commit_once", trained, asked, monkeypatch)
    assert NAME in trained.responses()
    for _ in range(2):
        assert trained.run("lorem_delivery_log").success
    assert trained.campaign(asked).success  # by hand: what was noted is not noted twice
    assert noted(trained).height == len(sent(trained)) == 50


@pytest.mark.fault("C1")
def test_a_run_that_notes_is_alone_and_follows_one_whose_worker_was_killed_after_15_seconds(
    trained: Scenario, asked: dg.RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(Lake, "commit_once", trained, asked, monkeypatch)
    (noting,) = trained.run_requests("lorem_requests")
    assert noting.job_name == "lorem_delivery_log"
    killed = trained.instance.add_run(dg.DagsterRun(job_name="lorem_delivery_log", status=dg.DagsterRunStatus.STARTED))
    assert isinstance(trained.tick("lorem_requests"), dg.SkipReason)
    trained.instance.report_run_failed(killed)
    assert isinstance(trained.tick("lorem_requests"), dg.SkipReason)
    monkeypatch.setattr(sensors, "now", lambda: clock.now() + timedelta(seconds=16))
    (again,) = trained.run_requests("lorem_requests")
    assert again.job_name == "lorem_delivery_log"


def test_what_a_run_is_going_to_note_itself_gets_no_other_run(
    trained: Scenario, asked: dg.RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(Lake, "commit_once", trained, asked, monkeypatch)
    at_work = dg.DagsterRun(
        job_name="__ASSET_JOB",
        status=dg.DagsterRunStatus.STARTED,
        tags={"dagster/partition": str(asked.partition_key)},
    )
    trained.instance.add_run(at_work)
    assert isinstance(trained.tick("lorem_requests"), dg.SkipReason)
    trained.instance.delete_run(at_work.run_id)
    assert isinstance(trained.tick("lorem_requests"), dg.SensorResult)
