"""A person is forgotten by a file on SFTP and by the command, after campaigns, gateway and training have known it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from recoflow.cli import app
from recoflow.erasure import compressed_files, remaining_mentions
from recoflow.erasure.subject import ErasureSubject
from recoflow.models.store import versions
from recoflow.sandbox import feeder, world
from recoflow.storage.spool import SpoolWriter
from recoflow_tests.gateway.client import Running
from recoflow_tests.scenario import Scenario, failed_checks, materializations

NAME = "lorem_weekly_mail_2026-11-22T06:00:00Z.csv"


def a_reader(made: Scenario, sample: world.World) -> str:
    """One with a device of its own and interactions."""
    lake = made.definitions.resources["installation"].lake(made.environment("lorem"))
    known = lake.scan("identity").filter(pl.col("user_id").is_in(sample.users[:40])).collect()
    return str(known["user_id"].drop_nulls().sort()[0])


def search_for(made: Scenario, user: str) -> list[Path]:
    folders = [made.layout.root / place for place in ("lake", "models", "campaigns", "mailbox", "inbox", "spool")]
    return remaining_mentions.search_mentions(folders, ErasureSubject(frozenset({user}), frozenset()))[1]


def decoded(path: Path) -> list[bytes]:
    """The bytes of a file as they are and, where it is packed, as they are inside."""
    content = path.read_bytes()
    if path.suffix == ".parquet":
        return [content, str(pl.read_parquet(path).to_dicts()).encode()]
    if path.suffix == ".npy" and (array := np.load(path)).dtype.kind == "U":
        return ["\n".join(array.tolist()).encode()]
    return [content, compressed_files.unpacked(content)]


def with_bytes(made: Scenario, identity: str) -> set[str]:
    """Every file under data/ that has the id in its bytes, but for the originals and responses on the SFTP account."""
    files = (path for path in made.layout.root.rglob("*") if path.is_file())
    kept = {"claims", "responses"}
    return {
        str(path.relative_to(made.layout.root))
        for path in files
        if not kept & {*path.parts} and any(identity.encode() in content for content in decoded(path))
    }


@contextmanager
def recorded(made: Scenario) -> Iterator[Scenario]:
    """The installation with Dagster's storage under data/, as dagster.yaml puts it."""
    made.layout.dagster.mkdir()
    with dg.instance_for_test(temp_dir=str(made.layout.dagster)) as instance:
        yield replace(made, instance=instance)


@pytest.mark.fault("M15")
def test_no_byte_under_data_has_the_person_dagster_included(trained: Scenario, sample: world.World) -> None:
    user = a_reader(trained, sample)
    logs = trained.layout.logs
    with recorded(trained) as made:
        made.drop_request(world.request(sample, sample.users[:40]), NAME)
        (request,) = made.run_requests("lorem_requests")
        assert made.campaign(request).success
        # Until version 0.9 runs showed ids in tables and logs.
        shown = dg.MetadataValue.md(f"| user_id |\n| --- |\n| {user} |")
        made.instance.report_runless_asset_event(dg.AssetMaterialization("lorem", metadata={"preview": shown}))
        logs.mkdir(exist_ok=True)
        for path in (logs / "code-server.log", trained.layout.dagster / "logs/run/compute_logs/step.err"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"refused {user} today\n")
        (trained.layout.root / "request-to-drop.csv").unlink()
        places = {Path(path).parts[0] for path in with_bytes(made, user)}
        assert places >= {"lake", "models", "campaigns", "mailbox", "dagster", "logs"}
        drop(made, "lorem_forget_2026-11-22.csv", f"user_id,device_id\n{user},\n")
        runs = len(made.instance.get_runs())

        (asked,) = made.run_requests("lorem_files")
        result = made.run("lorem_ingest", asked)

        assert result.success
        assert with_bytes(made, user) == set()
        assert len(made.instance.get_runs()) == runs + 1
        event = made.instance.get_latest_materialization_event(dg.AssetKey("lorem"))
        assert event is not None
    assert (logs / "code-server.log").read_text() == f"refused {'*' * len(user)} today\n"


@pytest.mark.fault("M15")
def test_what_runs_show_and_log_names_no_person(trained: Scenario, sample: world.World) -> None:
    with recorded(trained) as made:
        inbox = made.layout.inbox("lorem")
        inbox.mkdir(parents=True)
        odd = {"event_type": "page_visit", "user_id": "odd-person-7", "page_type": "home", "timestamp": "odd-person-7"}
        (inbox / "lorem_events_odd.jsonl").write_text(json.dumps(odd) + "\n")
        made.drop_request(world.request(sample, sample.users[:40]), NAME)
        (request,) = made.run_requests("lorem_requests")
        assert made.campaign(request).success
        (asked,) = made.run_requests("lorem_files")
        assert made.run("lorem_ingest", asked).success
        names = [*sample.users[:40], "odd-person-7"]
        history = [path.read_bytes() for path in made.layout.dagster.rglob("*") if path.is_file()]
    assert [name for name in names if any(name.encode() in content for content in history)] == []


