from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from recoflow.errors import ModelError, OutdatedModelError
from recoflow.models.algorithms import matrix, train
from recoflow.models.algorithms.matrix import UserItems
from recoflow.models.store import bundle, bundle_files, bundle_store, bundle_validation
from recoflow.models.store.bundle import Bundle
from recoflow.settings.sections import Model


def test_what_is_loaded_is_what_was_saved(trained: Bundle, folder: Path) -> None:
    loaded = bundle_store.load_bundle(folder)
    assert loaded.version == trained.version
    assert loaded.items.equals(trained.items)
    assert loaded.devices.equals(trained.devices)
    for name in (*bundle_files.ARRAYS, *bundle_files.FACTORS):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(trained, name))
    assert isinstance(loaded.user_factors, np.memmap)
    assert trained.manifest.items() <= loaded.manifest.items()


def test_saving_an_equal_bundle_again_changes_nothing(trained: Bundle, folder: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    bundle_store.save_bundle(trained, folder)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_version_never_changes_its_content(trained: Bundle, folder: Path) -> None:
    other = dataclasses.replace(trained, popular=trained.popular + 1)
    with pytest.raises(ModelError, match="another bundle of this version"):
        bundle_store.save_bundle(other, folder)


def test_nothing_unfinished_is_left_beside_a_saved_bundle(folder: Path) -> None:
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("name", ["user_factors.npy", "subjects.npy", "items.parquet", "seen_indices.npy"])
@pytest.mark.fault("F45")
def test_one_flipped_bit_is_refused_by_name(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name}: differs from the sha256"):
        bundle_store.load_bundle(folder)


def test_a_missing_file_is_refused_by_name(folder: Path) -> None:
    (folder / "popular.npy").unlink()
    with pytest.raises(ModelError, match=r"popular\.npy: is missing"):
        bundle_store.load_bundle(folder)


@pytest.mark.fault("F46")
def test_a_pickle_planted_as_factors_is_never_opened(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (folder / "user_factors.npy").write_bytes(pickle.dumps(_Planted(canary)))
    _reseal(folder)
    with pytest.raises(ModelError, match=r"user_factors.npy: is not a plain array"):
        bundle_store.load_bundle(folder)
    assert not canary.exists()


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_factors_that_are_not_finite_are_refused_though_their_sha256_is_right(folder: Path, poison: float) -> None:
    factors = np.load(folder / "item_factors.npy")
    factors[3, 0] = poison
    np.save(folder / "item_factors.npy", factors)
    _reseal(folder)
    with pytest.raises(ModelError, match=r"item_factors.npy: holds NaN or infinity"):
        bundle_store.load_bundle(folder)


def test_factors_of_another_shape_are_refused(folder: Path) -> None:
    np.save(folder / "item_factors.npy", np.load(folder / "item_factors.npy")[:-1])
    _reseal(folder)
    with pytest.raises(ModelError, match=r"item_factors.npy: has shape"):
        bundle_store.load_bundle(folder)


def test_consumed_items_that_point_outside_are_refused(folder: Path) -> None:
    seen = np.load(folder / "seen_indices.npy")
    seen[0] = 10_000
    np.save(folder / "seen_indices.npy", seen)
    _reseal(folder)
    with pytest.raises(ModelError, match=r"seen_indices.npy: points outside"):
        bundle_store.load_bundle(folder)


def test_a_bundle_with_factors_that_are_not_finite_is_not_saved(trained: Bundle, tmp_path: Path) -> None:
    poisoned = dataclasses.replace(trained, user_factors=np.full_like(trained.user_factors, np.nan))
    with pytest.raises(ModelError, match="user_factors"):
        bundle_store.save_bundle(poisoned, tmp_path / trained.version)
    assert not list(tmp_path.iterdir())


@pytest.mark.fault("F45")
def test_a_manifest_of_another_version_is_refused(folder: Path) -> None:
    manifest = json.loads((folder / bundle_files.MANIFEST).read_text())
    (folder / bundle_files.MANIFEST).write_text(json.dumps(manifest | {"version": "older"}))
    with pytest.raises(ModelError, match="is not the manifest of version"):
        bundle_store.load_bundle(folder)


def test_a_bundle_of_an_older_format_says_that_it_is_and_what_to_do(folder: Path) -> None:
    manifest = json.loads((folder / bundle_files.MANIFEST).read_text())
    (folder / bundle_files.MANIFEST).write_text(json.dumps(manifest | {"format": 1}))
    with pytest.raises(OutdatedModelError, match=r"is of format 1, .* Materialize factors again"):
        bundle_store.load_bundle(folder)


def test_a_bundle_keeps_models_beside_the_champion(trained: Bundle, tmp_path: Path) -> None:
    other = trained.scorer.of_users(np.arange(len(trained.subjects)))
    spectral = train.train(tables_of(trained), Model(algorithm="spectral", factors=4), 1)
    made = dataclasses.replace(trained, alternatives={"b/c": other, "a": spectral})
    bundle_store.save_bundle(made, tmp_path / made.version)
    loaded = bundle_store.load_bundle(tmp_path / made.version)
    rows = np.arange(len(trained.subjects))
    assert set(loaded.alternatives) == {"a", "b/c"}
    for name, scorer in made.alternatives.items():
        np.testing.assert_array_equal(loaded.alternatives[name].score(rows), scorer.score(rows))
        assert loaded.alternatives[name].parameters == scorer.parameters
    assert loaded.named("b/c") is loaded.alternatives["b/c"]
    assert loaded.named("other") is None


def test_a_bundle_of_some_subjects_is_the_same_for_them(trained: Bundle) -> None:
    made = dataclasses.replace(trained, alternatives={"a": train.train(tables_of(trained), Model(algorithm="ease"), 1)})
    rows = np.array([1, 5, 17])
    some = made.of_subjects(rows, version="some")
    bundle_validation.check_bundle(some, "some")
    assert some.version == "some"
    np.testing.assert_array_equal(some.scorer.score(np.arange(3)), made.scorer.score(rows))
    np.testing.assert_array_equal(some.alternatives["a"].score(np.arange(3)), made.alternatives["a"].score(rows))
    for place, row in enumerate(rows):
        of_some, of_all = (
            (each.seen_indices[begin:end].tolist(), each.seen_types[begin:end].tolist())
            for each, begin, end in (
                (some, *some.seen_indptr[place : place + 2]),
                (made, *made.seen_indptr[row : row + 2]),
            )
        )
        assert of_some == of_all


def tables_of(trained: Bundle) -> UserItems:
    """What the bundle's subjects did, every entry alike."""
    ones = np.ones(len(trained.seen_indices), np.float32)
    shape = (len(trained.subjects), trained.items.height)
    seen = sparse.csr_matrix((ones, np.array(trained.seen_indices), np.array(trained.seen_indptr)), shape=shape)
    times = np.zeros(seen.nnz, np.int64)
    return UserItems(trained.subjects, matrix.ids(trained.items["item_id"]), seen, times, times[: shape[1]])


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
    from recoflow.storage import atomic_files

    manifest = json.loads((folder / bundle_files.MANIFEST).read_text())
    manifest["files"] = {name: atomic_files.sha256(folder / name) for name in manifest["files"]}
    (folder / bundle_files.MANIFEST).write_text(json.dumps(manifest))


def test_few_subjects_are_searched_for_and_found_where_many_are(trained: Bundle) -> None:
    names = trained.subjects.tolist()
    few = [names[-1], None, names[7], "", "u:nobody", names[0], "~", names[7] * 500, names[7]]
    assert len(few) < len(names) // bundle.SEARCHED_SHARE < len(few + names)
    expected = [names.index(name) if name in names else -1 for name in few]
    assert trained.rows_of(pl.Series(few, dtype=pl.String)).tolist() == expected
    assert trained.rows_of(pl.Series(few + names, dtype=pl.String)).tolist() == expected + list(range(len(names)))
