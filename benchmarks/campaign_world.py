"""A world of `world_m` as a campaign meets it: an environment, a model bundle and a request file, on disk.

What belongs here: files that both recoflow and its peers read. They are kept in a folder that git ignores.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from recoflow import schema
from recoflow.models.store import bundle_files, bundle_store, versions
from recoflow.models.store.bundle import Bundle
from recoflow.settings import environment
from recoflow.settings.environment import Environment
from recoflow.storage.paths import Paths

if TYPE_CHECKING:
    from benchmarks.world_m import World

NAME = "bench"
VERSION = "20261122T000000Z-benchmark"
NOW = datetime(2026, 11, 22, tzinfo=UTC)
REQUEST = f"{NAME}_benchmark_{NOW:%Y-%m-%dT%H:%M:%SZ}.csv"
CONFIGURATION = f"""\
name: {NAME}
sftp: {{ username: {NAME}, private_key: none, known_hosts: none, max_bytes: 4000000000 }}
campaigns: {{ information_fields: [url] }}
"""


@dataclass(frozen=True)
class Folder:
    """Where the files of one world are; `root` is a data folder."""

    root: Path

    @property
    def paths(self) -> Paths:
        return Paths(self.root)

    @property
    def bundle(self) -> Path:
        return self.paths.models(NAME) / VERSION

    def request(self, users: int, k: int) -> Path:
        return self.root / f"request-{users}x{k}.csv"

    @property
    def environment(self) -> Environment:
        return environment.load_environment(self.root / f"{NAME}.yaml")


def user_ids(count: int) -> pl.Series:
    return pl.select(pl.format("user-{}", pl.int_range(count).cast(pl.String).str.zfill(7))).to_series()


def item_ids(count: int) -> pl.Series:
    return pl.select(pl.format("item-{}", pl.int_range(count).cast(pl.String).str.zfill(7))).to_series()


def prepare(world: World, users: int, k: int) -> Folder:
    """The files of a world and a request for its first `users` users, made unless they are there."""
    from benchmarks import world_m  # here, because what only reads a world is not to wait for what trains one

    cached = world_m.CACHE / f"campaign-{world.name}-data-format{bundle_files.FORMAT}"
    if not cached.exists():
        building = cached.with_name(f".{cached.name}.partial")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        (building / f"{NAME}.yaml").write_text(CONFIGURATION)
        models = Paths(building).models(NAME)
        bundle_store.save_bundle(_bundle(world), models / VERSION)
        versions.promote(models, VERSION)
        building.rename(cached)
    folder = Folder(cached)
    if not folder.request(users, k).exists():
        _request(users, k).write_csv(folder.request(users, k))
    return folder


def _bundle(world: World) -> Bundle:
    from benchmarks import world_m

    matrix, user_factors, item_factors = world_m.load(world)
    matrix.sort_indices()
    popular = np.bincount(matrix.indices, minlength=world.items).astype(np.float32)
    ids = item_ids(world.items)
    items = pl.DataFrame({"item_id": ids}).with_columns(
        item_type=pl.lit("article"),
        is_enabled=pl.lit(value=True),
        is_available=pl.lit(value=True),
        published_at=pl.lit(NOW),
        updated_at=pl.lit(NOW),
        attributes=pl.lit('{"url":"https://www.example.com/articles/') + ids + '"}',
    )
    return Bundle(
        version=VERSION,
        subjects=("u:" + user_ids(world.users)).to_numpy().astype(np.str_),
        items=items.cast(schema.ITEMS),
        user_factors=user_factors,
        item_factors=item_factors,
        seen_indptr=matrix.indptr.astype(np.int64),
        seen_indices=matrix.indices.astype(np.int32),
        seen_types=np.full(matrix.nnz, schema.event_type_bits(["detail_pageview"]), np.int32),
        popular=popular,
        trending=popular,
        signatures=np.zeros(world.users, np.uint64),
        devices=_people(world.users)
        .drop_nulls()
        .select("device_id", "user_id")
        .cast(schema.IDENTITY)
        .sort("device_id"),
        manifest={"model": {"name": "als", "algorithm": "als", "parameters": {}}},
    )


def _people(users: int) -> pl.DataFrame:
    """Every user, and a device for every second one."""
    return pl.DataFrame({"user_id": user_ids(users)}).with_columns(
        device_id=pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.format("device-{}", pl.col("user_id")))
    )


def _request(users: int, k: int) -> pl.DataFrame:
    return _people(users).select(
        environment=pl.lit(NAME),
        user_id="user_id",
        device_id="device_id",
        list_name=pl.lit("Recommended for you"),
        list_size=pl.lit(k),
        page_type=pl.lit("mail"),
    )
