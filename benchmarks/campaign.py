"""A whole campaign beside its limits and its peers: request file on disk to response file on disk, with all checks.

    python -m benchmarks.campaign [--users N] [--items N] [--k 10] [--quick] [--spark] [--dagster]
                                 [--curve users|items]

A world of `world_m` is made first, once. Then each of these runs in a fresh process (see `campaign_runs`): recoflow's
campaign; ranking alone and pyarrow's writing of the same rows, which are its limits; a script around implicit's
recommend() with the same writer and no checks. --curve repeats recoflow's campaign over 10 thousand to --users users,
or to --items items. Busy machines stretch seconds: processor seconds are told beside them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Any

from benchmarks import campaign_world, peers, world_m
from benchmarks.campaign_world import Folder

GIB = 1 << 30
FIRST = 10_000  # users or items at which a curve begins
COLUMNS = ("way", "users", "items", "seconds", "cpu_seconds", "peak_gib", "us_per_list")


def run(way: str, folder: Folder, users: int, k: int) -> dict[str, Any]:
    """What a fresh process measured."""
    return peers.told([sys.executable, "-m", "benchmarks.campaign_runs", way, str(folder.root), str(users), str(k)])


def median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run of median length."""
    return sorted(runs, key=lambda each: each["seconds"])[(len(runs) - 1) // 2]


def row(way: str, users: int, items: int, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "way": way,
        "users": users,
        "items": items,
        "seconds": round(found["seconds"], 2),
        "cpu_seconds": round(found["cpu_seconds"], 2),
        "peak_gib": round(found["peak_bytes"] / GIB, 2),
        "us_per_list": round(found["seconds"] / users * 1e6, 1),
    }


def measure(flags: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of the table, and the ratios."""
    world = world_of(flags.users, flags.items, flags.factors)
    folder = campaign_world.prepare(world, flags.users, flags.k)
    ways = ["recoflow", "limits", "implicit"]
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(flags.repeats):
        for way in ways:
            runs[way].append(run(way, folder, flags.users, flags.k))
    chosen = {way: median(found) for way, found in runs.items()}
    ours, theirs = chosen["recoflow"], chosen["implicit"]
    rank, write, sync = (
        statistics.median(each["stages"][stage] for each in runs["limits"]) for stage in ("rank", "write", "sync")
    )
    for stage, seconds in ours["stages"].items():
        print(f"{stage:>20} {seconds:8.2f} s")
    ratios = {
        "rank_s": round(rank, 2),
        "bare_write_s": round(write, 2),
        "sync_s": round(sync, 2),
        "recoflow_per_rank_and_write": round(ours["seconds"] / (rank + write), 2),
        "recoflow_per_rank_write_and_sync": round(ours["seconds"] / (rank + write + sync), 2),
        "implicit_per_recoflow": round(theirs["seconds"] / ours["seconds"], 2),
        "peak_gib": round(ours["peak_bytes"] / GIB, 2),
    }
    table = [row(way, flags.users, flags.items, chosen[way]) for way in ("recoflow", "implicit")]
    if flags.spark:
        ratios |= spark(folder, flags.users, flags.k, ours["seconds"])
    if flags.dagster:
        ratios |= dagster(folder, flags.users, flags.k, ours["seconds"])
    return table, ratios


def spark(folder: Folder, users: int, k: int, ours: float) -> dict[str, Any]:
    """Its seconds, beside ours; Java's processor time and memory are not a child's to tell."""
    found = peers.measured("pyspark", "benchmarks.campaign_spark", folder.root, users, k)
    if found is None:
        return {"spark": "not measured: no Java, or pyspark cannot be installed"}
    assert found["rows"] == users * k, found
    return {"spark_s": round(found["seconds"], 2), "spark_per_recoflow": round(found["seconds"] / ours, 2)}


def dagster(folder: Folder, users: int, k: int, ours: float) -> dict[str, Any]:
    """Its seconds beside what they are made of, and whether they are within the bar."""
    from benchmarks import campaign_dagster

    found = campaign_dagster.measure(folder, users, k)
    waiting = campaign_dagster.QUIET_SECONDS + campaign_dagster.POLL_SECONDS
    bar = 1.1 * ours + 1.2 * found["put_s"] + waiting + 5
    return {
        "dagster_s": round(found["seconds"], 2),
        "put_s": round(found["put_s"], 2),
        "response_gb": round(found["bytes"] / 1e9, 2),
        "dagster_bar_s": round(bar, 2),
        "dagster_peak_gib": round(found["peak_bytes"] / GIB, 2),
        "dagster_holds": found["seconds"] <= bar and found["peak_bytes"] <= 4 * GIB,
    }


def curve(flags: argparse.Namespace) -> list[dict[str, Any]]:
    """recoflow's campaign at sizes from FIRST on, each about 3 times the one before."""
    largest = flags.users if flags.curve == "users" else flags.items
    sizes = [size for size in (FIRST, 30_000, 100_000, 300_000, 1_000_000) if size < largest] + [largest]
    table = []
    for size in sizes:
        users, items = (size, flags.items) if flags.curve == "users" else (flags.users, size)
        # A larger catalogue needs another world; fewer lists are asked of the same one.
        world = world_of(flags.users, items, flags.factors)
        folder = campaign_world.prepare(world, users, flags.k)
        table.append(row("recoflow", users, items, median([run("recoflow", folder, users, flags.k)])))
    return table


def world_of(users: int, items: int, factors: int) -> world_m.World:
    return world_m.World(users=users, items=items, interactions=20 * users, factors=factors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="20,000 users × 10,000 items")
    parser.add_argument("--curve", choices=("users", "items"))
    parser.add_argument("--spark", action="store_true")
    parser.add_argument("--dagster", action="store_true", help="through OpenSSH, the sensor and all assets, too")
    flags = parser.parse_args()
    if flags.quick:
        flags.users, flags.items = 20_000, 10_000
    table, ratios = (curve(flags), {}) if flags.curve else measure(flags)
    print("  ".join(f"{column:>12}" for column in COLUMNS))
    for each in table:
        print("  ".join(f"{each[column]!s:>12}" for column in COLUMNS))
    print(json.dumps({"benchmark": "campaign", **ratios, "rows": table}))


if __name__ == "__main__":
    main()
