"""Faults of the installation while requests wait: one alert, no limit of attempts, and an answer after the cure."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml
from typer.testing import CliRunner

from recoflow import cli
from recoflow.defs import clock, sensors
from recoflow.models.store import versions
from recoflow.sandbox import world
from recoflow.storage.sftp.ledger import Ledger
from recoflow_tests import scenario
from recoflow_tests.scenario import Scenario, materializations

NAMES = ["lorem_mail_1_2026-11-22.csv", "lorem_mail_2_2026-11-22.csv"]


def champion(made: Scenario) -> Path:
    folder = made.layout.models("lorem")
    return folder / str(versions.champion_version(folder))


def damage(folder: Path) -> bytes:
    """Cut the factors of a bundle; what they were."""
    path = folder / "user_factors.npy"
    sound = path.read_bytes()
    path.write_bytes(sound[: len(sound) // 2])
    return sound


@pytest.mark.fault("H7", "F45")
def test_requests_wait_without_limit_for_a_damaged_champion_and_are_answered_after_the_cure(
    trained: Scenario, sample: world.World
) -> None:
    sound = damage(champion(trained))
    trained.drop_requests({name: world.request(sample, sample.users[:5]) for name in NAMES})
    for attempt in range(1, 7):
        request = trained.asked(2)
        assert request.tags["recoflow/attempt"] == str(attempt)
        assert not trained.campaign(request).success
        assert isinstance(trained.tick("lorem_requests"), dg.SkipReason)
        trained.rest()
    assert trained.responses() == []
    (alert,) = trained.alerts()
    assert alert.startswith(f"lorem: {champion(trained) / 'user_factors.npy'}: ")
    (champion(trained) / "user_factors.npy").write_bytes(sound)
    assert trained.campaign(trained.asked(2)).success
    assert [name for name in trained.responses() if name.endswith("22.csv")] == NAMES


@pytest.mark.fault("F45")
def test_the_version_that_served_before_a_damaged_champion_answers_and_an_alert_says_so(
    trained: Scenario, sample: world.World
) -> None:
    before = champion(trained)
    newer = before.with_name("99990101T000000Z-00000000")
    shutil.copytree(before, newer)
    manifest = json.loads((newer / "manifest.json").read_text())
    (newer / "manifest.json").write_text(json.dumps(manifest | {"version": newer.name}))
    versions.promote(newer.parent, newer.name)
    damage(newer)
    for name in NAMES:
        trained.drop_request(world.request(sample, sample.users[:5]), name)
        answered = trained.campaign(trained.asked(1))
        assert answered.success
        assert materializations(answered)["campaign_recommendations"]["model_version"] == before.name
    (alert,) = trained.alerts()
    assert alert.startswith(f"lorem: {newer / 'user_factors.npy'}: ")
    assert f"{before.name} serves meanwhile" in alert


@pytest.mark.fault("H7")
def test_a_run_that_was_lost_is_one_alert(trained: Scenario, sample: world.World) -> None:
    trained.drop_requests({name: world.request(sample, sample.users[:5]) for name in NAMES})
    for _ in range(3):  # the run begins, and its worker is killed
        trained.asked(2)
        with Ledger(trained.layout.mailbox("lorem") / "ledger.sqlite") as ledger, ledger.transaction() as connection:
            connection.execute("UPDATE claims SET begun = begun + 1")
        trained.rest()
    (alert,) = trained.alerts()
    assert alert.startswith("lorem: the run of request files: ended before they were answered")


@pytest.mark.fault("H7")
@pytest.mark.parametrize("by", ["name", "key"])
def test_campaign_retry_starts_a_waiting_campaign_at_once(trained: Scenario, sample: world.World, by: str) -> None:
    trained.drop_request(world.request(sample, sample.users[:5]), NAMES[0])
    key = trained.asked(1).partition_key
    assert isinstance(trained.tick("lorem_requests"), dg.SkipReason)  # its first attempt was begun, and is paused
    command = ["campaign", "retry", NAMES[0] if by == "name" else str(key), "-e", "lorem"]
    result = CliRunner().invoke(cli.app, [*command, "--data", str(trained.layout.root)])
    assert (result.exit_code, result.exception) == (0, None)
    assert result.output.replace("\n", " ") == f"{NAMES[0]} is tried again at the next look at the SFTP account. "
    (request,) = trained.run_requests("lorem_requests")
    assert request.partition_key == key


@pytest.mark.fault("H7")
def test_a_server_that_is_away_is_one_alert_however_often_it_is_looked_at(trained_data: Path, tmp_path: Path) -> None:
    with scenario.installed(tmp_path / "data", "lorem", template=trained_data) as made:
        port = made.layout.sftp_port.read_text()
        made.tick("lorem_requests")
        made.layout.sftp_port.write_text("1")
        for _ in range(3):
            for sensor in ("lorem_requests", "lorem_files"):
                with pytest.raises(Exception, match=r"127\.0\.0\.1"):
                    made.tick(sensor)
        assert len(made.alerts()) == 1
        made.layout.sftp_port.write_text(port)
        made.tick("lorem_requests")
        made.tick("lorem_files")
        made.layout.sftp_port.write_text("1")
        with pytest.raises(Exception, match=r"127\.0\.0\.1"):
            made.tick("lorem_requests")
        assert len(made.alerts()) == 2


def lost(made: Scenario, job: str) -> str:
    """A run whose worker was killed, as run monitoring leaves it."""
    run = made.instance.add_run(dg.DagsterRun(job_name=job, status=dg.DagsterRunStatus.STARTED))
    made.instance.report_run_failed(run)
    return run.run_id


@pytest.mark.fault("C1")
def test_a_training_whose_worker_was_killed_is_started_again_after_15_seconds(
    trained: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(trained.tick("lorem_interrupted_training"), dg.SkipReason)
    run_id = lost(trained, "lorem_training")
    waiting = trained.tick("lorem_interrupted_training")
    assert isinstance(waiting, dg.SkipReason)
    assert waiting.skip_message == "the latest training was interrupted; the next begins 15 s after its end"
    monkeypatch.setattr(sensors, "now", lambda: clock.now() + timedelta(seconds=16))
    again = trained.tick("lorem_interrupted_training")
    assert isinstance(again, dg.RunRequest)
    assert again.run_key == f"{run_id}:2"
    (alert,) = trained.alerts()
    assert alert.startswith(
        f"lorem: run {run_id} of lorem_training: failed: its worker ended without a report. Nothing"
    )


@pytest.mark.fault("C1")
def test_a_training_that_a_check_refused_is_not_started_again(
    trained: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trained.layout.environments / "lorem.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["training"]["models"] = {"newest": {"algorithm": "newest"}}
    path.write_text(yaml.safe_dump(settings))
    trained.reload()
    assert not trained.run("lorem_training").success
    monkeypatch.setattr(sensors, "now", lambda: clock.now() + timedelta(days=1))
    refused = trained.tick("lorem_interrupted_training")
    assert isinstance(refused, dg.SkipReason)
    assert (
        refused.skip_message == "the latest training failed by itself or was canceled; the schedule starts the next one"
    )


@pytest.mark.fault("C1")
def test_an_ingest_whose_worker_was_killed_is_followed_by_another_after_15_seconds(
    trained: Scenario, sample_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = trained.layout.inbox("lorem")
    inbox.mkdir(parents=True, exist_ok=True)
    shutil.copy(next(sample_files.glob("*events*")), inbox)
    run_id = lost(trained, "lorem_ingest")
    waiting = trained.tick("lorem_files")
    assert isinstance(waiting, dg.SkipReason)
    assert waiting.skip_message == "the last ingest failed (1 in a row); the next one begins 15 s after it"
    monkeypatch.setattr(sensors, "now", lambda: clock.now() + timedelta(seconds=16))
    assert isinstance(trained.tick("lorem_files"), dg.RunRequest)
    (alert,) = trained.alerts()
    assert alert.startswith(f"lorem: run {run_id} of lorem_ingest: failed: its worker ended without a report")
