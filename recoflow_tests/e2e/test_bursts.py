"""Many request files at once: answered by one run, each campaign with its own partition, checks and failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from recoflow.campaigns.lists import build_lists
from recoflow.campaigns.publishing import violations
from recoflow.campaigns.publishing.response_files import Files
from recoflow.campaigns.requests.model import Request
from recoflow.campaigns.staging import staged
from recoflow.sandbox import world
from recoflow.storage.sftp.claims import State
from recoflow.storage.sftp.mailbox import Mailbox
from recoflow.storage.sftp.server_replies import LinkLostError
from recoflow_tests.e2e.test_refusals import repeat_an_item
from recoflow_tests.scenario import Scenario

ASSETS = ("campaign_request", "campaign_recommendations", "campaign_response")


def name(number: int) -> str:
    return f"lorem_mail_{number}_2026-11-22.csv"


def drop(made: Scenario, sample: world.World, numbers: range) -> None:
    made.drop_requests({name(number): world.request(sample, sample.users[number : number + 5]) for number in numbers})


def partitions(made: Scenario, asset: str) -> dict[str, dg.AssetMaterialization]:
    """Name of the request file → its materialization of an asset."""
    records = made.instance.fetch_materializations(dg.AssetKey(["lorem", asset]), limit=100).records
    found = [record.asset_materialization for record in records]
    return {str(each.partition).split(".")[0]: each for each in found if each is not None}


def evaluations(made: Scenario, check: str) -> list[tuple[str | None, str]]:
    """Stem of the request file and status of each evaluation of a check, the latest first; None: of all that passed."""
    key = dg.AssetCheckKey(dg.AssetKey(["lorem", "campaign_recommendations"]), check)
    history = made.instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    return [(each.partition and each.partition.split(".")[0], each.status.value) for each in history]


def checked(made: Scenario, check: str) -> dict[str, bool]:
    """Stem of the request file → whether its campaign passed."""
    shown = partitions(made, "campaign_recommendations")
    return {stem: each.metadata["checks"].value[check] == "passed" for stem, each in shown.items()}


def pending(made: Scenario) -> list[str]:
    with made.definitions.resources["installation"].mailbox(made.environment("lorem")) as mailbox:
        return sorted(intake.name for intake in mailbox.pending())


def test_files_that_arrive_together_share_a_run_and_keep_their_partitions(
    trained: Scenario, sample: world.World
) -> None:
    drop(trained, sample, range(4))
    request = trained.asked(4)
    assert request.job_name == "lorem_campaign_batch"
    assert trained.campaign(request).success
    assert [each for each in trained.responses() if each.endswith("22.csv")] == [name(number) for number in range(4)]
    stems = {name(number).removesuffix(".csv") for number in range(4)}
    for asset in ASSETS:
        shown = partitions(trained, asset)
        assert set(shown) == stems
        assert {stem: each.metadata["dagster/row_count"].value for stem, each in shown.items()} == dict.fromkeys(
            stems, 10 if asset == "campaign_request" else 50
        )
    for check in violations.CHECKS:
        assert checked(trained, check) == dict.fromkeys(stems, True)
        assert evaluations(trained, check) == [(None, "SUCCEEDED")]
    lake = trained.definitions.resources["installation"].lake(trained.environment("lorem"))
    assert lake.scan("responses").collect().group_by("campaign_id").len()["len"].to_list() == [50] * 4
    assert isinstance(trained.tick("lorem_requests"), dg.SkipReason)


def test_a_campaign_gives_the_same_bytes_in_a_burst_and_alone(trained: Scenario, sample: world.World) -> None:
    drop(trained, sample, range(2))
    assert trained.campaign(trained.asked(2)).success
    together = trained.fetch(name(0))
    (key,) = (each for each in trained.instance.get_dynamic_partitions("lorem_campaigns") if "mail_0" in each)
    assert trained.campaign(dg.RunRequest(partition_key=key)).success
    assert trained.fetch(name(0)) == together


def test_a_campaign_that_a_person_materializes_by_hand_gets_no_second_run_meanwhile(
    trained: Scenario, sample: world.World
) -> None:
    drop(trained, sample, range(1))
    campaign = trained.asked(1).partition_key
    by_hand = dg.DagsterRun(
        job_name="__ASSET_JOB", status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": str(campaign)}
    )
    trained.instance.add_run(by_hand)
    assert isinstance(trained.tick("lorem_requests"), dg.SkipReason)
    trained.instance.delete_run(by_hand.run_id)
    trained.rest()
    assert isinstance(trained.tick("lorem_requests"), dg.SensorResult)


def test_small_files_wait_while_a_run_waits_for_a_place_and_then_share_one(
    trained: Scenario, sample: world.World
) -> None:
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("recoflow"), "__repository__")
    waiting = dg.DagsterRun(
        job_name="lorem_campaign",
        status=dg.DagsterRunStatus.QUEUED,
        tags={"recoflow/size": "small"},
        remote_job_origin=RemoteJobOrigin(repository, "lorem_campaign"),
    )
    trained.instance.add_run(waiting)
    drop(trained, sample, range(3))
    trained.drop_requests({name(9): world.request(sample, lists={f"list {n}": 1 for n in range(100)})})
    assert trained.asked(4).tags["recoflow/size"] == "large"
    trained.instance.delete_run(waiting.run_id)
    assert trained.asked(4).tags["recoflow/campaigns"] == "3"


def test_what_is_wrong_with_some_is_their_own_failure_and_they_alone_are_tried_again(
    trained: Scenario, sample: world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest: Callable[..., staged.StagedLists] = build_lists.build_lists

    def faulty(
        request: Request, bundle: object, environment: object, folder: Path, *rest: object, **settings: object
    ) -> staged.StagedLists:
        if request.name == name(1):
            raise ValueError("the disk of this campaign is on fire")
        honest(request, bundle, environment, folder, *rest, **settings)
        if request.name == name(2):
            repeat_an_item(folder)
        return staged.load_staged(folder, staged.StagedLists)

    drop(trained, sample, range(5))
    monkeypatch.setattr(build_lists, "build_lists", faulty)
    result = trained.campaign(trained.asked(5))
    assert not result.success
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    told = {key.split(".")[0]: str(value.value) for key, value in failure.user_failure_data.metadata.items()}
    assert told["lorem_mail_1_2026-11-22"] == "the disk of this campaign is on fire"
    assert "no_item_repeated" in told["lorem_mail_2_2026-11-22"]
    assert len(told) == 2

    assert pending(trained) == [name(1), name(2)]
    assert set(partitions(trained, "campaign_response")) == {f"lorem_mail_{number}_2026-11-22" for number in (0, 3, 4)}
    is_unique = checked(trained, "no_item_repeated")
    assert {number: is_unique[f"lorem_mail_{number}_2026-11-22"] for number in (0, 2, 3, 4)} == {
        0: True,
        2: False,
        3: True,
        4: True,
    }
    assert evaluations(trained, "no_item_repeated") == [("lorem_mail_2_2026-11-22", "FAILED"), (None, "SUCCEEDED")]

    trained.rest()
    monkeypatch.setattr(build_lists, "build_lists", honest)
    again = trained.asked(2)
    assert again.tags["recoflow/attempt"] == "2"
    assert trained.campaign(again).success
    assert pending(trained) == []
    assert pl.Series(trained.responses()).str.ends_with("22.csv").sum() == 5


def test_a_burst_that_dies_while_it_publishes_is_finished_and_every_campaign_answered_once(
    trained: Scenario, sample: world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Mailbox.publish
    published = []

    def cut_off(self: Mailbox, claim_id: str, files: Files, **more: Any) -> State:
        if len(published) == 2:
            raise LinkLostError("the server", "is away", "Try later")
        published.append(files[-1][1])
        return honest(self, claim_id, files, **more)

    drop(trained, sample, range(5))
    monkeypatch.setattr(Mailbox, "publish", cut_off)
    assert not trained.campaign(trained.asked(5)).success
    assert pending(trained) == sorted({name(number) for number in range(5)} - set(published))
    monkeypatch.setattr(Mailbox, "publish", honest)
    trained.rest()
    assert trained.campaign(trained.asked(3)).success
    assert pending(trained) == []
    assert [each for each in trained.responses() if each.endswith("22.csv")] == [name(number) for number in range(5)]
    lake = trained.definitions.resources["installation"].lake(trained.environment("lorem"))
    assert lake.scan("responses").collect().group_by("campaign_id").len()["len"].to_list() == [50] * 5


@pytest.mark.fault("H7")
def test_after_five_failures_of_its_own_a_request_is_given_up_with_an_errors_file_and_an_alert(
    trained: Scenario, sample: world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_lists, "build_lists", lambda *_, **__: (_ for _ in ()).throw(ValueError("secret")))
    drop(trained, sample, range(1))
    for attempt, pause in enumerate((10, 20, 40, 80, 160), start=1):
        request = trained.asked(1)
        assert request.tags["recoflow/attempt"] == str(attempt)
        assert not trained.campaign(request).success
        assert [seconds <= pause for seconds in trained.pauses()] == [True]
        trained.rest()
    assert trained.alerts() == []
    assert isinstance(trained.tick("lorem_requests"), dg.SkipReason)
    errors = f"{name(0)}.errors.csv"
    assert trained.responses() == [errors]
    excuse = "The request could not be answered because of an unexpected problem. The operator was informed. "
    assert (
        trained.fetch(errors) == f"line,column,code,message\n,,not_answered,{excuse}Send the file again to try again.\n"
    )
    (alert,) = trained.alerts()
    assert alert == (
        f"lorem: request file {name(0)}: was given up and answered with an errors file: secret. "
        f"Mend the cause, then `recoflow campaign retry {name(0)} -e lorem`"
    )
    assert isinstance(trained.tick("lorem_requests"), dg.SkipReason)
    assert len(trained.alerts()) == 1


@pytest.mark.fault("H7")
def test_a_given_up_request_that_is_uploaded_again_is_answered(
    trained: Scenario, sample: world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = build_lists.build_lists
    monkeypatch.setattr(build_lists, "build_lists", lambda *_, **__: (_ for _ in ()).throw(ValueError("never")))
    drop(trained, sample, range(1))
    for _ in range(5):
        assert not trained.campaign(trained.asked(1)).success
        trained.rest()
    assert isinstance(trained.tick("lorem_requests"), dg.SkipReason)
    monkeypatch.setattr(build_lists, "build_lists", honest)
    drop(trained, sample, range(1))
    assert trained.campaign(trained.asked(1)).success
    assert trained.responses() == [name(0), f"{name(0)}.manifest.json"]


def test_a_large_file_does_not_hold_up_small_ones(
    trained: Scenario, sample: world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(trained, sample, range(2))
    trained.drop_requests({name(9): world.request(sample, lists={f"list {n}": 1 for n in range(100)})})
    with trained.definitions.resources["installation"].mailbox(trained.environment("lorem")) as mailbox:
        while len(mailbox.pending("requests")) < 3:
            mailbox.poll("requests")
    second, first = sorted(trained.run_requests("lorem_requests"), key=lambda each: each.job_name)
    assert (first.job_name, second.job_name) == ("lorem_campaign_batch", "lorem_campaign")
    assert second.tags["recoflow/size"] == "large"
    assert trained.campaign(first).success
    assert trained.responses()[:1] == [name(0)]
    assert pending(trained) == [name(9)]
