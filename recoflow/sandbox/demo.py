"""`make demo`: the main job on the sample world, from events to a response file that a customer's client fetched.

Nothing here calls an asset: files go in over SFTP, the daemon's sensors do the rest, and the UI is asked what happened.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from paramiko import SFTPClient
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from recoflow.sandbox import feeder, world
from recoflow.server import processes
from recoflow.server.dagster_ui import Run
from recoflow.server.stack import Stack, up
from recoflow.storage.paths import Paths

STEP_SECONDS = 240.0
SHOWN_ROWS = 10
DAYS_PER_FILE = 10


def run_demo(root: Path, layout: Paths, console: Console) -> None:
    """Run the main job to its end and show what came of it.

    Raises:
        ServiceError: when a service stops, a run fails, or a step takes longer than four minutes.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as publisher:
        written = publisher.submit(_write_world, Path(folder))  # while the services start
        with up(root, layout, console.print) as stack, _progress(console) as progress:
            sample = written.result()
            _ingest_and_train(stack, Path(folder), progress)
            name, response = _answer(stack, sample, progress)
            progress.stop()
            _show(stack, name, response, console)
    console.print(f"The main job took {time.monotonic() - started:.0f} s. [bold]make up[/bold] keeps it running.")


def last_full_hour() -> datetime:
    """When the sample world ends unless told otherwise."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def _progress(console: Console) -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _write_world(folder: Path) -> world.World:
    sample = world.generate(end=last_full_hour())
    world.write_world(sample, folder, days_per_file=DAYS_PER_FILE)
    return sample


def _ingest_and_train(stack: Stack, folder: Path, progress: Progress) -> None:
    files = sorted(folder.iterdir())
    task = progress.add_task(f"A publisher drops {len(files)} event and item files over SFTP", total=len(files))
    with _customer(stack) as sftp:
        for file in files:
            feeder.drop(sftp, file, folder="periodic")
            progress.advance(task)
    for job, what in (("ingest", "Sensor → events → interactions"), ("training", "Training, checks, promotion")):
        task = progress.add_task(what, total=1)
        _await_run(stack, job)
        progress.advance(task)


def _answer(stack: Stack, sample: world.World, progress: Progress) -> tuple[str, str]:
    """The name and the text of the response to a request for every reader."""
    name = f"{world.ENVIRONMENT}_weekly_mail_{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}.csv"
    task = progress.add_task(f"Campaign {name}", total=2)
    with tempfile.TemporaryDirectory() as folder:
        request, response = Path(folder) / "request.csv", Path(folder) / "response.csv"
        request.write_text(world.request(sample), encoding="utf-8", newline="\n")
        with _customer(stack) as sftp:  # an upload is claimed when its session ends
            feeder.drop(sftp, request, name)
        progress.advance(task)
        with _customer(stack) as sftp:
            _await(stack, "campaign", f"the response {name}", lambda _: name in feeder.responses(sftp))
            feeder.collect(sftp, name, response)
        progress.advance(task)
        return name, response.read_text(encoding="utf-8")


def _show(stack: Stack, name: str, text: str, console: Console) -> None:
    lines = text.splitlines()
    console.print(f"responses/{name}, fetched over SFTP: {len(lines) - 1:,} rows")
    for line in lines[: SHOWN_ROWS + 1]:
        console.print(line, style="cyan", highlight=False, markup=False, soft_wrap=True)
    campaign = _await_run(stack, "campaign")
    console.print(f"The run's page: {stack.ui.run_page(campaign)} ({campaign.seconds:.1f} s, {campaign.status})")


def _await_run(stack: Stack, job: str) -> Run:
    """The newest successful run of a job of the sample environment, awaited when there is none yet."""
    runs = _await(stack, job, f"a successful run of {job}", lambda runs: any(map(_has_succeeded, runs)))
    return next(filter(_has_succeeded, runs))


def _has_succeeded(run: Run) -> bool:
    return run.status == "SUCCESS"


def _await(stack: Stack, job: str, what: str, condition: Callable[[list[Run]], bool]) -> list[Run]:
    """The runs of `job`, newest first, when `condition` holds of them; a failed run is an error at once."""
    runs: list[Run] = []

    def holds() -> bool:
        runs[:] = stack.ui.runs(f"{world.ENVIRONMENT}_{job}")
        if runs and runs[0].status in ("FAILURE", "CANCELED"):
            page = stack.ui.run_page(runs[0])
            raise processes.ServiceError(f"run {runs[0].run_id} of {job}", "failed", f"Run `make up` and open {page}")
        return condition(runs)

    processes.await_true(holds, stack.services, STEP_SECONDS, what, pause=0.5)
    return runs


def _customer(stack: Stack) -> AbstractContextManager[SFTPClient]:
    assert stack.sftp_port is not None, "the sample environment uses the embedded server"
    return feeder.connect(stack.layout.sftp, world.ENVIRONMENT, stack.sftp_port)
