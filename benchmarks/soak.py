"""A running installation under traffic while its processes are killed: is anything lost, doubled or never answered?

`recoflow up` runs on a data folder of its own. A customer posts events and drops request files; meanwhile processes
are killed with SIGKILL, of every kind, in a seeded order. `up` itself is started again when it has ended, as a service
manager would. At the end everything that was acknowledged is looked up in the lake and in responses/.

    python -m benchmarks.soak [--minutes 10] [--seed 1]

Exits with 1 unless lost, doubled and never answered are 0, the longest recovery is at most 180 s, and the traffic was
large enough: in 10 minutes 30 kills, each kind at least once, 100 requests and 10,000 events.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.soak_installation import Installation
from benchmarks.soak_kills import KINDS, Kill, Killer
from benchmarks.soak_traffic import Traffic
from recoflow.models.store import versions

LONGEST_RECOVERY = 180.0  # seconds
DRAIN = 600.0  # seconds that the installation has for what is left when the killing ends


def await_true(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.time() + seconds
    while not condition():
        if time.time() > deadline:
            return False
        time.sleep(0.5)
    return True


def recoveries(kills: list[Kill], traffic: Traffic) -> list[tuple[float, Kill]]:
    """For each kill the seconds until the work that it interrupted succeeded again; inf where it did not.

    Work that a later kill interrupted before it succeeded counts for that later kill only.
    """
    found = []
    for place, kill in enumerate(kills):
        ends = {work: traffic.first_success(work, kill.at) for work in kill.interrupts}
        own = [end for work, end in ends.items() if not is_interrupted(work, end, kills[place + 1 :])]
        if own:
            found.append((max(own) - kill.at, kill))
    return found


def is_interrupted(work: str, end: float, kills: list[Kill]) -> bool:
    """Whether one of the kills interrupts the work before `end`."""
    return any(kill.at < end and work in kill.interrupts for kill in kills)


def longest_outage(kills: list[Kill], traffic: Traffic) -> float:
    """The longest time in which some work did not succeed, through all the kills that interrupted it."""
    return max(traffic.first_success(work, kill.at) - kill.at for kill in kills for work in kill.interrupts)


def soak(root: Path, seconds: float, seed: int) -> dict[str, object]:
    installation = Installation(root)
    with installation.running():
        traffic = Traffic(installation, seed)
        traffic.teach()
        champion = installation.layout.models("lorem")
        if not await_true(lambda: versions.champion_version(champion) is not None, 300):
            raise SystemExit(f"no model after 300 s: see {installation.layout.logs}")
        with traffic.flowing():
            killer = Killer(installation, random.Random(seed), traffic.begins)
            killer.kill_until(time.time() + seconds)
            await_true(lambda: all(length < float("inf") for length, _ in recoveries(killer.kills, traffic)), 240)
        print("the killing has ended; what is left is awaited", flush=True)
        await_true(traffic.is_drained, DRAIN)
        outcome = traffic.outcome()
    longest, kill = max(recoveries(killer.kills, traffic), key=lambda pair: pair[0])
    outage = longest_outage(killer.kills, traffic)
    kinds = Counter(each.kind for each in killer.kills)
    return {
        "kills": dict(sorted(kinds.items())),
        "starts_of_up": installation.starts,
        **outcome,
        "longest_recovery_s": round(longest, 1) if longest < float("inf") else None,
        "longest_recovery_kind": kill.kind,
        "longest_outage_s": round(outage, 1) if outage < float("inf") else None,
    }


def shortcomings(found: dict[str, object], share: float) -> list[str]:
    """What the run misses; `share`: of the traffic that ten minutes must have."""
    kinds: dict[str, int] = found["kills"]  # type: ignore[assignment]
    least = {"requests": 100 * share, "events": 10_000 * share, "killed": 30 * share}
    seen = found | {"killed": sum(kinds.values())}
    return [
        *(f"{name} {found[name]}" for name in ("lost", "doubled", "never_answered") if found[name] != 0),
        *(f"only {seen[name]} {name}" for name, wanted in least.items() if float(str(seen[name])) < wanted),
        *(f"no kill of {kind}" for kind in KINDS if kind not in kinds),
        *(["too slow a recovery"] if is_too_slow(found["longest_recovery_s"]) else []),
    ]


def is_too_slow(seconds: object) -> bool:
    """None: something that was interrupted was never seen to work again."""
    return not isinstance(seconds, float) or seconds > LONGEST_RECOVERY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the folder, to look at it")
    flags = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="recoflow-soak-"))
    try:
        found = soak(folder, flags.minutes * 60, flags.seed)
    finally:
        if flags.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    wrong = shortcomings(found, flags.minutes / 10)
    print(json.dumps({"benchmark": "soak", "minutes": flags.minutes, "seed": flags.seed, **found, "wrong": wrong}))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
