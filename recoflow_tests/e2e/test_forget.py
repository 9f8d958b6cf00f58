"""A person is forgotten by a file on SFTP and by the command, after campaigns, gateway and training have known it."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import polars as pl
from typer.testing import CliRunner

from recoflow.cli import app
from recoflow.models import versions
from recoflow.privacy import search
from recoflow.privacy.person import Person
from recoflow.sandbox import feeder, world
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
    return search.search(folders, Person(frozenset({user}), frozenset()))[1]


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
    champion = versions.champion(trained.layout.models("lorem"))
    assert champion is not None
    assert f"u:{user}" not in champion.subjects
    assert isinstance(trained.tick("lorem_files"), dg.SkipReason)
    again = CliRunner().invoke(
        app, ["forget", "-e", "lorem", "--user-id", user, "--data", str(trained.layout.root), "--json"]
    )
    assert again.exit_code == 0
    assert {each["count"] for each in json.loads(again.stdout)["removed"]} == {0}


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