@pytest.mark.fault("M15")
def test_an_erasure_that_could_not_be_completed_is_repeated_by_the_next_ingest(
    trained: Scenario, sample: world.World
) -> None:
    user = a_reader(trained, sample)
    late = {"event_type": "page_visit", "user_id": user, "page_type": "home", "timestamp": 1_770_000_000_000}
    writer = SpoolWriter(trained.layout.spool("lorem"), "events", 10**6)
    writer.append([json.dumps(late).encode() + b"\n"], datetime(2026, 11, 22, tzinfo=UTC))
    drop(trained, "lorem_forget_2026-11-22.csv", f"user_id\n{user}\n")
    (asked,) = trained.run_requests("lorem_files")
    result = trained.run("lorem_ingest", asked)
    assert result.success
    assert ".jsonl.open" in str(materializations(result)["events"]["forgotten"])
    assert isinstance(trained.tick("lorem_files"), dg.SkipReason)  # it does not start an ingest by itself

    writer.seal()
    (asked,) = trained.run_requests("lorem_spool")
    result = trained.run("lorem_ingest", asked)

    assert result.success
    shown = str(materializations(result)["events"]["forgotten"])
    assert "lorem_forget_2026-11-22.csv" in shown
    assert ".open" not in shown
    assert search_for(trained, user) == []
    assert list((trained.layout.inbox("lorem") / "unfinished").iterdir()) == []


def drop(made: Scenario, name: str, text: str) -> None:
    path = made.layout.root / name
    path.write_text(text)
    with made.customer() as sftp:
        feeder.drop(sftp, path, folder="one_time")
    path.unlink()


def test_a_file_on_sftp_makes_every_place_forget(trained: Scenario, sample: world.World) -> None:
    user = a_reader(trained, sample)
    trained.drop_request(world.request(sample, sample.users[:40]), NAME)
    (request,) = trained.run_requests("lorem_requests")
    assert trained.campaign(request).success
    (trained.layout.root / "request-to-drop.csv").unlink()
    places = {path.relative_to(trained.layout.root).parts[0] for path in search_for(trained, user)}
    assert places >= {"lake", "models", "campaigns", "mailbox"}
    drop(trained, "lorem_forget_2026-11-22.csv", f"user_id,device_id\n{user},\n")

    (asked,) = trained.run_requests("lorem_files")
    result = trained.run("lorem_ingest", asked)

    assert result.success
    assert "files_readable" not in failed_checks(result)
    shown = str(materializations(result)["events"]["forgotten"])
    assert "lorem_forget_2026-11-22.csv" in shown
    assert user not in shown
    assert search_for(trained, user) == []
    champion = versions.champion_bundle(trained.layout.models("lorem"))
    assert champion is not None
    assert f"u:{user}" not in champion.subjects
    assert isinstance(trained.tick("lorem_files"), dg.SkipReason)
    again = CliRunner().invoke(
        app, ["forget", "-e", "lorem", "--user-id", user, "--data", str(trained.layout.root), "--json"]
    )
    assert again.exit_code == 0
    assert {each["count"] for each in json.loads(again.stdout)["removed"]} == {0}


def test_an_erasure_between_two_assets_of_a_campaign_takes_the_person_out_of_it_and_nobody_else(
    trained: Scenario, sample: world.World
) -> None:
    user = a_reader(trained, sample)
    others = [each for each in sample.users[:40] if each != user]
    trained.drop_request(world.request(sample, sample.users[:40]), NAME)
    (request,) = trained.run_requests("lorem_requests")
    assert trained.select(request, "campaign_request").success
    (trained.layout.root / "request-to-drop.csv").unlink()
    (prepared,) = trained.layout.campaigns("lorem").glob("*/prepared")
    assert user in pl.read_parquet(prepared / "request.parquet")["user_id"].to_list()
    drop(trained, "lorem_forget_2026-11-22.csv", f"user_id,device_id\n{user},\n")
    (asked,) = trained.run_requests("lorem_files")
    assert trained.run("lorem_ingest", asked).success
    assert search_for(trained, user) == []
    assert {path.name for path in prepared.parent.iterdir()} == {"docket.json", "inputs.json"}

    for asset in ("campaign_recommendations", "campaign_response"):
        assert trained.select(request, asset).success

    response = trained.fetch(NAME)
    assert user not in response
    assert all(f'"{each}"' in response for each in others)


def test_a_request_by_the_api_is_carried_out_by_the_next_ingest_and_its_report_is_read(
    trained: Scenario, sample: world.World
) -> None:
    user = a_reader(trained, sample)
    gateway = Running(trained.layout)
    case = gateway.admin.post("/api/lorem/forget", json={"user_id": user}).json()["request_id"]
    (asked,) = trained.run_requests("lorem_files")
    assert trained.run("lorem_ingest", asked).success

    found = gateway.admin.get(f"/api/lorem/forget/{case}").json()
    assert gateway.end() == 0
    assert (found["state"], found["report"]["is_forgotten"]) == ("done", True)
    assert sum(removal["count"] for removal in found["report"]["removed"]) > 0
    assert search_for(trained, user) == []
    assert user not in json.dumps(found)
    assert isinstance(trained.tick("lorem_files"), dg.SkipReason)


def test_a_file_that_is_not_quite_a_request_forgets_nobody_and_is_told(trained: Scenario, sample: world.World) -> None:
    drop(trained, "lorem_forget_2026-11-22.csv", f"user_id,reason\n{sample.users[0]},asked\n")
    (asked,) = trained.run_requests("lorem_files")
    result = trained.run("lorem_ingest", asked)
    assert result.success
    assert "files_readable" in failed_checks(result)
    assert search_for(trained, sample.users[0])
