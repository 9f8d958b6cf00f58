"""The main job through real sensors, real SFTP and real Dagster runs."""

import csv
import io
import json
import os
from pathlib import Path

import dagster as dg
import pytest

from recoflow import schema
from recoflow.ingest import pending_files
from recoflow.sandbox import feeder, world
from recoflow.storage.sftp.mailbox import Mailbox
from recoflow_tests import scenario
from recoflow_tests.scenario import Scenario, materializations

NAME = "lorem_weekly_mail_2026-11-22T06:00:00Z.csv"
COLUMNS = [*schema.RESPONSE_COLUMNS, "url", "rank"]
VISIT = {"event_type": "page_visit", "user_id": "u1", "page_type": "home", "timestamp": "2026-11-20T10:00:00Z"}


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_dropped_files_are_ingested_with_every_event_accounted_for(
    tmp_path: Path, sample: world.World, sample_files: Path
) -> None:
    with scenario.installed(tmp_path / "data", "lorem") as made:
        results = made.ingest_and_train(sample_files)
        shown = materializations(results["ingest"])
        expected, items = sample.expected, sample.items.height
        assert shown["events"]["read"] == expected.read + items
        assert shown["events"]["accepted"] == expected.accepted + items
        assert shown["events"]["quarantined"] == expected.quarantined == shown["quarantine"]["dagster/row_count"]
        assert shown["events"]["duplicates"] == expected.duplicates
        assert shown["items"]["dagster/row_count"] == items
        assert materializations(results["training"])["champion"]["model_version"]
        with made.customer() as sftp:
            assert sftp.listdir("periodic") == []
        skipped = made.tick("lorem_files")
        assert isinstance(skipped, dg.SkipReason)


def test_a_request_on_sftp_becomes_the_response_beside_it(trained: Scenario, sample: world.World) -> None:
    users = [*sample.users[:40], "somebody-new"]
    trained.drop_request(world.request(sample, users), NAME)
    (request,) = trained.run_requests("lorem_requests")
    result = trained.campaign(request)
    assert result.success
    text = trained.fetch(NAME)
    assert text.splitlines()[0] == ",".join(f'"{column}"' for column in COLUMNS)
    rows = rows_of(text)
    lists = {(row["user_id"], row["list_name"]) for row in rows}
    assert len(lists) == len(users) * len(world.LISTS)
    assert [row["rank"] for row in rows[:5]] == ["1", "2", "3", "4", "5"]
    assert {row["user_group"] for row in rows if row["user_id"] == "somebody-new"} == {"fallback"}
    assert "recoflow" in {row["user_group"] for row in rows}
    manifest = json.loads(trained.fetch(f"{NAME}.manifest.json"))
    assert manifest["rows"] == len(rows)
    assert manifest["campaign_id"] == rows[0]["campaign_id"]
    with trained.customer() as sftp:
        assert sftp.listdir("requests") == []


def test_a_campaign_links_to_its_model_and_shows_a_preview(trained: Scenario, sample: world.World) -> None:
    trained.drop_request(world.request(sample, sample.users[:5]), NAME)
    (request,) = trained.run_requests("lorem_requests")
    shown = materializations(trained.campaign(request))
    version = shown["campaign_recommendations"]["model_version"]
    assert (trained.layout.models("lorem") / str(version)).is_dir()
    assert shown["campaign_recommendations"]["champion"] == dg.AssetKey(["lorem", "champion"])
    assert "article-" in str(shown["campaign_recommendations"]["preview"])
    assert shown["campaign_response"]["dagster/row_count"] == 50
    published = trained.definitions.resources["installation"].lake(trained.environment("lorem")).scan("responses")
    assert published.collect().height == 50


def test_a_published_campaign_is_not_answered_again(trained: Scenario, sample: world.World) -> None:
    trained.drop_request(world.request(sample, sample.users[:5]), NAME)
    (request,) = trained.run_requests("lorem_requests")
    assert trained.campaign(request).success
    assert isinstance(trained.tick("lorem_requests"), dg.SkipReason)


def test_requests_wait_for_the_first_model(tmp_path: Path, sample: world.World) -> None:
    with scenario.installed(tmp_path / "data", "lorem") as made:
        made.drop_request(world.request(sample, sample.users[:5]), NAME)
        for _ in range(3):
            answer = made.tick("lorem_requests")
        assert isinstance(answer, dg.SkipReason)
        assert "wait for the first model" in str(answer.skip_message)


def test_a_refused_request_is_answered_with_its_errors_only(trained: Scenario) -> None:
    trained.drop_request('"environment","user_id"\n"lorem","u"\n', NAME)
    (request,) = trained.run_requests("lorem_requests")
    assert trained.campaign(request).success
    assert sorted(trained.responses()) == [
        f"{NAME}.errors.csv",
        f"{NAME}.manifest.json",
    ]
    (error,) = rows_of(trained.fetch(f"{NAME}.errors.csv"))
    assert error["code"] == "missing_column"


