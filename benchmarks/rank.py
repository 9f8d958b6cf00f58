"""Ranking against its limits: seconds for all users' lists, beside the bare matrix product and implicit's recommend().

World M (see `world_m`) and, with --gowalla, factors trained on real interactions. Peers run on a sample of the users,
scaled to all of them; recoflow ranks all users and prepares the items anew each time. Runs are interleaved, medians are
reported. Other load on the machine hurts the product most, since BLAS threads wait for each other: measure when quiet.

    python -m benchmarks.rank [--quick] [--users N] [--items N] [--gowalla interactions.parquet] [--peers NAMES]

--peers rectools,lenskit adds those that have environments of their own (see `peers`, `rank_peers`); they run once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from benchmarks import peers
from benchmarks.world_m import World, add_flags, from_flags, load, train
from recoflow.ranking.top_k import prepare, top_k

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 4000


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def product(users: np.ndarray, items: np.ndarray) -> None:
    """The bare float32 product on all cores, into one buffer."""
    out = np.empty((BATCH, len(items)), np.float32)
    for start in range(0, len(users), BATCH):
        part = users[start : start + BATCH]
        np.matmul(part, items.T, out=out[: len(part)])


def implicit_model(users: np.ndarray, items: np.ndarray) -> AlternatingLeastSquares:
    with warnings.catch_warnings(action="ignore"):  # implicit checks BLAS threads, which only matter for training
        model = AlternatingLeastSquares(factors=users.shape[1])
    model.user_factors, model.item_factors = users, items
    return model


def recommend(model: AlternatingLeastSquares, rows: np.ndarray, matrix: sp.csr_matrix, k: int) -> None:
    """implicit at its best: batches of 4,000 users, one BLAS thread for each of its own threads."""
    with threadpool_limits(1, "blas"):
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            model.recommend(part, matrix[part], N=k, filter_already_liked_items=True)


def share_scanned(users: np.ndarray, items: np.ndarray, matrix: sp.csr_matrix, k: int) -> float:
    """The share of scores that the bound cannot spare: items at least as long as the k-th score asks for."""
    index = prepare(items, users)
    rows = np.arange(0, len(users), max(1, len(users) // 1000))
    _, scores = top_k(users[rows], index, k, **consumed(matrix[rows]))
    norms = np.maximum(np.linalg.norm(users[rows] @ index.to_balanced, axis=1), 1e-30)
    return float(np.searchsorted(-index.norms, -scores[:, -1] / norms, side="right").mean() / len(items))


def consumed(matrix: sp.csr_matrix) -> dict[str, np.ndarray]:
    return {"seen_indptr": matrix.indptr.astype(np.int64), "seen_indices": matrix.indices.astype(np.int32)}


def measure(
    name: str, matrix: sp.csr_matrix, users: np.ndarray, items: np.ndarray, flags: argparse.Namespace
) -> list[dict[str, object]]:
    """One row for each k."""
    model, seen = implicit_model(users, items), consumed(matrix)
    rows = np.linspace(0, len(users) - 1, min(len(users), flags.peer_users)).astype(np.int32)
    scale = len(users) / len(rows)
    sample = users[rows]
    table = []
    for k in (10, 100):
        first = seconds(lambda k=k: top_k(users[:BATCH], items, k))
        runs: dict[str, list[float]] = {"gemm": [], "recoflow": [], "implicit": []}
        for _ in range(flags.repeats):
            runs["gemm"].append(scale * seconds(lambda: product(sample, items)))
            runs["recoflow"].append(seconds(lambda k=k: top_k(users, items, k, **seen)))
            runs["implicit"].append(scale * seconds(lambda k=k: recommend(model, rows, matrix, k)))
        gemm, ours, theirs = (statistics.median(runs[way]) for way in ("gemm", "recoflow", "implicit"))
        table.append(
            {
                "world": name,
                "k": k,
                "gemm_s": round(gemm, 3),
                "recoflow_s": round(ours, 3),
                "implicit_s": round(theirs, 3),
                "recoflow_per_gemm": round(ours / gemm, 3),
                "implicit_per_recoflow": round(theirs / ours, 2),
                "share_scanned": round(share_scanned(users, items, matrix, k), 4),
                "warm_up_s": round(first, 2),
            }
            | {
                column: value
                for peer in flags.peers
                for column, value in of_peer(peer, matrix, users, items, k, flags.peer_users, ours).items()
            }
        )
    return table


def of_peer(  # noqa: PLR0917 - what is ranked, and what it is held against
    peer: str, matrix: sp.csr_matrix, users: np.ndarray, items: np.ndarray, k: int, most: int, ours: float
) -> dict[str, object]:
    """Its seconds for all users, and how many times ours they are; nothing where it cannot be installed."""
    with tempfile.TemporaryDirectory(prefix="recoflow-") as folder:
        np.save(Path(folder) / "users.npy", users)
        np.save(Path(folder) / "items.npy", items)
        sp.save_npz(Path(folder) / "interactions.npz", matrix, compressed=False)
        found = peers.measured(peer, "benchmarks.rank_peers", peer, folder, most, k)
    if found is None:
        return {}
    last, _ = top_k(users[-1:], items, k, **consumed(matrix[-1:]))
    assert len(np.intersect1d(last, found["last"])) > 0.9 * k, (last, found["last"])
    seconds = found["seconds"] * len(users) / min(len(users), most)
    return {f"{peer}_s": round(seconds, 2), f"{peer}_per_recoflow": round(seconds / ours, 1)}


def gowalla(path: Path, factors: int, alpha: float) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    frame = pl.read_parquet(path).filter(pl.col("split") == "train")
    ones = np.ones(len(frame), np.float32)
    matrix = sp.csr_matrix((ones, (frame["user"].to_numpy(), frame["item"].to_numpy())))
    return matrix, *train(matrix, factors, alpha)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser)
    parser.add_argument("--quick", action="store_true", help="a tenth of the world, one run of each")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer-users", type=int, default=20_000, help="users that the peers rank, scaled to all")
    parser.add_argument("--gowalla", type=Path, help="interactions.parquet with user, item, split")
    parser.add_argument("--peers", type=lambda names: names.split(","), default=[], help="e.g. rectools,lenskit")
    flags = parser.parse_args()
    if flags.quick:
        flags.users, flags.items, flags.interactions = 20_000, 10_000, 1_000_000
        flags.repeats, flags.peer_users = 1, 4000
    world = from_flags(flags)
    table = measure("M" if world == World() else "small", *load(world), flags)
    if flags.gowalla:
        for factors, alpha in ((64, 10.0), (256, 40.0)):
            table += measure(f"gowalla f={factors}", *gowalla(flags.gowalla, factors, alpha), flags)
    print("  ".join(f"{column:>21}" for column in table[0]))
    for row in table:
        print("  ".join(f"{value!s:>21}" for value in row.values()))
    print(json.dumps({"benchmark": "rank", "rows": table}))


if __name__ == "__main__":
    main()
