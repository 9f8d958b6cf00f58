"""A whole training beside implicit's fit: from the table of interactions to a promoted bundle on disk.

    python -m benchmarks.train [--users N] [--items N] [--interactions N] [--factors 64] [--iterations 10] [--quick]

recoflow's training is what Dagster's asset does: split, matrix, one candidate (ALS with these settings) and the popular
baseline fitted and judged on the hold-out, the choice, the fit on everything, checks, bundle, promotion. The peer is
implicit's fit alone, on a matrix in memory, with its best thread settings and as many sweeps. Each runs in a fresh
process. World M by default (see `world_m`); the table is made first, once.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp

from benchmarks import campaign_world, world_m
from benchmarks.campaign_runs import peak_bytes
from recoflow import schema
from recoflow.models.store import bundle_store
from recoflow.settings import environment

NOW = datetime(2026, 11, 22, tzinfo=UTC)
DAYS = 30
CONFIGURATION = """\
name: bench
sftp: {{ username: bench, private_key: none, known_hosts: none }}
training:
  models:
    als:
      {{ algorithm: als, factors: {factors}, alpha: 30, regularization: 0.002, exponent: 1, iterations: {iterations} }}
"""


def prepare(world: world_m.World) -> Path:
    """The folder with INTERACTIONS and ITEMS of a world as Parquet, and its matrix for the peer."""
    folder = world_m.CACHE / f"train-{'-'.join(map(str, astuple(world)))}"
    if not folder.exists():
        building = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        matrix = world_m.interactions(world)
        sp.save_npz(building / "matrix.npz", matrix, compressed=False)
        _interactions(matrix, world.seed).write_parquet(building / "interactions.parquet")
        _items(world.items).write_parquet(building / "items.parquet")
        building.rename(folder)
    return folder


def _interactions(matrix: sp.csr_matrix, seed: int) -> pl.DataFrame:
    users, items = campaign_world.user_ids(matrix.shape[0]), campaign_world.item_ids(matrix.shape[1])
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    seconds = np.random.default_rng(seed).integers(0, DAYS * 86_400, matrix.nnz)
    at = (pl.lit(NOW) - pl.duration(seconds="seconds")).cast(schema.UTC_TIME)
    return pl.DataFrame({"seconds": seconds}).select(
        subject=("u:" + users).gather(rows),
        item_id=items.gather(matrix.indices),
        weight=pl.Series(matrix.data, dtype=pl.Float64),
        events=pl.Series(matrix.data, dtype=pl.Float64).cast(pl.Int64),
        event_types=pl.lit(schema.event_type_bits(["detail_pageview"]), pl.Int32),
        first_at=at,
        last_at=at,
    )


def _items(count: int) -> pl.DataFrame:
    return (
        pl.DataFrame({"item_id": campaign_world.item_ids(count)})
        .select(
            "item_id",
            item_type=pl.lit("article"),
            is_enabled=pl.lit(value=True),
            is_available=pl.lit(value=True),
            published_at=pl.lit(NOW - timedelta(days=DAYS)),
            updated_at=pl.lit(NOW),
            attributes=pl.lit("{}"),
        )
        .cast(schema.ITEMS)
    )


def recoflow(folder: Path, factors: int, iterations: int) -> dict[str, object]:
    from recoflow.models.store import versions
    from recoflow.models.training import pipeline

    marks: list[tuple[str, float]] = []

    def mark(step: str) -> None:
        marks.append((step, time.perf_counter()))

    with tempfile.TemporaryDirectory(prefix="recoflow-") as temporary:
        settings = Path(temporary) / "bench.yaml"
        settings.write_text(CONFIGURATION.format(factors=factors, iterations=iterations))
        mark("read tables")
        interactions = pl.read_parquet(folder / "interactions.parquet").cast(schema.INTERACTIONS)
        catalogue = pl.read_parquet(folder / "items.parquet")
        mark("split and matrix")
        training = pipeline.train_environment(
            interactions,
            catalogue,
            schema.IDENTITY.to_frame(),
            environment.load_environment(settings),
            None,
            NOW,
            {},
            on_step=mark,
        )
        assert training.bundle is not None, training.findings
        mark("save and promote")
        bundle_store.save_bundle(training.bundle, Path(temporary) / "models" / training.bundle.version)
        versions.promote(Path(temporary) / "models", training.bundle.version)
        mark("end")
    stages = {name: end - begin for (name, begin), (_, end) in pairwise(marks)}
    return {"stages": stages, "ndcg": training.metrics.filter(pl.col("model") == "als")["ndcg"][0]}


def implicit(folder: Path, factors: int, iterations: int) -> dict[str, object]:
    matrix = sp.load_npz(folder / "matrix.npz")
    begin = time.perf_counter()
    world_m.train(matrix, factors, alpha=10.0, iterations=iterations)
    return {"stages": {"fit": time.perf_counter() - begin}}


def run(way: str, folder: Path, flags: argparse.Namespace) -> dict[str, object]:
    command = [sys.executable, "-m", "benchmarks.train", "--only", way, "--folder", str(folder)]
    command += ["--factors", str(flags.factors), "--iterations", str(flags.iterations)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def only(flags: argparse.Namespace) -> None:
    """What a fresh process measures."""
    begin = time.perf_counter()
    found = {"recoflow": recoflow, "implicit": implicit}[flags.only](flags.folder, flags.factors, flags.iterations)
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = {"seconds": time.perf_counter() - begin, "cpu_seconds": used.ru_utime + used.ru_stime}
    print(json.dumps({**found, **seconds, "peak_gib": peak_bytes() / (1 << 30)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    world_m.add_flags(parser)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="10,000 users × 5,000 items × 500,000 interactions")
    parser.add_argument("--only", choices=("recoflow", "implicit"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.only:
        only(flags)
        return
    if flags.quick:
        flags.users, flags.items, flags.interactions = 10_000, 5_000, 500_000
    folder = prepare(world_m.from_flags(flags))
    runs = {way: run(way, folder, flags) for way in ("recoflow", "implicit")}
    for way, found in runs.items():
        print(
            f"{way}: {found['seconds']:.1f} s, {found['cpu_seconds']:.1f} s of processors, {found['peak_gib']:.2f} GiB"
        )
        for stage, seconds in found["stages"].items():
            print(f"    {stage:<60} {seconds:8.2f} s")
    ratio = runs["recoflow"]["seconds"] / runs["implicit"]["stages"]["fit"]
    cpu = runs["recoflow"]["cpu_seconds"] / runs["implicit"]["cpu_seconds"]
    rounded = {"recoflow_per_implicit_fit": round(ratio, 2), "processor_seconds": round(cpu, 2)}
    print(json.dumps({"benchmark": "train", **rounded, "peak_gib": round(runs["recoflow"]["peak_gib"], 2)}))


if __name__ == "__main__":
    main()
