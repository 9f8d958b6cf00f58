"""What an installation costs that has nothing to do: `recoflow up` on a new one, after it has settled.

    python -m benchmarks.idle [--poll 30] [--settle 60] [--seconds 120]

The share of one core is that of the whole process tree (SFTP server, gateway, code server, daemon, UI), children that
ended included, from /proc; so this runs on Linux only. `--poll` is `schedules.poll_seconds` of the one environment.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
ENVIRONMENT = Path("data/environments/lorem.yaml")
TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def running(poll_seconds: int) -> Iterator[int]:
    """The process id of `recoflow up` on a new installation with the sample environment."""
    with tempfile.TemporaryDirectory(prefix="recoflow-idle-") as folder:
        root = Path(folder)
        for name in ("workspace.yaml", "dagster.yaml"):
            shutil.copy(REPOSITORY / name, root)
        settings = yaml.safe_load((REPOSITORY / ENVIRONMENT).read_text(encoding="utf-8"))
        settings["schedules"]["poll_seconds"] = poll_seconds
        (root / ENVIRONMENT).parent.mkdir(parents=True)
        (root / ENVIRONMENT).write_text(yaml.safe_dump(settings), encoding="utf-8")
        command = (sys.executable, "-m", "recoflow.cli", "up", "--data", "data")
        process = subprocess.Popen(command, cwd=root, stdout=sys.stderr)
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def used(root: int) -> dict[str, float]:
    """Processor seconds so far of a process and its descendants, by what they run."""
    parents, seconds, names = {}, {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat, command = (entry / "stat").read_text(), (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        fields = stat.rpartition(")")[2].split()
        process = int(entry.name)
        parents[process] = int(fields[1])
        seconds[process] = sum(map(int, fields[11:15])) / TICKS  # its own, and of children that were waited for
        names[process] = _name(command.decode(errors="replace").split("\0"))
    totals: dict[str, float] = {}
    for process, own in seconds.items():
        above = process
        while above != root and above in parents:
            above = parents[above]
        if above == root:
            totals[names[process]] = totals.get(names[process], 0.0) + own
    return totals


def _name(arguments: list[str]) -> str:
    words = [word for word in map(os.path.basename, arguments) if word and not word.startswith(("python", "-"))]
    return " ".join(words[:2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poll", type=int, default=30)
    parser.add_argument("--settle", type=float, default=60.0, help="seconds before measuring")
    parser.add_argument("--seconds", type=float, default=120.0, help="seconds of measuring")
    flags = parser.parse_args()
    with running(flags.poll) as process:
        time.sleep(flags.settle)
        before, begin = used(process), time.monotonic()
        time.sleep(flags.seconds)
        after, passed = used(process), time.monotonic() - begin
    shares = {name: 100 * (seconds - before.get(name, 0.0)) / passed for name, seconds in after.items()}
    for name, share in sorted(shares.items(), key=lambda each: -each[1]):
        print(f"{name:<40} {share:6.2f} % of one core")
    total = sum(shares.values())
    rounded = {name: round(share, 2) for name, share in shares.items()}
    print(json.dumps({"benchmark": "idle", "poll_seconds": flags.poll, "percent": round(total, 2), "of": rounded}))


if __name__ == "__main__":
    main()
