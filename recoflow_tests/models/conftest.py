"""A small world with tastes, and bundles trained on it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from recoflow import schema
from recoflow.models.algorithms.matrix import UserItems
from recoflow.models.store import bundle_store
from recoflow.models.store.bundle import Bundle
from recoflow.models.training import pipeline
from recoflow.settings.environment import Environment
from recoflow.settings.sections import Sftp, TrainingSettings

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def tasteful(seed: int = 0, users: int = 240, items: int = 120, pairs: int = 6000, tastes: int = 6) -> pl.DataFrame:
    """INTERACTIONS of users who mostly take items of their own taste, over sixty days."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, pairs)
    own = (rng.zipf(1.4, pairs) % (items // tastes)) * tastes + user % tastes
    item = np.where(rng.random(pairs) < 0.8, own, rng.integers(0, items, pairs))
    seconds = rng.integers(0, 60 * 86_400, pairs)
    events = pl.DataFrame(
        {
            "subject": [f"u:{number:04}" for number in user],
            "item_id": [f"i{number:03}" for number in item],
            "weight": rng.random(pairs) * 3,
            "at": [NOW - timedelta(days=60) + timedelta(seconds=int(second)) for second in seconds],
        }
    )
    return interactions(events)


def interactions(events: pl.DataFrame) -> pl.DataFrame:
    """INTERACTIONS from rows of subject, item_id, weight, at."""
    return (
        events.group_by("subject", "item_id")
        .agg(
            pl.col("weight").sum(),
            pl.len().cast(pl.Int64).alias("events"),
            pl.lit(2, pl.Int32).alias("event_types"),
            pl.col("at").min().cast(schema.UTC_TIME).alias("first_at"),
            pl.col("at").max().cast(schema.UTC_TIME).alias("last_at"),
        )
        .select(schema.INTERACTIONS.names())
        .sort("subject", "item_id")
    )


def catalogue(*items: str, published_at: datetime | None = None) -> pl.DataFrame:
    """ITEMS with nothing but ids."""
    rows = [
        {
            "item_id": item,
            "item_type": "article",
            "is_enabled": True,
            "is_available": True,
            "published_at": published_at,
            "updated_at": NOW,
            "attributes": "{}",
        }
        for item in items
    ]
    return pl.DataFrame(rows, schema=schema.ITEMS)


def environment(**training: object) -> Environment:
    """An environment with the given training settings."""
    sftp = Sftp(username="lorem", private_key=Path("key"), known_hosts=Path("hosts"))
    return Environment(name="lorem", sftp=sftp, training=TrainingSettings.model_validate(training))


@pytest.fixture(scope="session")
def world() -> pl.DataFrame:
    return tasteful()


@pytest.fixture(scope="session")
def training(world: pl.DataFrame) -> pipeline.TrainingResult:
    identity = pl.DataFrame({"device_id": ["d1"], "user_id": ["0001"]}, schema=schema.IDENTITY)
    return pipeline.train_environment(
        world, catalogue("i000", "new-1"), identity, environment(), None, NOW, {"interactions": 7}
    )


def matrix_of(rows: list[list[float]]) -> UserItems:
    """A user–item matrix from dense rows; users are u0, u1, …, items i0, i1, …"""
    dense = sparse.csr_matrix(np.array(rows, np.float32))
    return UserItems(
        subjects=np.array([f"u{row}" for row in range(dense.shape[0])]),
        items=np.array([f"i{column}" for column in range(dense.shape[1])]),
        matrix=dense,
        last_at=np.arange(dense.nnz, dtype=np.int64) * 3_600_000_000,
        born_at=np.arange(dense.shape[1], dtype=np.int64),
    )


def random_matrix(seed: int, users: int = 60, items: int = 40, density: float = 0.15) -> UserItems:
    """A random user–item matrix with weights, some rows and columns of it empty."""
    rng = np.random.default_rng(seed)
    dense = np.where(rng.random((users, items)) < density, rng.random((users, items)) * 5 + 0.1, 0)
    dense[3], dense[:, 5] = 0, 0
    return matrix_of(dense.tolist())


@pytest.fixture
def trained(training: pipeline.TrainingResult) -> Bundle:
    assert training.bundle is not None
    return training.bundle


@pytest.fixture
def folder(trained: Bundle, tmp_path: Path) -> Path:
    bundle_store.save_bundle(trained, tmp_path / trained.version)
    return tmp_path / trained.version
