"""What `recoflow doctor` finds, and what `--repair` does about it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from recoflow import cli
from recoflow.operations import doctor
from recoflow.operations.finding import Fault
from recoflow.sandbox import feeder
from recoflow.storage.sftp.account import Account
from recoflow.storage.sftp.ledger import Ledger
from recoflow.storage.sftp.mailbox import Mailbox
from recoflow.storage.spool import SpoolWriter
from recoflow_tests.operations.conftest import NOW, House

OLD = time.time() - 2 * 86_400


def examine(house: House, *, is_repairing: bool = False) -> list[Fault]:
    return doctor.examine_installation(house.layout, house.home, NOW, is_repairing=is_repairing)


def only(house: House) -> Fault:
    (finding,) = examine(house)
    return finding


def test_a_sound_installation_has_no_findings_and_a_look_changes_nothing(house: House) -> None:
    before = sorted(path for path in house.layout.root.rglob("*"))
    assert examine(house) == []
    assert sorted(path for path in house.layout.root.rglob("*")) == before


@pytest.mark.fault("M17")
def test_a_damaged_table_is_found_by_its_file(house: House) -> None:
    file = Path(house.lake.files("events")[0])
    file.write_bytes(file.read_bytes()[:-10])
    found = only(house)
    assert (found.area, found.environment, found.where) == ("lake", "lorem", str(file))
    assert "recoflow restore" in found.cure


@pytest.mark.fault("M17")
def test_a_footer_that_was_overwritten_is_found(house: House) -> None:
    file = Path(house.lake.files("events")[0])
    content = file.read_bytes()
    file.write_bytes(content[:-300] + b"\xff" * 300)
    assert only(house).where == str(file)


@pytest.mark.fault("M17")
def test_a_champion_that_was_altered_is_found(house: House) -> None:
    models = house.layout.models("lorem")
    models.mkdir(parents=True)
    (models / "champion.json").write_text('{"version": "20260301T000000000000Z", "before": [], "is_pinned": false}')
    assert only(house).area == "models"


@pytest.mark.fault("M17")
def test_claims_that_the_ledger_does_not_know_are_found_and_taken_up(house: House) -> None:
    account, folder = Account.of(house.environment, house.layout), house.layout.mailbox("lorem")
    request = house.home / "lorem_2026-03-01.csv"
    request.write_text("user_id\nann\n")
    with feeder.connect(house.layout.sftp, "lorem", account.port) as customer:
        feeder.drop(customer, request, request.name)
    with Ledger(folder / "ledger.sqlite") as ledger, Mailbox(account, ledger, folder / "inbox") as mailbox:
        while not mailbox.poll():
            time.sleep(0.05)
    folder.rename(house.home / "lost")
    found = only(house)
    assert (found.area, found.where) == ("sftp", "claims/: requests/lorem_2026-03-01.csv")
    assert not folder.exists()
    assert [each.is_repaired for each in examine(house, is_repairing=True)] == [True]
    assert examine(house) == []
    with Ledger(folder / "ledger.sqlite") as ledger, Mailbox(account, ledger, folder / "inbox") as mailbox:
        mailbox.resume()
        assert [intake.name for intake in mailbox.pending()] == ["lorem_2026-03-01.csv"]


def test_files_that_nothing_takes_are_found(house: House) -> None:
    account = Account.of(house.environment, house.layout)
    with feeder.connect(house.layout.sftp, "lorem", account.port) as customer:
        customer.open("requests/begun.csv.part", "w").close()
        customer.utime("requests/begun.csv.part", (OLD, OLD))
    inbox = house.layout.inbox("lorem")
    (inbox / "2026").mkdir(parents=True)
    (inbox / "ingested").mkdir()
    os.mkfifo(inbox / "pipe")
    where = {finding.where for finding in examine(house)}
    assert where == {"requests/begun.csv.part", str(inbox / "2026"), str(inbox / "pipe")}


def test_a_segment_of_a_dead_gateway_is_found_and_sealed_and_one_of_a_living_is_not(house: House) -> None:
    folder = house.layout.spool("lorem")
    living = SpoolWriter(folder, "events", 1 << 20)
    living.append([b"{}\n"], NOW)
    dead = "from datetime import *; from pathlib import *; from recoflow.storage.spool import SpoolWriter; import os\n"
    dead += f"SpoolWriter(Path({str(folder)!r}), 'items', 1 << 20).append([b'{{}}\\n'], datetime.now(UTC)); os._exit(9)"
    subprocess.run([sys.executable, "-c", dead], check=False)
    found = only(house)
    assert "items-" in found.where
    assert [each.is_repaired for each in examine(house, is_repairing=True)] == [True]
    assert examine(house) == []
    assert [path.suffix for path in sorted(folder.iterdir())] == [".open", ".jsonl"]
    living.seal()


def test_what_a_killed_process_left_is_found_and_removed(house: House) -> None:
    campaigns = house.layout.campaigns("lorem") / "key"
    campaigns.mkdir(parents=True)
    for name, age in ((".docket.json.abc.tmp", OLD), (".docket.json.def.tmp", time.time())):
        (campaigns / name).write_text("{")
        os.utime(campaigns / name, (age, age))
    assert only(house).where == str(campaigns / ".docket.json.abc.tmp")
    examine(house, is_repairing=True)
    assert [path.name for path in campaigns.iterdir()] == [".docket.json.def.tmp"]


def test_rights_that_are_too_wide_are_found(house: House) -> None:
    house.layout.root.chmod(0o777)
    key = house.layout.sftp / "keys" / "feeder_lorem"  # the customer's: with its own, recoflow refuses to log in
    key.chmod(0o644)
    assert {(found.where, found.cure) for found in examine(house)} == {
        (str(house.layout.root), f"chmod o-w {house.layout.root}"),
        (str(key), f"chmod 600 {key}"),
    }


@pytest.mark.fault("C1", "C2")
def test_runs_without_a_process_and_their_slots_are_found_and_freed(house: House) -> None:
    dead, over = str(uuid.uuid4()), str(uuid.uuid4())
    with instance(house) as opened:
        for run_id, status in ((dead, dg.DagsterRunStatus.STARTED), (over, dg.DagsterRunStatus.FAILURE)):
            tags = {"recoflow/worker": "999999999-1"}
            opened.add_run(dg.DagsterRun(job_name="lorem_ingest", run_id=run_id, status=status, tags=tags))
        for pool, run_id in (("lorem_ingest", dead), ("training", over)):
            opened.event_log_storage.set_concurrency_slots(pool, 1)
            opened.event_log_storage.claim_concurrency_slot(pool, run_id, "step")
    assert [each.where for each in examine(house)] == [f"run {dead} (lorem_ingest)", "pool training"]
    repaired = examine(house, is_repairing=True)
    assert {each.is_repaired for each in repaired} == {True}
    assert examine(house) == []
    with instance(house) as opened:
        run = opened.get_run_by_id(dead)
        assert run is not None
        assert run.status is dg.DagsterRunStatus.FAILURE
        storage = opened.event_log_storage
        assert [storage.get_concurrency_info(pool).claimed_slots for pool in ("lorem_ingest", "training")] == [[], []]


def test_the_command_is_0_when_all_is_well_1_when_something_is_wrong_and_2_when_it_cannot_look(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(house.home))
    asked = ["doctor", "--data", str(house.layout.root), "--json"]
    well = CliRunner().invoke(cli.app, asked)
    assert (well.exit_code, json.loads(well.output)) == (0, {"is_healthy": True, "findings": []})
    (house.layout.inbox("lorem") / "folder").mkdir(parents=True)
    ill = CliRunner().invoke(cli.app, asked)
    assert (ill.exit_code, json.loads(ill.output)["is_healthy"]) == (1, False)
    assert "is a folder" in CliRunner().invoke(cli.app, asked[:-1]).output
    (house.layout.environments / "lorem.yaml").write_text("name: [")
    command = [sys.executable, "-m", "recoflow.cli", *asked]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2


def instance(house: House) -> dg.DagsterInstance:
    os.environ["DAGSTER_HOME"] = str(house.home)
    before = Path.cwd()
    os.chdir(house.home)
    try:
        return dg.DagsterInstance.from_config(str(house.home))
    finally:
        os.chdir(before)
        del os.environ["DAGSTER_HOME"]
