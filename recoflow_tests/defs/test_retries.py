"""Which request files need a run now, by what Dagster and the ledger know, with a real account and instance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from recoflow.defs import batch_runs, names, retries
from recoflow.storage.sftp.attempts import MOST_FAILURES
from recoflow.storage.sftp.mailbox import IncomingFile, Mailbox
from recoflow_tests.scenario import Scenario, installed

NOW = datetime(2026, 11, 22, 6, tzinfo=UTC)
ROW = "environment,user_id,list_name,list_size,page_type\nlorem,ann,Top,2,home\n"
SMALL = ("lorem_a_2026-11-22.csv", "lorem_b_2026-11-22.csv")
LARGE = "lorem_large_2026-11-22.csv"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Scenario]:
    """Two small request files and a large one, fetched and not answered."""
    with installed(tmp_path, "lorem") as scenario:
        scenario.drop_requests({name: ROW.replace("ann", name[6]) for name in SMALL} | {LARGE: ROW * 30_000})
        with mailbox(scenario) as opened:
            while len(opened.pending("requests")) < 3:
                opened.poll("requests")
        yield scenario


def mailbox(made: Scenario) -> Iterator[Mailbox]:
    return made.definitions.resources["installation"].mailbox(made.environment("lorem"))


def due(made: Scenario) -> list[IncomingFile]:
    context = dg.build_sensor_context(instance=made.instance)
    with mailbox(made) as opened:
        return retries.due_files(context, made.environment("lorem"), opened, "requests")


def due_names(made: Scenario) -> set[str]:
    return {file.name for file in due(made)}


def key(made: Scenario, name: str) -> str:
    (file,) = [file for file in due(made) if file.name == name]
    return retries.campaign_key_of(made.environment("lorem"), file)


def give_up(made: Scenario, files: Sequence[IncomingFile]) -> list[str]:
    installation, environment = made.definitions.resources["installation"], made.environment("lorem")
    with mailbox(made) as opened:
        left = retries.give_up_hopeless(installation, environment, opened, files, NOW)
    return [file.name for file in left]


def test_files_that_no_run_works_on_are_due(made: Scenario) -> None:
    assert due_names(made) == {*SMALL, LARGE}


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
def test_a_file_that_a_run_of_its_own_works_on_is_not_due(made: Scenario, status: dg.DagsterRunStatus) -> None:
    tags = {"dagster/partition": key(made, LARGE), names.SIZE_TAG: "large"}
    made.instance.add_run(dg.DagsterRun(job_name="lorem_campaign", status=status, tags=tags))
    assert due_names(made) == set(SMALL)


def test_files_of_a_running_batch_are_not_due(made: Scenario) -> None:
    config = batch_runs.run_config(made.environment("lorem"), [key(made, SMALL[0])])
    made.instance.add_run(
        dg.DagsterRun(job_name="lorem_campaign_batch", status=dg.DagsterRunStatus.STARTED, run_config=config)
    )
    assert due_names(made) == {SMALL[1], LARGE}


def test_after_its_run_has_ended_a_file_is_due_again(made: Scenario) -> None:
    tags = {"dagster/partition": key(made, LARGE)}
    made.instance.add_run(dg.DagsterRun(job_name="lorem_campaign", status=dg.DagsterRunStatus.FAILURE, tags=tags))
    assert LARGE in due_names(made)


def test_after_a_failure_a_file_rests_for_its_pause(made: Scenario) -> None:
    (file,) = [file for file in due(made) if file.name == LARGE]
    with mailbox(made) as opened:
        opened.failed(file.claim_id, "the disk is full", is_own=False)
    assert due_names(made) == set(SMALL)
    made.rest()
    assert due_names(made) == {*SMALL, LARGE}


def test_a_file_that_failed_by_its_own_fault_too_often_is_answered_with_its_errors_and_an_alert(made: Scenario) -> None:
    (file,) = [file for file in due(made) if file.name == LARGE]
    with mailbox(made) as opened:
        for _ in range(MOST_FAILURES):
            opened.failed(file.claim_id, "a row that nobody expects", is_own=True)
    made.rest()
    assert set(give_up(made, due(made))) == set(SMALL)
    assert made.responses() == [f"{LARGE}.errors.csv"]
    (alert,) = made.alerts()
    assert LARGE in alert
    assert "a row that nobody expects" in alert
    assert f"recoflow campaign retry {LARGE}" in alert
    assert due_names(made) == set(SMALL)


def test_a_lost_run_is_an_alert_once(made: Scenario) -> None:
    files = due(made)
    with mailbox(made) as opened:
        opened.begun([file.claim_id for file in files])
    for _ in range(2):
        assert set(give_up(made, due(made))) == {*SMALL, LARGE}
    (alert,) = made.alerts()
    assert "ended before they were answered" in alert


def test_deliveries_whose_campaign_a_run_works_on_are_noted_by_that_run(made: Scenario) -> None:
    files = due(made)
    (file,) = [file for file in files if file.name == LARGE]
    reference = retries.campaign_key_of(made.environment("lorem"), file)
    answer = made.layout.root / "answer.csv"
    answer.write_text("user_id\n")
    context = dg.build_sensor_context(instance=made.instance)
    with mailbox(made) as opened:
        opened.publish(file.claim_id, [(answer, LARGE)], reference=reference)
        (delivery,) = retries.unnoted_deliveries(context, made.environment("lorem"), opened)
        assert delivery.reference == reference
        tags = {"dagster/partition": reference}
        made.instance.add_run(dg.DagsterRun(job_name="lorem_campaign", status=dg.DagsterRunStatus.STARTED, tags=tags))
        assert retries.unnoted_deliveries(context, made.environment("lorem"), opened) == []
