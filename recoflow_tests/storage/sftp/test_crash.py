"""Killed at any point, the mailbox comes back: every upload is answered with its own bytes, nothing is left over."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recoflow.sandbox import feeder, keys, sftp_server
from recoflow.storage.sftp.ledger import Ledger
from recoflow_tests.faults.invariant import assert_nothing_lost
from recoflow_tests.storage.sftp.crash_worker import DEPOSITED, LATE

STEPS = [
    "depositing",
    "deposited",
    "claiming",
    "renamed",
    "claimed",
    "fetched",
    "ingested",
    "ready",
    "staged",
    "uploaded",
    "publishing",
    "moved",
    "published",
    "removed",
    "reclaiming",
]
UPLOADS = {"a.csv": b"a\n" * 1000, "b.csv": b"b\n"}
SENT = {"a.csv": [UPLOADS["a.csv"], UPLOADS["a.csv"] + LATE], "b.csv": [UPLOADS["b.csv"]], "c.csv": [DEPOSITED]}


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen accounts, the worker of each killed twice at one step, then left to finish."""
    root, work = tmp_path_factory.mktemp("sftp"), tmp_path_factory.mktemp("work")
    access = keys.prepare(root, [f"dies_at_{step}" for step in STEPS])
    with sftp_server.serve(root, access, port=0) as server:
        for account in access:
            with feeder.connect(root, account, server.port) as customer:
                for name, content in UPLOADS.items():
                    with customer.open(f"requests/{name}", "wb") as file:
                        file.write(content)
            (work / account).mkdir()
        plan = {account: [account.removeprefix("dies_at_")] * 2 for account in access}
        worker = Path(__file__).with_name("crash_worker.py")
        command = [sys.executable, str(worker), str(root), str(server.port), str(work), json.dumps(plan)]
        subprocess.run(command, check=True, timeout=120)
    (work / "sftp").symlink_to(root)
    return work


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.fault(
    "F01", "F02", "F03", "F04", "F05", "F06", "F07", "F08", "F09", "F10", "F11", "F12", "F13", "F14", "F15"
)
def test_a_worker_killed_at_any_step_leaves_work_that_the_next_one_finishes(crashed, step):
    account = f"dies_at_{step}"
    folder, files = crashed / account, crashed / "sftp" / "accounts" / account
    assert json.loads((folder / "ended").read_text()) == [signal.SIGKILL, signal.SIGKILL, 0]
    with Ledger(folder / "ledger.sqlite") as ledger:
        assert_nothing_lost(files, ledger, SENT, sides=[".side"])


@pytest.mark.parametrize("step", ["uploaded", "publishing", "moved", "published", "removed"])
def test_an_answer_that_was_rendered_is_not_rendered_again(crashed, step):
    runs = (crashed / f"dies_at_{step}" / "runs").read_text().splitlines()
    assert sorted(run.split()[0] for run in runs) == ["a.csv", "a.csv", "b.csv", "c.csv"]
