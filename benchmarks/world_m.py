"""World M: a seeded, zipf-like world for benchmarks (200,000 users × 50,000 items × 10 million interactions, f = 64).

Items have a zipf-like popularity and belong to tastes; users have a log-normal activity and follow a few tastes,
besides what is popular everywhere. `interactions` draws them, `train` fits implicit's ALS to them; both are kept in a
folder that git ignores, because making them takes a minute.

    python -m benchmarks.world_m [--users N] [--items N] [--interactions N] [--factors N]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

CACHE = Path(__file__).resolve().parent.parent / "data" / "benchmarks"


@dataclass(frozen=True)
class World:
    """What decides a world's bytes."""

    users: int = 200_000
    items: int = 50_000
    interactions: int = 10_000_000
    factors: int = 64
    tastes: int = 300
    seed: int = 20_261_122

    @property
    def name(self) -> str:
        return "world-" + "-".join(str(value) for value in asdict(self).values())


def interactions(world: World) -> sp.csr_matrix:
    """Counts of interactions, float32 [users × items]; pairs drawn twice weigh more."""
    random = np.random.default_rng(world.seed)
    popularity = random.permutation(1.0 / (np.arange(world.items) + 20.0) ** 0.9)
    taste_of = random.integers(0, world.tastes, world.items)
    by_taste = np.argsort(taste_of, kind="stable")
    mass = np.append(0.0, np.cumsum(popularity[by_taste]))
    bounds = np.searchsorted(taste_of[by_taste], np.arange(world.tastes + 1))
    activity = random.lognormal(0.0, 1.0, world.users)
    users = np.repeat(np.arange(world.users), random.multinomial(world.interactions, activity / activity.sum())).astype(
        np.int32
    )
    followed = random.integers(0, world.tastes, (world.users, 3))
    taste = followed[users, np.minimum(random.geometric(0.5, len(users)) - 1, 2)]
    is_by_taste = random.random(len(users)) < 0.7
    low = np.where(is_by_taste, mass[bounds[taste]], 0.0)
    high = np.where(is_by_taste, mass[bounds[taste + 1]], mass[-1])
    drawn = np.searchsorted(mass, low + random.random(len(users)) * (high - low), side="right") - 1
    items = by_taste[np.minimum(drawn, world.items - 1)].astype(np.int32)
    return sp.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=(world.users, world.items))


def train(matrix: sp.csr_matrix, factors: int, alpha: float, *, iterations: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """User and item factors of implicit's ALS, float32."""
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=factors, alpha=alpha, regularization=0.01, iterations=iterations, random_state=1
        )
        model.fit(matrix, show_progress=False)
    return model.user_factors, model.item_factors


def load(world: World, *, alpha: float = 10.0, cache: Path = CACHE) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    """A world's interactions, user factors and item factors, from the cache if they are there."""
    folder = cache / f"{world.name}-alpha{alpha:g}"
    if not folder.exists():
        matrix = interactions(world)
        users, items = train(matrix, world.factors, alpha)
        folder.mkdir(parents=True)
        np.save(folder / "users.npy", users)
        np.save(folder / "items.npy", items)
        sp.save_npz(folder / "interactions.npz", matrix, compressed=False)
    return sp.load_npz(folder / "interactions.npz"), np.load(folder / "users.npy"), np.load(folder / "items.npy")


def add_flags(parser: argparse.ArgumentParser) -> None:
    for name, value in asdict(World()).items():
        parser.add_argument(f"--{name}", type=int, default=value)


def from_flags(flags: argparse.Namespace) -> World:
    return World(**{name: getattr(flags, name) for name in asdict(World())})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser)
    begin = time.perf_counter()
    matrix, _, items = load(from_flags(parser.parse_args()))
    norms = np.linalg.norm(items, axis=1)
    print(f"{matrix.nnz:,} pairs of {matrix.shape[0]:,} users × {matrix.shape[1]:,} items, {items.shape[1]} factors")
    print("item norms at 0, 10, 50, 90 and 100 %:", np.percentile(norms, [0, 10, 50, 90, 100]).round(3))
    print(f"{time.perf_counter() - begin:.1f} s")


if __name__ == "__main__":
    main()
