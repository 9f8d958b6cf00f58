"""A trained model with all that a campaign needs to answer.

What does not belong here: its way to disk and back (`bundle_store`), which versions there are (`versions`), training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from recoflow.models.algorithms import matrix
from recoflow.models.algorithms.encoder import UserEncoder
from recoflow.models.algorithms.item_encoder import ItemEncoder
from recoflow.models.algorithms.matrix import Confidence, Matrix
from recoflow.models.algorithms.scorer import Scorer

SEARCHED_SHARE = 16  # fewer subjects are searched for, more are joined: a search takes as many steps, a join reads all
SCORER = ("user_factors", "item_factors", "history", "similarity", "projection")  # what a scorer and a bundle share


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
        return make_scorer(self.manifest.get("model", {}), {name: getattr(self, name) for name in SCORER})

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
        arrays = {name: getattr(scorer, name) for name in SCORER}
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


def make_scorer(model: Mapping[str, Any], arrays: Mapping[str, Any]) -> Scorer:
    """The scorer of a manifest's `model` and the arrays that belong to it."""
    return Scorer(
        parameters=model.get("parameters", {}),
        confidence=Confidence(**model.get("confidence", {})),
        encoders=tuple(UserEncoder(**each) for each in model.get("encoders", ())),
        course=model.get("course", {}),
        **arrays,
    )
