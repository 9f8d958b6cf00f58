"""Model bundles: all that a campaign needs to answer, in one immutable folder.

What belongs here: the files and their verification. What does not: which versions there are and which one serves (see
`versions`), training, ranking.

    <models>/<version>/manifest.json      version, recipe, table versions, metrics; sha256 of every other file
                       subjects.npy …     arrays without pickle, memory-mapped on load
                       items.parquet      schema.ITEMS;  devices.parquet  schema.IDENTITY

A folder appears under its name only when it is complete and on disk. A damaged bundle is never replaced by another in
silence: loading it raises.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from recoflow import schema
from recoflow.errors import ModelError
from recoflow.models.matrix import Confidence
from recoflow.models.scorer import Encoder, Matrix, Scorer
from recoflow.storage import artifacts

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
ARRAYS: Final = {
    "subjects": "U",
    "user_factors": "f",
    "item_factors": "f",
    "seen_indptr": "i",
    "seen_indices": "i",
    "popular": "f",
}
SPARSE: Final = ("history", "similarity")
RETRAIN = "Materialize factors again, or roll back to another version"


@dataclass(frozen=True)
class Bundle:
    """One trained model with all that a campaign reads.

    Attributes:
        version: sortable by training time; the folder's name.
        subjects: unicode ids, sorted, unique [users].
        items: ITEMS, sorted by item_id, unique; row i ↔ row i of item_factors.
        user_factors: float32 [users × f]; zeros for a user without factors.
        item_factors: float32 [items × f].
        seen_indptr: int64 [users + 1]; with seen_indices the CSR of consumed items.
        seen_indices: int32, ascending within a user.
        popular: float32 [items], distinct subjects per item.
        devices: IDENTITY.
        manifest: JSON values; `model` holds name, algorithm and parameters, and `recipe`'s part of the scorer.
        history: CSR float32 [users × items], or None when scores are products of factors alone.
        similarity: CSR float32 [items × items], or None together with `history`; see `scorer.Scorer`.
        projection: float32 [items × columns], or None; see `scorer.Scorer`.
    """

    version: str
    subjects: NDArray[np.str_]
    items: pl.DataFrame
    user_factors: Matrix
    item_factors: Matrix
    seen_indptr: NDArray[np.int64]
    seen_indices: NDArray[np.int32]
    popular: NDArray[np.float32]
    devices: pl.DataFrame
    manifest: dict[str, Any]
    history: sparse.csr_matrix | None = None
    similarity: sparse.csr_matrix | None = None
    projection: Matrix | None = None

    @property
    def scorer(self) -> Scorer:
        """What scores blocks of users: `bundle.scorer.score(rows)`."""
        model = self.manifest.get("model", {})
        return Scorer(
            user_factors=self.user_factors,
            item_factors=self.item_factors,
            parameters=model.get("parameters", {}),
            confidence=Confidence(**model.get("confidence", {})),
            encoders=tuple(Encoder(**each) for each in model.get("encoders", ())),
            projection=self.projection,
            history=self.history,
            similarity=self.similarity,
            course=model.get("course", {}),
        )


def recipe(scorer: Scorer) -> dict[str, Any]:
    """What a manifest's `model` keeps of a scorer beside its arrays."""
    return {
        "parameters": scorer.parameters,
        "confidence": dataclasses.asdict(scorer.confidence),
        "encoders": [dataclasses.asdict(each) for each in scorer.encoders],
        "course": scorer.course,
    }


def save(bundle: Bundle, folder: Path) -> None:
    """Write `bundle` as `folder`, which appears complete or not at all; an equal bundle that is there already stays.

    Raises:
        ModelError: when the bundle contradicts itself, or another bundle has this name.
    """
    check(bundle, str(folder))
    if folder.exists():
        if load(folder).manifest["content"] == _content(bundle):
            return
        raise ModelError(str(folder), "holds another bundle of this version", "Train again: a version never changes")
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    for name, array in _arrays(bundle).items():
        np.save(building / f"{name}.npy", array, allow_pickle=False)
    bundle.items.write_parquet(items_file(building))
    bundle.devices.write_parquet(building / "devices.parquet")
    files = {path.name: artifacts.sha256(path) for path in sorted(building.iterdir())}
    manifest = bundle.manifest | {"format": FORMAT, "version": bundle.version, "content": _content(bundle)}
    (building / MANIFEST).write_text(_json(manifest | {"files": files}), encoding="utf-8")
    for path in building.iterdir():
        artifacts.sync(path)
    artifacts.sync(building)
    artifacts.publish(building, folder)


def load(folder: Path) -> Bundle:
    """Read a bundle; arrays are memory-mapped, every file is held against its sha256.

    Raises:
        ModelError: naming the file, when one is missing, altered, not finite, of a wrong shape, or out of order.
    """
    manifest = read_manifest(folder)
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise ModelError(str(path), "is missing", RETRAIN)
        if artifacts.sha256(path) != expected:
            raise ModelError(str(path), "differs from the sha256 in its manifest", RETRAIN)
    arrays = {name: _array(folder / f"{name}.npy", kind) for name, kind in ARRAYS.items()}
    items = _frame(items_file(folder), schema.ITEMS)
    extra: dict[str, Any] = {
        name: _csr(folder, name, items.height) for name in SPARSE if f"{name}_indptr.npy" in manifest["files"]
    }
    if "projection.npy" in manifest["files"]:
        extra["projection"] = _array(folder / "projection.npy", "f")
    bundle = Bundle(
        version=manifest["version"],
        items=items,
        devices=_frame(folder / "devices.parquet", schema.IDENTITY),
        manifest=manifest,
        **arrays,
        **extra,
    )
    check(bundle, str(folder))
    return bundle


