"""A backup of an installation at work, put back elsewhere: the same request is answered with the same bytes."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from recoflow.definitions import build_definitions
from recoflow.operations import backup, restore
from recoflow.sandbox import keys, sftp_server, world
from recoflow.storage.paths import Paths
from recoflow.storage.spool import SpoolWriter
from recoflow_tests import scenario
from recoflow_tests.scenario import Scenario

NAME = "lorem_mail_2026-03-01.csv"


@contextmanager
def opened(root: Path) -> Iterator[Scenario]:
    """An installation whose data folder is there."""
    layout = Paths(root)
    accounts = keys.prepare(layout.sftp, ("lorem",))
    with sftp_server.serve(layout.sftp, accounts, 0) as server, dg.instance_for_test() as instance:
        layout.sftp_port.write_text(str(server.port))
        yield Scenario(layout, build_definitions(root), instance, server.port)


@pytest.mark.fault("M17")
def test_a_restored_installation_answers_the_same_request_with_the_same_bytes(
    trained: Scenario, sample: world.World, tmp_path: Path
) -> None:
    shutil.copy(scenario.REPOSITORY / "dagster.yaml", tmp_path)
    trained.drop_request(world.request(sample), NAME)
    (asked,) = trained.run_requests("lorem_requests")
    spool = SpoolWriter(trained.layout.spool("lorem"), "events", 1 << 20)
    now = datetime.now(UTC)
    event = {"event_type": "page_visit", "user_id": "somebody-new", "page_type": "home", "channel": "www-desktop"}
    spool.append([json.dumps(event | {"event_id": "late", "timestamp": now.isoformat()}).encode() + b"\n"], now)
    spool.seal()

    copying = threading.Thread(target=backup.back_up, args=(trained.layout, tmp_path, tmp_path / "backup", now))
    copying.start()
    assert trained.run("lorem_ingest").success
    copying.join()
    assert trained.campaign(asked).success
    expected = trained.fetch(NAME)

    (tmp_path / "elsewhere").mkdir()
    shutil.copy(scenario.REPOSITORY / "dagster.yaml", tmp_path / "elsewhere")
    layout = Paths(tmp_path / "elsewhere" / "data")
    restore.restore_backup(tmp_path / "backup", layout, tmp_path / "elsewhere")
    with opened(layout.root) as again:
        assert restore.reconcile(layout, again.environment("lorem")) == 0
        assert again.run("lorem_ingest").success
        (asked,) = again.run_requests("lorem_requests")
        assert again.campaign(asked).success
        assert again.fetch(NAME) == expected
        lake = again.definitions.resources["installation"].lake(again.environment("lorem"))
        assert lake.scan("events").collect()["event_id"].to_list().count("late") == 1
