"""Many request files at once on the running system: from the last upload to the last response, beside one file alone.

Everything is as in `recoflow up`: SFTP server, gateway, Dagster UI and daemon with the sample environment's settings,
on a data folder of its own that has learnt the sample world. Only SFTP is spoken: files go in, responses come out.

    python -m benchmarks.burst [--files 100] [--rows 100] [--alone 3]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from paramiko import SFTPClient

from recoflow.models.store import versions
from recoflow.sandbox import demo, feeder, world
from recoflow.server import processes
from recoflow.server.stack import Stack, up
from recoflow.storage.paths import Paths

REPOSITORY = Path(__file__).parents[1]
LONGEST = 1800.0  # on a busy machine


@contextmanager
def running(sample: world.World) -> Iterator[tuple[Stack, SFTPClient]]:
    """An installation of its own that has a model, and a customer who is logged in."""
    with tempfile.TemporaryDirectory(prefix="recoflow-burst-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        for name in ("dagster.yaml", "workspace.yaml", "data/environments/lorem.yaml"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, root / name)
        layout = Paths(root / "data")
        world.write_world(sample, root / "files", days_per_file=30)
        with up(root, layout, print) as stack, feeder.connect(layout.sftp, "lorem", stack.sftp_port or 0) as sftp:
            for file in sorted((root / "files").iterdir()):
                feeder.drop(sftp, file, folder="periodic")
            await_true(stack, lambda: versions.champion_version(layout.models("lorem")) is not None, "a model")
            yield stack, sftp


def await_true(stack: Stack, condition: Callable[[], bool], what: str) -> None:
    processes.await_true(condition, stack.services, LONGEST, what)


def answer(stack: Stack, sftp: SFTPClient, requests: dict[str, str]) -> float:
    """Upload all files; the seconds from the end of the last upload until all are answered."""
    with feeder.connect(stack.layout.sftp, "lorem", stack.sftp_port or 0) as sending:  # its end frees the uploads
        for name, text in requests.items():
            with sending.open(f"requests/{name}", "w") as file:
                file.write(text)
    begin = time.perf_counter()
    await_true(stack, lambda: requests.keys() <= set(sftp.listdir("responses")), f"{len(requests)} responses")
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--rows", type=int, default=100, help="of each file; two lists for each reader")
    parser.add_argument("--alone", type=int, default=3, help="files that are measured alone, for their median")
    flags = parser.parse_args()
    sample = world.generate(users=1000, items=500, events=40_000, end=demo.last_full_hour())

    def request(number: int) -> str:
        """Other readers in each file, in turns."""
        each = range(number * flags.rows, number * flags.rows + flags.rows, len(world.LISTS))
        return world.request(sample, [sample.users[place % len(sample.users)] for place in each])

    with running(sample) as (stack, sftp):
        alone = [
            answer(stack, sftp, {f"lorem_alone_{number}_2026-11-22.csv": request(number)})
            for number in range(flags.alone)
        ]
        print("alone:", ", ".join(f"{seconds:.1f} s" for seconds in alone))
        together = answer(
            stack, sftp, {f"lorem_burst_{number}_2026-11-22.csv": request(number) for number in range(flags.files)}
        )
    one = statistics.median(alone)
    print(f"one file of {flags.rows} rows: {one:.1f} s; {flags.files} files at once: {together:.1f} s")
    found = {"files": flags.files, "rows": flags.rows, "one_s": round(one, 2), "burst_s": round(together, 2)}
    print(json.dumps({"benchmark": "burst", **found, "ratio": round(together / one, 2)}))


if __name__ == "__main__":
    main()
