"""A newsroom's items, a model of its readers, and requests to answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from recoflow import schema
from recoflow.campaigns.audiences.select import AudienceItems
from recoflow.campaigns.lists import item_filters
from recoflow.campaigns.lists.build_lists import build_lists
from recoflow.campaigns.lists.rank_blocks import BLOCK_LIMITS, BlockLimits
from recoflow.campaigns.requests import csv_framing, request_parser
from recoflow.campaigns.requests.model import Request
from recoflow.campaigns.staging.staged import StagedLists
from recoflow.models.store.bundle import Bundle
from recoflow.settings.environment import Campaigns, Environment
from recoflow.settings.sections import Sftp, TrainingSettings

NAME = "lorem_weekly_mail_2020-02-02T20:22:02Z.csv"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def make_environment(models: Sequence[str] = ("als",), **campaigns: Any) -> Environment:
    sftp = Sftp(username="lorem", private_key=Path("key"), known_hosts=Path("hosts"))
    training = TrainingSettings.model_validate({"models": {name: {"algorithm": "als"} for name in models}})
    return Environment(name="lorem", sftp=sftp, training=training, campaigns=Campaigns.model_validate(campaigns))


def make_items(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """ITEMS from rows of item_id, attributes and whatever else differs from an enabled article of today."""
    usual = {"item_type": "article", "is_enabled": True, "is_available": True, "published_at": NOW, "updated_at": NOW}
    full = [usual | row | {"attributes": json.dumps(row.get("attributes", {}))} for row in rows]
    return pl.DataFrame(full, schema=schema.ITEMS).sort("item_id")


def make_bundle(
    items: pl.DataFrame,
    user_factors: dict[str, Sequence[float]],
    item_factors: Any,
    *,
    seen: dict[str, Sequence[str]] | None = None,
    popular: Sequence[float] | None = None,
    trending: Sequence[float] | None = None,
    devices: dict[str, str | None] | None = None,
) -> Bundle:
    subjects = sorted(user_factors)
    position = {item: index for index, item in enumerate(items["item_id"])}
    consumed = [sorted(position[item] for item in (seen or {}).get(subject, ())) for subject in subjects]
    owners = sorted((devices or {}).items())
    return Bundle(
        version="v1",
        subjects=np.array(subjects, dtype=np.str_),
        items=items,
        user_factors=np.array([user_factors[subject] for subject in subjects], np.float32),
        item_factors=np.asarray(item_factors, np.float32),
        seen_indptr=np.concatenate(([0], np.cumsum([len(each) for each in consumed]))).astype(np.int64),
        seen_indices=np.array([item for each in consumed for item in each], np.int32),
        seen_types=np.full(sum(map(len, consumed)), schema.event_type_bits(["detail_pageview"]), np.int32),
        popular=np.array(popular if popular is not None else range(len(items), 0, -1), np.float32),
        trending=np.array(trending if trending is not None else np.zeros(len(items)), np.float32),
        signatures=np.zeros(len(subjects), np.uint64),
        devices=pl.DataFrame(owners, schema=schema.IDENTITY, orient="row"),
        manifest={"model": {"name": "als", "algorithm": "als", "parameters": {}}},
    )


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """The makers of this file, for tests that build a world of their own."""
    return SimpleNamespace(
        name=NAME,
        now=NOW,
        environment=make_environment,
        items=make_items,
        bundle=make_bundle,
        recommendations=recommendations,
        lists=lists,
    )


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Request]:
    """Parse a request file with this content."""

    def parse(
        content: str | bytes,
        *,
        name: str = NAME,
        attributes: Sequence[str] = ("categories",),
        catalogue: AudienceItems | None = None,
        chunk_bytes: int = csv_framing.CHUNK,
        **campaigns: Any,
    ) -> Request:
        raw = content.encode() if isinstance(content, str) else content
        path = tmp_path / "request"
        path.write_bytes(raw)
        return request_parser.parse_request(
            path,
            name=name,
            environment=make_environment(**campaigns),
            sha256=hashlib.sha256(raw).hexdigest(),
            known_attributes=attributes,
            catalogue=catalogue,
            chunk_bytes=chunk_bytes,
        )

    return parse


@pytest.fixture
def reply(tmp_path: Path) -> Callable[..., StagedLists]:
    """Parse and answer a request file with this content."""

    def parse_and_answer(
        content: str,
        bundle: Bundle,
        *,
        name: str = NAME,
        folder: str = "staging",
        weights: sparse.csr_matrix | None = None,
        limits: BlockLimits = BLOCK_LIMITS,
        **campaigns: Any,
    ) -> StagedLists:
        path = tmp_path / "request.csv"
        path.write_text(content, encoding="utf-8")
        environment = make_environment(**campaigns)
        request = request_parser.parse_request(
            path,
            name=name,
            environment=environment,
            sha256=hashlib.sha256(content.encode()).hexdigest(),
            known_attributes=item_filters.attribute_names(bundle.items),
            algorithms=item_filters.algorithms(bundle),
        )
        assert request.rejection is None, request.rejection
        return build_lists(
            request, bundle, environment, tmp_path / folder, NOW, weights=weights, threads=1, limits=limits
        )

    return parse_and_answer


@pytest.fixture
def newsroom() -> Bundle:
    """Two readers with opposite tastes, a device of the first one's, and a shared device of its own.

    `a` … `h` score 8 … 1 for u:sport and 1 … 8 for u:politics; items are popular in the order of their ids.
    """
    rows = [
        {
            "item_id": item,
            "attributes": {
                "url": f"https://lorem.test/{item}",
                "categories": ["sport", "football"] if item < "e" else ["politics"],
                "premium": item in "ah",
                "section": 1 if item < "e" else 2,
            },
            "published_at": NOW - timedelta(days=index),
        }
        for index, item in enumerate("abcdefgh")
    ]
    scores = np.arange(8, 0, -1)
    return make_bundle(
        make_items(rows),
        {"u:sport": (1, 0), "u:politics": (0, 1), "d:kiosk": (0, 1), "u:nothing": (0, 0)},
        np.stack([scores, scores[::-1]], axis=1),
        seen={"u:sport": ["a"], "u:nothing": ["b"], "d:kiosk": ["h"]},
        devices={"phone": "sport", "kiosk": None},
    )


def recommendations(staged: StagedLists) -> pl.DataFrame:
    return pl.read_parquet(list(staged.parts))


def lists(staged: StagedLists) -> list[tuple[str | None, str | None, str, list[str]]]:
    """(user, device, list, items) in the order of the response."""
    frame = recommendations(staged)
    grouped = frame.group_by("user_id", "device_id", "list_name", maintain_order=True).agg("item_id")
    return list(grouped.iter_rows())
