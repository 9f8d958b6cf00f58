"""Model bundles without a person.

What belongs here: which parts of a bundle are a person's. What does not: the files of a bundle (`models.bundle`).

Subject, factors, history, consumed items and devices go. Item factors and popularity stay: they are sums over everybody
until the next training, which does not know the person any more.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

from recoflow.models import bundle as bundles
from recoflow.models import versions
from recoflow.models.bundle import Bundle
from recoflow.privacy.person import Person


def forget(models: Path, person: Person) -> dict[str, str]:
    """Replace each bundle that knows the person by a version without it; returns old version → new version.

    A bundle never changes, so each gets a new version with the training time of the old one; the pointer names
    the new one before the old one goes.

    Raises:
        ModelError: a bundle is damaged.
    """
    replaced = {}
    for version in versions.known(models):
        remaining = without(bundles.load(models / version), person)
        if remaining is None:
            continue
        bundles.save(remaining, models / remaining.version)
        versions.replace(models, version, remaining.version)
        doomed = models / f".{version}.doomed"
        (models / version).rename(doomed)
        shutil.rmtree(doomed)
        replaced[version] = remaining.version
    return replaced


def without(bundle: Bundle, person: Person) -> Bundle | None:
    """The bundle without the person, None when it does not know it."""
    is_kept = ~np.isin(bundle.subjects, person.subjects)
    is_owned = pl.col("device_id").is_in(person.device_ids) | pl.col("user_id").is_in(person.user_ids).fill_null(False)
    devices = bundle.devices.filter(~is_owned)
    if is_kept.all() and devices.height == bundle.devices.height:
        return None
    shape = (len(bundle.subjects), bundle.items.height)
    ones = np.ones(len(bundle.seen_indices), np.bool_)
    seen = sparse.csr_matrix((ones, bundle.seen_indices, bundle.seen_indptr), shape=shape)[is_kept]
    digest = hashlib.sha256(bundle.version.encode())
    digest.update(np.packbits(is_kept).data)
    digest.update(devices.write_ipc(None, compression="uncompressed").getvalue())
    return replace(
        bundle,
        version=f"{bundle.version.partition('-')[0]}-{digest.hexdigest()[:8]}",
        subjects=bundle.subjects[is_kept],
        user_factors=np.ascontiguousarray(bundle.user_factors[is_kept]),
        seen_indptr=seen.indptr.astype(np.int64),
        seen_indices=seen.indices.astype(np.int32),
        devices=devices,
        history=_rows(bundle.history, is_kept),
    )


def _rows(matrix: sparse.csr_matrix | None, is_kept: Any) -> sparse.csr_matrix | None:
    return None if matrix is None else sparse.csr_matrix(matrix[is_kept])