def test_two_environments_side_by_side_keep_to_themselves(
    tmp_path: Path, sample: world.World, sample_files: Path, trained_data: Path
) -> None:
    with scenario.installed(tmp_path / "data", "lorem", "ipsum", template=trained_data) as made:
        metarank = made.layout.root / "clicks"
        metarank.mkdir()
        events = [
            {"event": "interaction", "id": f"{user}-{item}", "timestamp": 1_790_000_000_000 + 1000 * user + item}
            | {"user": f"u{user}", "type": "click", "item": f"i{(user * item) % 40}"}
            for user in range(60)
            for item in range(1, 9)
        ]
        (metarank / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        results = made.ingest_and_train(metarank, "ipsum")
        assert materializations(results["ingest"])["events"]["accepted"] == len(events)
        made.drop_request(world.request(sample, sample.users[:3]), NAME)
        request = world.request(sample, ["u1", "u2"]).replace('"lorem"', '"ipsum"')
        made.drop_request(request, NAME.replace("lorem", "ipsum"), "ipsum")
        for account in ("lorem", "ipsum"):
            (asked,) = made.run_requests(f"{account}_requests")
            assert made.campaign(asked, account).success
        items = {row["item_id"][0] for row in rows_of(made.fetch(NAME.replace("lorem", "ipsum"), "ipsum"))}
        assert items == {"i"}
        assert NAME in made.responses("lorem")
        assert NAME not in made.responses("ipsum")


def test_a_dump_that_cannot_be_read_is_answered_and_keeps_nobody_out(trained: Scenario) -> None:
    broken = trained.layout.root / "lorem_events_2026-11-22.jsonl.gz"
    broken.write_bytes(b"\x1f\x8b\x08 this is no gzip")
    sound = trained.layout.root / "lorem_events_2026-11-23.jsonl"
    sound.write_text(json.dumps(VISIT) + "\n")
    with trained.customer() as sftp:
        for path in (broken, sound):
            feeder.drop(sftp, path, folder="one_time")
    (request,) = trained.run_requests("lorem_files")
    result = trained.run("lorem_ingest", request)
    assert result.success
    assert "files_readable" in scenario.failed_checks(result)
    assert materializations(result)["events"]["accepted"] == 1
    assert trained.responses() == ["one_time.lorem_events_2026-11-22.jsonl.gz.errors.csv"]


def test_an_ingest_that_fails_is_not_started_again_at_once(trained: Scenario) -> None:
    drop = trained.layout.inbox("lorem")
    drop.mkdir(parents=True)
    (drop / "lorem_events_2026-11-22.jsonl").write_text(json.dumps(VISIT) + "\n")
    (request,) = trained.run_requests("lorem_files")
    (trained.layout.lake("lorem") / "events" / "_delta_log").rename(trained.layout.root / "gone")
    (trained.layout.lake("lorem") / "events" / "_delta_log").write_text("not a folder")
    assert not trained.run("lorem_ingest", request).success
    skipped = trained.tick("lorem_files")
    assert isinstance(skipped, dg.SkipReason)
    assert "the last ingest failed" in str(skipped.skip_message)
    assert [path.name for path in drop.iterdir()] == ["lorem_events_2026-11-22.jsonl"]


def test_a_crash_between_commit_and_removal_counts_every_event_once(
    tmp_path: Path, sample: world.World, sample_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = pending_files.PendingFile.done

    def cut_off(self: pending_files.PendingFile, mailbox: Mailbox) -> None:
        monkeypatch.setattr(pending_files.PendingFile, "done", honest)
        raise RuntimeError("power cut")

    with scenario.installed(tmp_path / "data", "lorem") as made:
        with made.customer() as sftp:
            for file in sorted(sample_files.iterdir()):
                feeder.drop(sftp, file, folder="periodic")
        (request,) = made.run_requests("lorem_files")
        monkeypatch.setattr(pending_files.PendingFile, "done", cut_off)
        assert not made.run("lorem_ingest", request).success
        shown = materializations(made.run("lorem_ingest", request))
        assert shown["events"]["dagster/row_count"] == sample.expected.accepted
        assert shown["events"]["accepted"] == sample.expected.accepted + sample.items.height
        assert shown["quarantine"]["dagster/row_count"] == sample.expected.quarantined
        assert isinstance(made.tick("lorem_files"), dg.SkipReason)


def test_retention_sweeps_the_account_and_forgets_nothing_that_is_needed(
    trained: Scenario, sample: world.World
) -> None:
    trained.drop_request(world.request(sample, sample.users[:5]), NAME)
    (request,) = trained.run_requests("lorem_requests")
    assert trained.campaign(request).success
    strange = trained.layout.campaigns("lorem") / "a copy"
    strange.mkdir()
    os.utime(strange, (0, 0))
    assert trained.run("lorem_retention").success
    assert NAME in trained.responses()
    assert (trained.layout.campaigns("lorem") / str(request.partition_key)).is_dir()
    assert strange.is_dir()


@pytest.mark.parametrize("asset", ["events", "quarantine", "items", "interactions", "readiness"])
def test_an_asset_can_be_materialized_alone(trained: Scenario, asset: str) -> None:
    result = trained.run("lorem_ingest", asset_selection=[dg.AssetKey(["lorem", asset])])
    assert result.success
    assert set(materializations(result)) == {asset}
