"""Odd files in the local inbox: one concerns itself only, and nothing is read that was not given to us."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from recoflow.errors import MailboxError, SourceError
from recoflow.formats import files
from recoflow.ingest.run import ingest_file
from recoflow.server import processes
from recoflow.settings.environment import load_environment
from recoflow.storage import alerts, atomic_files, regular_files
from recoflow.storage.spool import SpoolWriter
from recoflow_tests import scenario
from recoflow_tests.privileges import ordinary
from recoflow_tests.scenario import Scenario

EVENT = {
    "event_type": "page_visit",
    "user_id": "ann",
    "page_type": "home",
    "channel": "www-desktop",
    "timestamp": 1_770_000_000_000,
}
SECRET = "root:$6$secret:19000:0:99999:7:::"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def parsed(path: Path) -> object:
    environment = load_environment(scenario.REPOSITORY / "data/environments/lorem.yaml")
    return list(files.read_events(path, environment, NOW))


def line(event_id: str) -> str:
    return json.dumps(EVENT | {"event_id": event_id}) + "\n"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Scenario]:
    with scenario.installed(tmp_path / "data", "lorem") as installed:
        installed.layout.inbox("lorem").mkdir(parents=True)
        yield installed


@pytest.fixture
def inbox(made: Scenario) -> Path:
    return made.layout.inbox("lorem")


def rested(path: Path) -> None:
    os.utime(path, (1, 1))


def event_ids(made: Scenario) -> list[str]:
    lake = made.definitions.resources["installation"].lake(made.environment("lorem"))
    return sorted(lake.scan("events").collect()["event_id"])


def alerted(made: Scenario) -> list[str]:
    return [str(alert) for alert, _ in alerts.read_alerts(made.layout.alerts)]


def put_everywhere(made: Scenario) -> None:
    """An event by HTTP, one by SFTP and one in a local file that is in order."""
    spool = SpoolWriter(made.layout.spool("lorem"), "events", 1 << 20)
    spool.append([line("http").encode()], NOW)
    spool.seal()
    dump = made.layout.root / "lorem_events.jsonl"
    dump.write_text(line("sftp"))
    with made.customer() as sftp:
        sftp.put(str(dump), "periodic/lorem_events.jsonl")
    fine = made.layout.inbox("lorem") / "fine_events.jsonl"
    fine.write_text(line("local"))
    rested(fine)


def ingest(made: Scenario) -> dg.ExecuteInProcessResult:
    made.run_requests("lorem_files")
    return made.run("lorem_ingest")


@pytest.mark.fault("H6")
def test_a_name_that_is_no_text_is_taken_in_like_any_other(made: Scenario, inbox: Path) -> None:
    put_everywhere(made)
    odd = Path(os.fsdecode(os.fsencode(inbox) + b"/caf\xe9_events.jsonl"))
    odd.write_text(line("latin"))
    rested(odd)
    assert ingest(made).success
    assert event_ids(made) == ["http", "latin", "local", "sftp"]
    assert b"caf\xe9_events.jsonl" in {os.fsencode(path.name) for path in (inbox / "ingested").iterdir()}


@pytest.mark.fault("H6")
def test_a_file_that_may_not_be_read_keeps_nothing_out_and_is_taken_in_once_it_may(made: Scenario, inbox: Path) -> None:
    put_everywhere(made)
    closed = inbox / "closed_events.jsonl"
    closed.write_text(line("closed"))
    rested(closed)
    closed.chmod(0)
    with ordinary():
        for _ in range(3):
            made.tick("lorem_files")
        assert ingest(made).success
        answer = made.tick("lorem_files")
    assert event_ids(made) == ["http", "local", "sftp"]
    assert isinstance(answer, dg.SkipReason)  # no run for a file that none could take
    (alert,) = alerted(made)
    assert str(closed) in alert
    assert "cannot be read: Permission denied" in alert
    closed.chmod(0o600)
    with ordinary():
        assert ingest(made).success
    assert event_ids(made) == ["closed", "http", "local", "sftp"]


@pytest.mark.fault("H6")
def test_an_inbox_that_may_not_be_read_keeps_the_other_ways_in_open(made: Scenario, inbox: Path) -> None:
    put_everywhere(made)
    inbox.chmod(0)
    with ordinary():
        assert ingest(made).success
    inbox.chmod(0o700)
    assert event_ids(made) == ["http", "sftp"]
    assert str(inbox) in alerted(made)[0]


@pytest.mark.fault("H6")
def test_local_files_do_not_wait_for_an_sftp_server_that_is_away(made: Scenario, inbox: Path) -> None:
    made.layout.sftp_port.write_text(str(processes.free_port(0)))
    for _ in range(2):
        with pytest.raises(MailboxError):
            made.tick("lorem_files")
    fine = inbox / "fine_events.jsonl"
    fine.write_text(line("local"))
    rested(fine)
    assert isinstance(made.tick("lorem_files"), dg.RunRequest)
    assert made.run("lorem_ingest").success
    assert event_ids(made) == ["local"]
    (alert,) = alerted(made)  # one, though the server was away at each tick
    assert "127.0.0.1" in alert
    made.layout.sftp_port.write_text(str(made.port))
    assert isinstance(made.tick("lorem_files"), dg.SkipReason)


@pytest.mark.fault("H6")
def test_a_file_that_cannot_be_moved_away_is_told_and_keeps_nothing_out(made: Scenario, inbox: Path) -> None:
    put_everywhere(made)
    (inbox / "ingested").write_text("in the way")
    assert ingest(made).success
    assert isinstance(made.tick("lorem_files"), dg.SkipReason)  # a pause, not a run at each tick
    assert event_ids(made) == ["http", "local", "sftp"]
    assert "fine_events.jsonl: cannot be moved to ingested/" in " ".join(alerted(made))
    (inbox / "ingested").unlink(missing_ok=True)
    assert made.run("lorem_ingest").success
    assert [path.name for path in (inbox / "ingested").iterdir()] == ["fine_events.jsonl"]
    assert event_ids(made) == ["http", "local", "sftp"]


@pytest.mark.fault("H6")
def test_a_segment_that_cannot_be_read_is_told_stays_and_keeps_nothing_out(made: Scenario) -> None:
    put_everywhere(made)
    (segment,) = made.layout.spool("lorem").iterdir()
    segment.chmod(0)
    with ordinary():
        assert ingest(made).success
    assert event_ids(made) == ["local", "sftp"]
    assert segment.name in alerted(made)[0]
    segment.chmod(0o600)
    assert made.run("lorem_ingest").success
    assert event_ids(made) == ["http", "local", "sftp"]


@pytest.mark.fault("H6")
@pytest.mark.parametrize("kind", ["pipe", "link", "dangling", "hard link"])
@pytest.mark.fault("M16")
def test_what_is_no_file_of_its_own_is_told_and_never_read(made: Scenario, inbox: Path, kind: str) -> None:
    put_everywhere(made)
    secret = made.layout.root / "shadow"
    secret.write_text(f"{SECRET}\n" * 3)
    rested(secret)
    odd = inbox / "p_events.jsonl"
    if kind == "pipe":
        os.mkfifo(odd)
    elif kind == "hard link":
        odd.hardlink_to(secret)
    else:
        odd.symlink_to(secret if kind == "link" else "/nowhere")
    assert ingest(made).success
    assert event_ids(made) == ["http", "local", "sftp"]
    assert str(odd) in " ".join(alerted(made))
    assert os.path.lexists(odd)
    lake = made.definitions.resources["installation"].lake(made.environment("lorem"))
    assert lake.scan("quarantine").collect().height == 0
    assert secret.read_text() == f"{SECRET}\n" * 3


@pytest.mark.fault("M16")
@pytest.mark.parametrize("name", ["p_events.jsonl", "lorem_forget_p.csv"])
def test_a_link_that_takes_the_place_of_a_file_behind_the_look_is_not_told_about(
    made: Scenario, inbox: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = made.layout.root / "shadow"
    secret.write_text(f"{SECRET}\n" * 3)
    odd = inbox / name
    odd.write_text(line("honest"))
    rested(odd)

    swap = threading.RLock()  # the file is read by one thread and hashed by another

    def swapping(opens: Callable[..., object]) -> Callable[..., object]:
        def opened(path: str | Path, *given: object, **named: object) -> object:
            if Path(path) != odd:
                return opens(path, *given, **named)
            with swap:
                if odd.is_symlink():  # this thread's own
                    return opens(path, *given, **named)
                odd.replace(inbox / ".aside")
                odd.symlink_to(secret)
                try:
                    return opens(path, *given, **named)
                finally:
                    (inbox / ".aside").replace(odd)

        return opened

    time.sleep(0.02)  # a tick of the file system's clock
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", swapping(Path.open))
        patched.setattr(regular_files, "opener", swapping(regular_files.opener))
        result = made.run("lorem_ingest")
    told = "".join(str(event) for event in result.all_events)
    assert "root:$6$" not in told
    lake = made.definitions.resources["installation"].lake(made.environment("lorem"))
    assert lake.scan("quarantine").collect().height == 0
    assert odd.read_text() == line("honest")


@pytest.mark.fault("L4")
def test_a_time_of_change_in_the_future_delays_a_file_by_the_quiet_time_only(made: Scenario, inbox: Path) -> None:
    path = inbox / "future_events.jsonl"
    path.write_text(line("early"))
    ahead = time.time() + 10 * 365 * 86_400
    os.utime(path, (ahead, ahead))
    assert isinstance(made.tick("lorem_files"), dg.SkipReason)  # seen once
    with path.open("a") as file:
        file.write(line("late"))
    os.utime(path, (ahead, ahead))
    assert isinstance(made.tick("lorem_files"), dg.SkipReason)  # it grew
    assert ingest(made).success
    assert event_ids(made) == ["early", "late"]


@pytest.mark.fault("L18")
@pytest.mark.parametrize("how", ["grown", "replaced"])
def test_what_is_written_between_the_last_look_and_the_move_is_taken_in_by_the_next_run(
    made: Scenario, inbox: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = inbox / "growing_events.jsonl"
    path.write_text(line("early"))
    rested(path)

    def ingest_and_add(*given: object, **named: object) -> object:
        report = ingest_file(*given, **named)
        if how == "grown":
            with path.open("a") as file:
                file.write(line("late"))
        else:
            other = inbox / "other.part"
            other.write_text(line("late"))
            other.replace(path)
        return report

    with monkeypatch.context() as patched:
        patched.setattr("recoflow.defs.events.ingest_file", ingest_and_add)
        assert made.run("lorem_ingest").success
    assert path.exists()
    rested(path)
    assert made.run("lorem_ingest").success
    assert event_ids(made) == ["early", "late"]
    assert not path.exists()


def test_times_of_change_of_the_past_are_believed(made: Scenario, inbox: Path) -> None:
    path = inbox / "old_events.jsonl"
    path.write_text(line("old"))
    before = (datetime.now(UTC) - timedelta(days=400)).timestamp()
    os.utime(path, (before, before))
    assert ingest(made).success
    assert event_ids(made) == ["old"]


@pytest.mark.fault("H6", "M15")
def test_a_request_to_forget_that_cannot_be_carried_out_keeps_nothing_out_and_waits(
    made: Scenario, inbox: Path
) -> None:
    put_everywhere(made)
    request = inbox / "lorem_forget_p.csv"
    request.write_text("user_id,device_id\nbob,\n")
    rested(request)
    damaged = made.layout.models("lorem") / "20260101T000000Z-aaaaaaaa" / "manifest.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    assert ingest(made).success
    assert event_ids(made) == ["http", "local", "sftp"]
    (alert,) = alerted(made)
    assert str(damaged.parent) in alert
    assert isinstance(made.tick("lorem_files"), dg.SkipReason)  # a pause, not a run at each tick
    assert request.exists()
    shutil.rmtree(damaged.parent)
    assert made.run("lorem_ingest").success
    assert not request.exists()


@pytest.mark.fault("M16")
@pytest.mark.parametrize("reads", [atomic_files.sha256, parsed])
def test_a_pipe_that_took_the_place_of_a_file_is_not_waited_for(
    tmp_path: Path, reads: Callable[[Path], object]
) -> None:
    pipe = tmp_path / "swapped_events.jsonl"
    os.mkfifo(pipe)
    problems: list[str] = []

    def read() -> None:
        try:
            reads(pipe)
        except (OSError, SourceError) as error:
            problems.append(str(error))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(20)
    assert len(problems) == 1
    assert "is not a regular file" in problems[0]