def items_file(folder: Path) -> Path:
    """The Parquet file of a bundle's items."""
    return folder / "items.parquet"


def check(bundle: Bundle, culprit: str) -> None:
    """Refuse a bundle that contradicts itself.

    Raises:
        ModelError: naming the part.
    """
    users, items = len(bundle.subjects), bundle.items.height
    _refuse_unless(bundle.items.schema == schema.ITEMS, f"{culprit}/items.parquet", "has other columns than ITEMS")
    _refuse_unless(_is_ascending(bundle.subjects), f"{culprit}/subjects.npy", "is not sorted and unique")
    ordered = bundle.items["item_id"].null_count() == 0 and bundle.items["item_id"].is_sorted()
    _refuse_unless(
        ordered and bundle.items["item_id"].n_unique() == items, f"{culprit}/items.parquet", "is not sorted and unique"
    )
    factors = bundle.item_factors.shape[-1]
    shapes = {"user_factors": (users, factors), "item_factors": (items, factors), "popular": (items,)}
    if bundle.projection is not None:
        shapes["projection"] = (items, sum(e.columns for e in bundle.scorer.encoders if e.kind == "linear"))
    for name, shape in shapes.items():
        array = getattr(bundle, name)
        _refuse_unless(array.shape == shape, f"{culprit}/{name}.npy", f"has shape {array.shape} instead of {shape}")
        _refuse_unless(bool(np.isfinite(array).all()), f"{culprit}/{name}.npy", "holds NaN or infinity")
    _check_csr(f"{culprit}/seen", bundle.seen_indptr, bundle.seen_indices, (users, items))
    _refuse_unless((bundle.history is None) == (bundle.similarity is None), culprit, "has half a similarity model")
    for name, rows in zip(SPARSE, (users, items), strict=True):
        matrix = getattr(bundle, name)
        if matrix is not None:
            _refuse_unless(matrix.shape == (rows, items), f"{culprit}/{name}", "has another shape than its ids")
            _refuse_unless(bool(np.isfinite(matrix.data).all()), f"{culprit}/{name}", "holds NaN or infinity")


def _check_csr(culprit: str, indptr: NDArray[Any], indices: NDArray[Any], shape: tuple[int, int]) -> None:
    rows, columns = shape
    is_whole = (
        len(indptr) == rows + 1 and indptr[0] == 0 and indptr[-1] == len(indices) and not (np.diff(indptr) < 0).any()
    )
    _refuse_unless(is_whole, f"{culprit}_indptr.npy", "does not delimit its rows")
    within = not len(indices) or (int(indices.min()) >= 0 and int(indices.max()) < columns)
    _refuse_unless(within, f"{culprit}_indices.npy", "points outside the items")


def _refuse_unless(is_right: bool, culprit: str, problem: str) -> None:
    if not is_right:
        raise ModelError(culprit, problem, RETRAIN)


def _is_ascending(ids: NDArray[np.str_]) -> bool:
    return bool((ids[1:] > ids[:-1]).all())


def _arrays(bundle: Bundle) -> dict[str, NDArray[Any]]:
    arrays = {name: getattr(bundle, name) for name in ARRAYS}
    for name in SPARSE:
        matrix = getattr(bundle, name)
        if matrix is not None:
            arrays |= {f"{name}_{part}": getattr(matrix, part) for part in ("indptr", "indices", "data")}
    return arrays if bundle.projection is None else arrays | {"projection": bundle.projection}


def _content(bundle: Bundle) -> str:
    digest = hashlib.sha256()
    for name, array in _arrays(bundle).items():
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data if array.size else b"")
    for frame in (bundle.items, bundle.devices):
        digest.update(frame.write_ipc(None, compression="uncompressed").getvalue())
    return digest.hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a bundle tells of itself, without its files being read.

    Raises:
        ModelError: when it is missing or does not describe a bundle of this version and format.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(str(path), "is missing", RETRAIN) from None
    except ValueError:
        raise ModelError(str(path), "is not JSON", RETRAIN) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or manifest.get("version") != folder.name:
        raise ModelError(str(path), f"is not the manifest of version {folder.name} in format {FORMAT}", RETRAIN)
    needed = {f"{name}.npy" for name in ARRAYS} | {"items.parquet", "devices.parquet"}
    if not needed <= set(manifest.get("files", ())) or any(Path(name).name != name for name in manifest["files"]):
        raise ModelError(str(path), "does not list the bundle's files", RETRAIN)
    return manifest


def _array(path: Path, kind: str) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise ModelError(str(path), f"is not a plain array: {error}", RETRAIN) from None
    if array.dtype.kind != kind:
        raise ModelError(str(path), f"holds {array.dtype}", RETRAIN)
    return array  # type: ignore[no-any-return]


def _csr(folder: Path, name: str, items: int) -> sparse.csr_matrix:
    parts = (("data", "f"), ("indices", "i"), ("indptr", "i"))
    data, indices, indptr = (_array(folder / f"{name}_{part}.npy", kind) for part, kind in parts)
    _check_csr(f"{folder}/{name}", indptr, indices, (len(indptr) - 1, items))
    return sparse.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, items))


def _frame(path: Path, expected: pl.Schema) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ModelError(str(path), f"cannot be read: {error}", RETRAIN) from None
    if frame.schema != expected:
        raise ModelError(str(path), "has other columns than its table", RETRAIN)
    return frame


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
