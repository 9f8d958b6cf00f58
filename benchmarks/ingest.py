"""Whole ingest of one large file per format, beside polars reading the same file untyped and unchecked.

    python -m benchmarks.ingest [--events 5000000] [--repeats 3] [--formats froomle.csv …] [--quick]

recoflow's time is everything from the file's name to the last commit: its SHA-256, framing, every rule of the format,
content hashes, deduplication, Parquet files and the Delta commits of a new lake in a temporary folder. The peer fills a
polars frame and nothing more: JSON lines with its own inference, CSV as texts; Metarank with a given loose schema,
because its inference finds none that fits all kinds of events. Each measurement has a process of its own, so that
loading of compiled code and first touch of memory count; the two alternate and medians are reported. CPU seconds are
there because other load on the machine does not change them much.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks import event_files
from recoflow.ingest.run import FileReport, ingest_file
from recoflow.settings import environment
from recoflow.storage.lake.lake import Lake

CONFIGURATION = Path(__file__).parents[1] / "data" / "environments" / "lorem.yaml"
RECEIVED_AT = datetime(2026, 11, 22, tzinfo=UTC)
GOAL = 2.5  # times polars' own time

FIELDS = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))
LOOSE = {
    "event": pl.String,
    "id": pl.String,
    "timestamp": pl.String,
    "user": pl.String,
    "session": pl.String,
    "ranking": pl.String,
    "item": pl.String,
    "type": pl.String,
    "fields": FIELDS,
    "items": pl.List(pl.Struct({"id": pl.String, "fields": FIELDS})),
}


def ingest(path: Path, folder: Path) -> FileReport:
    """Ingest into a new lake in `folder`."""
    return ingest_file(path, environment.load_environment(CONFIGURATION), Lake(folder), RECEIVED_AT)


def read(path: Path, _folder: Path) -> pl.DataFrame:
    """The peer."""
    if path.suffix == ".csv":
        return pl.read_csv(path, infer_schema=False)
    if path.name.startswith("metarank"):
        return pl.read_ndjson(path, schema=LOOSE)
    return pl.read_ndjson(path)


WAYS = {"recoflow": ingest, "polars": read}


def measure(way: str, path: Path) -> dict[str, float]:
    """One measurement, up to the result and without its removal; runs in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="recoflow-ingest-") as folder:
        cpu, begin = time.process_time(), time.perf_counter()
        found = WAYS[way](path, Path(folder))
        seconds = {"seconds": time.perf_counter() - begin, "cpu_s": time.process_time() - cpu}
    accepted = found.counts.accepted if isinstance(found, FileReport) else found.height
    return {**seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "accepted": accepted}


def compare(path: Path, repeats: int) -> dict[str, dict[str, float]]:
    """Medians of each way, alternating."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as processes:
        for _ in range(repeats):
            for way, results in found.items():
                results.append(processes.submit(measure, way, path).result())
    return {
        way: {key: statistics.median(result[key] for result in results) for key in results[0]}
        for way, results in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--formats", nargs="+", choices=event_files.FORMATS, default=list(event_files.FORMATS))
    parser.add_argument("--cache", type=Path, default=event_files.CACHE)
    parser.add_argument("--quick", action="store_true", help="100,000 events, once")
    options = parser.parse_args()
    events, repeats = (100_000, 1) if options.quick else (options.events, options.repeats)
    result: dict[str, object] = {"events": events, "repeats": repeats, "goal": GOAL}
    table = Table("", "million events/s", "s", "CPU s", "polars s", "polars CPU s", "ratio", "CPU ratio", "peak MB")
    for name in options.formats:
        path = event_files.load(name, events, options.cache)
        own, peer = compare(path, repeats).values()
        if own["accepted"] != events:
            raise SystemExit(f"{name}: {own['accepted']:,.0f} of {events:,} events were accepted")
        summary = {
            "events_per_s": events / own["seconds"],
            "ratio": own["seconds"] / peer["seconds"],
            "cpu_ratio": own["cpu_s"] / peer["cpu_s"],
            "bytes": path.stat().st_size,
            "recoflow": own,
            "polars": peer,
        }
        result[name] = summary
        times = [own["seconds"], own["cpu_s"], peer["seconds"], peer["cpu_s"], summary["ratio"], summary["cpu_ratio"]]
        title = event_files.FORMATS[name][0]
        table.add_row(
            title, f"{summary['events_per_s'] / 1e6:.2f}", *(f"{t:.2f}" for t in times), f"{own['peak_mb']:,.0f}"
        )
    Console(width=120).print(table)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
