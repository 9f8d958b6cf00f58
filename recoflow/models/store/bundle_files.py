"""The files of a bundle, one by one: arrays, frames and the manifest, each refused by name when something is wrong.

What belongs here: formats and digests. What does not: what the arrays mean (see `bundle`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from recoflow.errors import ModelError, OutdatedModelError
from recoflow.models.store.bundle_validation import RETRAIN, check_csr
from recoflow.storage import atomic_files

if TYPE_CHECKING:
    from recoflow.models.algorithms.item_encoder import ItemEncoder
    from recoflow.models.algorithms.scorer import Scorer

FORMAT: Final = 2
MANIFEST: Final = "manifest.json"
ITEMS: Final = "items.parquet"
DEVICES: Final = "devices.parquet"
ARRAYS: Final = {
    "subjects": "U",
    "seen_indptr": "i",
    "seen_indices": "i",
    "seen_types": "i",
    "popular": "f",
    "trending": "f",
    "signatures": "u",
}
FACTORS: Final = ("user_factors", "item_factors")
SPARSE: Final = ("history", "similarity")
PROJECTION: Final = "projection"
ENCODER: Final = {"features": "U", "idf": "f", "weights": "f", "mean": "f"}  # of an ItemEncoder, after encoder_
SCORER: Final = (*FACTORS, *SPARSE, PROJECTION)
CSR_PARTS: Final = (("data", "f"), ("indices", "i"), ("indptr", "i"))


def scorer_arrays(scorer: Scorer, prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays of a scorer by the names of their files, without the suffix."""
    arrays: dict[str, NDArray[Any]] = {f"{prefix}{name}": getattr(scorer, name) for name in FACTORS}
    for name in SPARSE:
        matrix = getattr(scorer, name)
        if matrix is not None:
            arrays |= {f"{prefix}{name}_{part}": getattr(matrix, part) for part, _ in CSR_PARTS}
    return arrays if scorer.projection is None else arrays | {f"{prefix}{PROJECTION}": scorer.projection}


def read_scorer(folder: Path, manifest: Mapping[str, Any], prefix: str, items: int) -> dict[str, Any]:
    """The arrays of a scorer by the names of its attributes; what the manifest does not list is None."""
    arrays: dict[str, Any] = {name: array(folder / f"{prefix}{name}.npy", "f") for name in FACTORS}
    for name in SPARSE:
        is_there = f"{prefix}{name}_indptr.npy" in manifest["files"]
        arrays[name] = _csr(folder, f"{prefix}{name}", items) if is_there else None
    is_there = f"{prefix}{PROJECTION}.npy" in manifest["files"]
    return arrays | {PROJECTION: array(folder / f"{prefix}{PROJECTION}.npy", "f") if is_there else None}


def encoder_arrays(encoder: ItemEncoder | None) -> dict[str, NDArray[Any]]:
    """The arrays of an item encoder by the names of their files, without the suffix; none when there is none."""
    return {} if encoder is None else {f"encoder_{name}": getattr(encoder, name) for name in ENCODER}


def read_encoder(folder: Path, manifest: Mapping[str, Any]) -> dict[str, NDArray[Any]] | None:
    """The arrays of the item encoder by the names of its attributes, None when the manifest lists none."""
    if "encoder_features.npy" not in manifest["files"]:
        return None
    return {name: array(folder / f"encoder_{name}.npy", kind) for name, kind in ENCODER.items()}


def array(path: Path, kind: str) -> NDArray[Any]:
    """A memory-mapped array of this numpy kind.

    Raises:
        ModelError: naming the file.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise ModelError(str(path), f"is not a plain array: {error}", RETRAIN) from None
    if found.dtype.kind != kind:
        raise ModelError(str(path), f"holds {found.dtype}", RETRAIN)
    return found  # type: ignore[no-any-return]


def _csr(folder: Path, name: str, items: int) -> sparse.csr_matrix:
    data, indices, indptr = (array(folder / f"{name}_{part}.npy", kind) for part, kind in CSR_PARTS)
    check_csr(f"{folder}/{name}", indptr, indices, (len(indptr) - 1, items))
    return sparse.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, items))


def frame(path: Path, expected: pl.Schema) -> pl.DataFrame:
    """A table with exactly these columns.

    Raises:
        ModelError: naming the file.
    """
    try:
        found = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ModelError(str(path), f"cannot be read: {error}", RETRAIN) from None
    if found.schema != expected:
        raise ModelError(str(path), "has other columns than its table", RETRAIN)
    return found


def content_digest(arrays: Mapping[str, NDArray[Any]], frames: Iterable[pl.DataFrame]) -> str:
    """One sha256 over names, dtypes, shapes and values."""
    found = hashlib.sha256()
    for name, each in arrays.items():
        found.update(f"{name} {each.dtype.str} {each.shape}".encode())
        found.update(np.ascontiguousarray(each).data if each.size else b"")
    for table in frames:
        found.update(table.write_ipc(None, compression="uncompressed").getvalue())
    return found.hexdigest()


def write_manifest(folder: Path, values: Mapping[str, Any]) -> None:
    """Write the manifest of a folder whose other files are complete."""
    digests = {path.name: atomic_files.sha256(path) for path in sorted(folder.iterdir())}
    manifest = {**values, "format": FORMAT, "files": digests}
    text = json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a bundle tells of itself, without its files being read.

    Raises:
        OutdatedModelError: an older recoflow wrote it.
        ModelError: when it is missing or does not describe a bundle of this version and format.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(str(path), "is missing", RETRAIN) from None
    except ValueError:
        raise ModelError(str(path), "is not JSON", RETRAIN) from None
    if isinstance(manifest, dict) and manifest.get("format") in range(1, FORMAT):
        problem = f"is of format {manifest['format']}, this recoflow reads format {FORMAT}"
        raise OutdatedModelError(str(path), problem, RETRAIN)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or manifest.get("version") != folder.name:
        raise ModelError(str(path), f"is not the manifest of version {folder.name} in format {FORMAT}", RETRAIN)
    needed = {f"{name}.npy" for name in (*ARRAYS, *FACTORS)} | {ITEMS, DEVICES}
    if not needed <= set(manifest.get("files", ())) or any(Path(name).name != name for name in manifest["files"]):
        raise ModelError(str(path), "does not list the bundle's files", RETRAIN)
    return manifest


def verify(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Hold every file that the manifest lists against its sha256.

    Raises:
        ModelError: naming the file that is missing or altered.
    """
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise ModelError(str(path), "is missing", RETRAIN)
        if atomic_files.sha256(path) != expected:
            raise ModelError(str(path), "differs from the sha256 in its manifest", RETRAIN)
