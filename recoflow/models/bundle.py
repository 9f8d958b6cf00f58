"""Model bundles: all that a campaign needs to answer, in one immutable folder.

What belongs here: what a bundle is, and its way to disk and back. What does not: the files one by one (see
`bundle_files`), contradictions within a bundle (see `soundness`), which versions there are and which one serves (see
`versions`), training, ranking.

    <models>/<version>/manifest.json      version, recipe, table versions, metrics; sha256 of every other file
                       subjects.npy …     arrays without pickle, memory-mapped on load
                       alternative_0_…    the same arrays of a model beside the champion
                       encoder_…          factors of new items from their attributes
                       items.parquet      schema.ITEMS;  devices.parquet  schema.IDENTITY

A folder appears under its name only when it is complete and on disk. A damaged bundle is never replaced by another in
silence: loading it raises.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from recoflow import schema
from recoflow.errors import ModelError
from recoflow.models import bundle_files as files
from recoflow.models import matrix, soundness
from recoflow.models.features import ItemEncoder
from recoflow.models.matrix import Confidence
from recoflow.models.scorer import Encoder, Matrix, Scorer
from recoflow.storage import artifacts

SEARCHED_SHARE = 16  # fewer subjects are searched for, more are joined: a search takes as many steps, a join reads all
ALTERNATIVE = "alternative_{}_"  # how the files of the model of this number begin


@dataclass(frozen=True)
class Bundle:
    """One trained model with all that a campaign reads.

    Attributes:
        version: sortable by training time; the folder's name.
        subjects: unicode ids, sorted, unique [users].
        items: ITEMS, sorted by item_id, unique; row i ↔ row i of item_factors.
        user_factors: float32 [users × f]; zeros for a user without factors.
        item_factors: float32 [items × f].
        seen_indptr: int64 [users + 1]; with seen_indices the CSR of items that the user did anything counted with.
        seen_indices: int32, ascending within a user.
        seen_types: int32, aligned with seen_indices: what the user did, see `schema.event_type_bits`.
        popular: float32 [items], distinct subjects per item.
        trending: float32 [items], the same fading with age, see `matrix.UserItems.trend`.
        signatures: uint64 [users], see `interactions.signature`; who has another one now did something since.
        devices: IDENTITY.
        manifest: JSON values; `model` holds name, algorithm and parameters, and `recipe`'s part of the scorer.
        history: CSR float32 [users × items], or None when scores are products of factors alone.
        similarity: CSR float32 [items × items], or None together with `history`; see `scorer.Scorer`.
        projection: float32 [items × columns], or None; see `scorer.Scorer`.
        alternatives: models that lists may name instead of this one, of the same subjects and items.
        item_encoder: gives item_factors to items that are new since the training; None where attributes tell nothing,
            or the model has no factors to give. It is this model's: an alternative waits for interactions.
    """

    version: str
    subjects: NDArray[np.str_]
    items: pl.DataFrame
    user_factors: Matrix
    item_factors: Matrix
    seen_indptr: NDArray[np.int64]
    seen_indices: NDArray[np.int32]
    seen_types: NDArray[np.int32]
    popular: NDArray[np.float32]
    trending: NDArray[np.float32]
    signatures: NDArray[np.uint64]
    devices: pl.DataFrame
    manifest: dict[str, Any]
    history: sparse.csr_matrix | None = None
    similarity: sparse.csr_matrix | None = None
    projection: Matrix | None = None
    alternatives: Mapping[str, Scorer] = field(default_factory=dict)
    item_encoder: ItemEncoder | None = None

    @property
    def scorer(self) -> Scorer:
        """What scores blocks of users: `bundle.scorer.score(rows)`."""
        return _scorer(self.manifest.get("model", {}), {name: getattr(self, name) for name in files.SCORER})

    @cached_property
    def subject_ids(self) -> pl.Series:
        """`subjects` as strings of polars, which take a while."""
        return matrix.texts_of(np.asarray(self.subjects)).alias("subject")

    def rows_of(self, subjects: pl.Series) -> NDArray[np.int64]:
        """The row of each subject, -1 where the bundle does not know it (or it is null)."""
        asked = subjects.cast(pl.String)
        if len(asked) < len(self.subjects) // SEARCHED_SHARE:
            return self._searched(asked)
        rows = self._between(asked.min(), asked.max())
        known = pl.DataFrame({"subject": self.subject_ids[rows], "row": np.arange(rows.start, rows.stop)})
        found = asked.to_frame("subject").join(known, on="subject", how="left", maintain_order="left")
        return found["row"].fill_null(-1).to_numpy().astype(np.int64)

    def _between(self, least: Any, most: Any) -> slice:
        """The rows of the subjects within these bounds: of devices when they are asked for, not of users."""
        if least is None:
            return slice(0, 0)
        # Cut to the longest that is known, or numpy would copy all at the width of the bound: no subject is in between.
        bounds = np.array([least, most], self.subjects.dtype)
        start, _ = np.searchsorted(self.subjects, bounds, "left")
        _, stop = np.searchsorted(self.subjects, bounds, "right")
        return slice(int(start), int(stop))

    def _searched(self, asked: pl.Series) -> NDArray[np.int64]:
        # A text that is longer than all that are known would make numpy copy them all at its width.
        longest = self.subjects.dtype.itemsize // np.dtype("U1").itemsize
        subjects = matrix.ids_of(asked.set(asked.str.len_chars() > longest, None).fill_null(""))
        rows = np.searchsorted(self.subjects, subjects)
        return np.where(self.subjects[np.minimum(rows, len(self.subjects) - 1)] == subjects, rows, -1)

    def named(self, model: str) -> Scorer | None:
        """The scorer of a model by its name in `training.models`, None when the bundle has no such model."""
        return self.scorer if model == self.manifest["model"]["name"] else self.alternatives.get(model)

    def with_scorer(self, scorer: Scorer, alternatives: Mapping[str, Scorer], **others: Any) -> Bundle:
        """The bundle with other arrays in its models, and whatever else is named."""
        arrays = {name: getattr(scorer, name) for name in files.SCORER}
        return dataclasses.replace(self, **arrays, alternatives=dict(alternatives), **others)

    def of_subjects(self, rows: NDArray[np.int64], **others: Any) -> Bundle:
        """The bundle with only these subjects (ascending rows), and whatever else is named."""
        shape = (len(self.subjects), self.items.height)
        seen = sparse.csr_matrix((self.seen_types, self.seen_indices, self.seen_indptr), shape=shape)[rows]
        return self.with_scorer(
            self.scorer.of_users(rows),
            {name: scorer.of_users(rows) for name, scorer in self.alternatives.items()},
            subjects=self.subjects[rows],
            signatures=self.signatures[rows],
            seen_indptr=seen.indptr.astype(np.int64),
            seen_indices=seen.indices.astype(np.int32),
            seen_types=seen.data.astype(np.int32),
            **others,
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
    soundness.check(bundle, str(folder))
    arrays = _arrays(bundle)
    content = files.digest(arrays, (bundle.items, bundle.devices))
    if folder.exists():
        if load(folder).manifest["content"] == content:
            return
        raise ModelError(str(folder), "holds another bundle of this version", "Train again: a version never changes")
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    for name, array in arrays.items():
        np.save(building / f"{name}.npy", array, allow_pickle=False)
    bundle.items.write_parquet(building / files.ITEMS)
    bundle.devices.write_parquet(building / files.DEVICES)
    alternatives = [{"name": name, **recipe(scorer)} for name, scorer in sorted(bundle.alternatives.items())]
    files.write_manifest(
        building, bundle.manifest | {"version": bundle.version, "content": content, "alternatives": alternatives}
    )
    for path in building.iterdir():
        artifacts.sync(path)
    artifacts.sync(building)
    artifacts.publish(building, folder)


def load(folder: Path) -> Bundle:
    """Read a bundle; arrays are memory-mapped, every file is held against its sha256.

    Raises:
        ModelError: naming the file, when one is missing, altered, not finite, of a wrong shape, or out of order.
    """
    manifest = files.read_manifest(folder)
    files.verify(folder, manifest)
    items = files.frame(folder / files.ITEMS, schema.ITEMS)
    alternatives = {
        each["name"]: _scorer(each, files.read_scorer(folder, manifest, ALTERNATIVE.format(number), items.height))
        for number, each in enumerate(manifest["alternatives"])
    }
    encoder = files.read_encoder(folder, manifest)
    bundle = Bundle(
        version=manifest["version"],
        items=items,
        devices=files.frame(folder / files.DEVICES, schema.IDENTITY),
        manifest=manifest,
        alternatives=alternatives,
        item_encoder=None if encoder is None else ItemEncoder(**encoder),
        **{name: files.array(folder / f"{name}.npy", kind) for name, kind in files.ARRAYS.items()},
        **files.read_scorer(folder, manifest, "", items.height),
    )
    soundness.check(bundle, str(folder))
    return bundle


def _scorer(model: Mapping[str, Any], arrays: Mapping[str, Any]) -> Scorer:
    return Scorer(
        parameters=model.get("parameters", {}),
        confidence=Confidence(**model.get("confidence", {})),
        encoders=tuple(Encoder(**each) for each in model.get("encoders", ())),
        course=model.get("course", {}),
        **arrays,
    )


def _arrays(bundle: Bundle) -> dict[str, NDArray[Any]]:
    arrays = {name: getattr(bundle, name) for name in files.ARRAYS} | files.scorer_arrays(bundle.scorer, "")
    for number, (_, scorer) in enumerate(sorted(bundle.alternatives.items())):
        arrays |= files.scorer_arrays(scorer, ALTERNATIVE.format(number))
    return arrays | files.encoder_arrays(bundle.item_encoder)
