"""Sustained events/s and latency of the Events API, with kill -9 in the middle and every acknowledged event looked up.

    python -m benchmarks.gateway [--seconds 20] [--batch 500] [--connections 8]

The gateway and the load generator are processes of their own. In the middle the gateway is killed and started again;
the generator repeats what was not acknowledged. At the end the spool is ingested and the lake is held against the log
of acknowledgements. The peer is uvicorn with an application that reads the body and answers: no parsing, no disk.
"""

from __future__ import annotations

import argparse
import http.client
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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from recoflow.ingest import pending_files
from recoflow.ingest.run import ingest_file
from recoflow.server.processes import free_port
from recoflow.settings import environment
from recoflow.storage.lake.lake import Lake
from recoflow.storage.paths import Paths

CONFIGURATION = Path(__file__).parents[1] / "data" / "environments" / "lorem.yaml"


@contextmanager
def started(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", *command])
    try:
        await_health(port)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def await_health(port: int) -> None:
    for _ in range(600):
        if answers(port):
            return
        time.sleep(0.05)
    raise TimeoutError(f"nothing answers on port {port}")


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().read() is not None
    except OSError:
        return False
    finally:
        connection.close()


def load(port: int, options: argparse.Namespace, seconds: float, log: Path) -> subprocess.Popen[bytes]:
    """Start the generator and wait until it sends."""
    arguments = [port, options.batch, options.connections, seconds, log]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.gateway_load", *map(str, arguments)])
    while not log.exists() and process.poll() is None:
        time.sleep(0.01)
    return process


def acknowledged(log: Path) -> pl.DataFrame:
    columns = {"tag": pl.String, "begin": pl.Float64, "end": pl.Float64}
    return pl.read_csv(log, has_header=False, schema=columns)


def measure(log: pl.DataFrame, batch: int) -> dict[str, float]:
    """Rate and latency of the requests, the first half second left out as the warm-up."""
    steady = log.filter(pl.col("begin") > log["begin"].min() + 0.5)
    latency = (steady["end"] - steady["begin"]).to_numpy() * 1000
    span = steady["end"].max() - steady["begin"].min()
    return {
        "events_per_s": steady.height * batch / span,
        "p50_ms": float(np.quantile(latency, 0.5)),
        "p99_ms": float(np.quantile(latency, 0.99)),
    }


def run_peer(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    port = free_port(0)
    log = folder / "peer.csv"
    uvicorn = [
        "uvicorn",
        "benchmarks.gateway_load:bare",
        "--port",
        str(port),
        "--log-level",
        "error",
        "--no-access-log",
    ]
    with started(uvicorn, port):
        load(port, options, max(2.0, options.seconds / 4), log).wait()
    return measure(acknowledged(log), options.batch)


def run_gateway(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    layout = Paths(folder)
    layout.environments.mkdir()
    shutil.copy(CONFIGURATION, layout.environments)
    port = free_port(0)
    log = folder / "gateway.csv"
    command = ["recoflow.cli", "gateway", "--data", str(folder), "--port", str(port)]
    with started(command, port) as first:
        generator = load(port, options, options.seconds, log)
        time.sleep(options.seconds / 2)
        killed_at, cpu = time.time(), cpu_seconds(first.pid)
        first.send_signal(signal.SIGKILL)
        first.wait()
    with started(command, port):
        back_at = time.time()
        generator.wait()
    found = acknowledged(log)
    finished = found.filter(pl.col("end") < killed_at)
    before = measure(finished, options.batch) | {"cpu_us_per_event": cpu / finished.height / options.batch * 1e6}
    return {**before, "restart_s": back_at - killed_at, **look_up(layout, found, options.batch)}


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, its start included; says more than the rate on a busy machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def look_up(layout: Paths, log: pl.DataFrame, batch: int) -> dict[str, Any]:
    """Ingest the spool and count each acknowledged event in the lake."""
    lorem = environment.load_environment(layout.environments / "lorem.yaml")
    lake = Lake(layout.lake("lorem"))
    begin = time.perf_counter()
    for arrival in pending_files.segments(layout.spool("lorem")):
        ingest_file(arrival.path, lorem, lake, datetime.now(UTC), name=arrival.name, dialect=arrival.dialect)
    seconds = time.perf_counter() - begin
    stored = lake.scan("events").select(
        tag=pl.col("event_id").str.slice(0, 8), event_id=pl.col("event_id"), count=pl.lit(1)
    )
    rows = stored.group_by("tag").agg(pl.len(), pl.col("event_id").n_unique().alias("distinct")).collect()
    joined = log.join(rows, on="tag", how="left")
    wrong = joined.filter((pl.col("len") != batch) | (pl.col("distinct") != batch) | pl.col("len").is_null())
    return {
        "acknowledged": log.height * batch,
        "missing_or_doubled_requests": wrong.height,
        "quarantined": lake.scan("quarantine").select(pl.len()).collect().item(),
        "ingest_events_per_s": rows["len"].sum() / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--connections", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recoflow-gateway-") as name:
        (Path(name) / "data").mkdir()
        peer = run_peer(options, Path(name))
        found = run_gateway(options, Path(name) / "data")
    result = {**found, "peer_events_per_s": peer["events_per_s"], "peer_p99_ms": peer["p99_ms"]}
    result["ratio_to_peer"] = found["events_per_s"] / peer["events_per_s"]
    table = Table(
        "", "gateway", "bare uvicorn", title=f"{options.connections} connections, {options.batch} events each"
    )
    for key in ("events_per_s", "p50_ms", "p99_ms"):
        table.add_row(key, f"{found[key]:,.1f}", f"{peer[key]:,.1f}")
    table.add_row("CPU µs per event", f"{found['cpu_us_per_event']:.2f}", "")
    Console().print(table)
    print(f"acknowledged {found['acknowledged']:,}, wrong requests {found['missing_or_doubled_requests']}")
    print(json.dumps({key: round(value, 3) for key, value in result.items()}))
    if found["missing_or_doubled_requests"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
