"""What the sensors of an environment ask for, tick by tick, with a real account and instance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from recoflow import schema
from recoflow.storage.spool import SpoolWriter
from recoflow_tests.scenario import Scenario, installed

EVENT = {"event_type": "page_visit", "user_id": "ann", "page_type": "home", "timestamp": 1_770_000_000_000}
ROW = "environment,user_id,list_name,list_size,page_type\nlorem,ann,Top,2,home\n"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Scenario]:
    with installed(tmp_path, "lorem") as scenario:
        yield scenario


def skipped(made: Scenario, sensor: str) -> str:
    answer = made.tick(f"lorem_{sensor}")
    assert isinstance(answer, dg.SkipReason), answer
    return str(answer.skip_message)


def with_sealed_events(made: Scenario) -> None:
    writer = SpoolWriter(made.layout.spool("lorem"), "events", 10**6)
    writer.append([json.dumps(EVENT).encode() + b"\n"], datetime(2026, 11, 22, tzinfo=UTC))
    writer.seal()


def run(made: Scenario, job: str, status: dg.DagsterRunStatus) -> dg.DagsterRun:
    added = made.instance.add_run(dg.DagsterRun(job_name=f"lorem_{job}", status=dg.DagsterRunStatus.STARTED))
    if status is dg.DagsterRunStatus.FAILURE:
        made.instance.report_run_failed(added)
    return added


def broken(made: Scenario) -> None:
    (made.layout.environments / "other.yaml").write_text("name: [")


def test_without_new_files_no_ingest_is_asked_for(made: Scenario) -> None:
    assert skipped(made, "files") == "no new file"
    assert skipped(made, "spool") == "nothing came over the network"


def test_a_sealed_segment_starts_an_ingest(made: Scenario) -> None:
    with_sealed_events(made)
    answer = made.tick("lorem_spool")
    assert isinstance(answer, dg.RunRequest)
    assert answer.tags["recoflow/segments"] == "1"


def test_a_file_in_the_local_inbox_starts_an_ingest(made: Scenario) -> None:
    inbox = made.layout.inbox("lorem")
    inbox.mkdir(parents=True)
    (inbox / "lorem_events_a.jsonl").write_text(json.dumps(EVENT) + "\n")
    (request,) = made.run_requests("lorem_files")
    assert request.tags["recoflow/files"] == "1"


def test_while_an_ingest_runs_no_other_is_started(made: Scenario) -> None:
    with_sealed_events(made)
    run(made, "ingest", dg.DagsterRunStatus.STARTED)
    assert "an ingest is running" in skipped(made, "spool")


def test_after_an_ingest_that_failed_the_next_one_waits_and_a_person_is_alerted_when_it_starts(made: Scenario) -> None:
    with_sealed_events(made)
    run(made, "ingest", dg.DagsterRunStatus.FAILURE)
    assert "(1 in a row); the next one begins 15 s after it" in skipped(made, "spool")
    assert made.alerts() == []


def test_no_run_starts_while_the_file_of_any_environment_is_wrong(made: Scenario) -> None:
    with_sealed_events(made)
    broken(made)
    assert "no run starts until this is mended" in skipped(made, "spool")


def test_a_first_training_waits_for_interactions(made: Scenario) -> None:
    assert skipped(made, "first_training") == "there are no interactions yet"
    lake = made.definitions.resources["installation"].lake(made.environment("lorem"))
    for _ in range(2):  # version 0 has no rows
        lake.overwrite("interactions", schema.INTERACTIONS.to_frame())
    answer = made.tick("lorem_first_training")
    assert isinstance(answer, dg.RunRequest)
    assert answer.run_key == f"lorem:{lake.version('interactions')}"


def test_a_training_whose_worker_died_is_repeated_after_its_pause(made: Scenario) -> None:
    assert skipped(made, "interrupted_training") == "the latest training did not fail"
    run(made, "training", dg.DagsterRunStatus.FAILURE)
    assert "the next begins 15 s after its end" in skipped(made, "interrupted_training")


def test_a_training_that_was_canceled_waits_for_the_schedule(made: Scenario) -> None:
    made.instance.add_run(dg.DagsterRun(job_name="lorem_training", status=dg.DagsterRunStatus.CANCELED))
    assert "failed by itself or was canceled" in skipped(made, "interrupted_training")


def test_requests_wait_for_the_first_model(made: Scenario) -> None:
    assert skipped(made, "requests") == "no request file"
    made.drop_request(ROW, "lorem_mail_2026-11-22.csv")
    deadline = datetime.now(UTC) + timedelta(seconds=20)
    while (told := skipped(made, "requests")) == "no request file":
        assert datetime.now(UTC) < deadline
    assert told == "1 request files wait for the first model of lorem"
