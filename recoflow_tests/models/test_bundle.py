from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recoflow.errors import ModelError
from recoflow.models import bundle
from recoflow.models.bundle import Bundle
from recoflow.models.pipeline import Training


@pytest.fixture
def trained(training: Training) -> Bundle:
    assert training.bundle is not None
    return training.bundle


@pytest.fixture
def folder(trained: Bundle, tmp_path: Path) -> Path:
    bundle.save(trained, tmp_path / trained.version)
    return tmp_path / trained.version


def test_what_is_loaded_is_what_was_saved(trained: Bundle, folder: Path) -> None:
    loaded = bundle.load(folder)
    assert loaded.version == trained.version
    assert loaded.items.equals(trained.items)
    assert loaded.devices.equals(trained.devices)
    for name in bundle.ARRAYS:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(trained, name))
    assert isinstance(loaded.user_factors, np.memmap)
    assert trained.manifest.items() <= loaded.manifest.items()


def test_saving_an_equal_bundle_again_changes_nothing(trained: Bundle, folder: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    bundle.save(trained, folder)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_version_never_changes_its_content(trained: Bundle, folder: Path) -> None:
    other = dataclasses.replace(trained, popular=trained.popular + 1)
    with pytest.raises(ModelError, match="another bundle of this version"):
        bundle.save(other, folder)


def test_nothing_unfinished_is_left_beside_a_saved_bundle(folder: Path) -> None:
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("name", ["user_factors.npy", "subjects.npy", "items.parquet", "seen_indices.npy"])
def test_one_flipped_bit_is_refused_by_name(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name}: differs from the sha256"):
        bundle.load(folder)


def test_a_missing_file_is_refused_by_name(folder: Path) -> None:
    (folder / "popular.npy").unlink()
    with pytest.raises(ModelError, match=r"popular\.npy: is missing"):
        bundle.load(folder)


def test_a_pickle_planted_as_factors_is_never_opened(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (folder / "user_factors.npy").write_bytes(pickle.dumps(_Planted(canary)))
    _reseal(folder)
    with pytest.raises(ModelError, match=r"user_factors.npy: is not a plain array"):
        bundle.load(folder)
    assert not canary.exists()


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_factors_that_are_not_finite_are_refused_though_their_sha256_is_right(folder: Path, poison: float) -> None:
    factors = np.load(folder / "item_factors.npy")
    factors[3, 0] = poison
    np.save(folder / "item_factors.npy", factors)
    _reseal(folder)
    with pytest.raises(ModelError, match=r"item_factors.npy: holds NaN or infinity"):
        bundle.load(folder)


def test_factors_of_another_shape_are_refused(folder: Path) -> None:
    np.save(folder / "item_factors.npy", np.load(folder / "item_factors.npy")[:-1])
    _reseal(folder)
    with pytest.raises(ModelError, match=r"item_factors.npy: has shape"):
        bundle.load(folder)


def test_consumed_items_that_point_outside_are_refused(folder: Path) -> None:
    seen = np.load(folder / "seen_indices.npy")
    seen[0] = 10_000
    np.save(folder / "seen_indices.npy", seen)
    _reseal(folder)
    with pytest.raises(ModelError, match=r"seen_indices.npy: points outside"):
        bundle.load(folder)


def test_a_bundle_with_factors_that_are_not_finite_is_not_saved(trained: Bundle, tmp_path: Path) -> None:
    poisoned = dataclasses.replace(trained, user_factors=np.full_like(trained.user_factors, np.nan))
    with pytest.raises(ModelError, match="user_factors"):
        bundle.save(poisoned, tmp_path / trained.version)
    assert not list(tmp_path.iterdir())


def test_a_manifest_of_another_version_is_refused(folder: Path) -> None:
    manifest = json.loads((folder / bundle.MANIFEST).read_text())
    (folder / bundle.MANIFEST).write_text(json.dumps(manifest | {"version": "older"}))
    with pytest.raises(ModelError, match="is not the manifest of version"):
        bundle.load(folder)


def test_items_are_the_catalogue_and_whatever_was_interacted_with(trained: Bundle, world: pl.DataFrame) -> None:
    assert set(trained.items["item_id"]) == {*world["item_id"], "i000", "new-1"}
    fresh = trained.items["item_id"].to_list().index("new-1")
    assert not trained.item_factors[fresh].any()


class _Planted:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.canary,)


def _reseal(folder: Path) -> None:
    """Make the manifest's sha256s right again, as someone with write access could."""
    from recoflow.storage import artifacts

    manifest = json.loads((folder / bundle.MANIFEST).read_text())
    manifest["files"] = {name: artifacts.sha256(folder / name) for name in manifest["files"]}
    (folder / bundle.MANIFEST).write_text(json.dumps(manifest))
