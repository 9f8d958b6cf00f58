"""Model bundles without a person.

What belongs here: which parts of a bundle are a person's. What does not: the files of a bundle (`models.store.bundle`).

Subject, factors, history, consumed items and devices go. Item factors and popularity stay: they are sums over everybody
until the next training, which does not know the person any more.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import polars as pl

from recoflow.erasure.subject import ErasureSubject
from recoflow.models.store import bundle_store, version_summaries, versions
from recoflow.models.store.bundle import Bundle


def erase_from_bundles(models: Path, person: ErasureSubject) -> dict[str, str]:
    """Replace each bundle that knows the person by a version without it; returns old version → new version.

    A bundle never changes, so each gets a new version with the training time of the old one; the pointer names
    the new one before the old one goes.

    Raises:
        ModelError: a bundle is damaged.
    """
    replaced = {}
    for version in version_summaries.known_versions(models):
        remaining = without(bundle_store.load_bundle(models / version), person)
        if remaining is None:
            continue
        bundle_store.save_bundle(remaining, models / remaining.version)
        versions.replace(models, version, remaining.version)
        doomed = models / f".{version}.doomed"
        (models / version).rename(doomed)
        shutil.rmtree(doomed)
        replaced[version] = remaining.version
    return replaced


def without(bundle: Bundle, person: ErasureSubject) -> Bundle | None:
    """The bundle without the person, None when it does not know it."""
    is_kept = ~np.isin(bundle.subjects, person.subjects)
    is_owned = pl.col("device_id").is_in(person.device_ids) | pl.col("user_id").is_in(person.user_ids).fill_null(False)
    devices = bundle.devices.filter(~is_owned)
    if is_kept.all() and devices.height == bundle.devices.height:
        return None
    digest = hashlib.sha256(bundle.version.encode())
    digest.update(np.packbits(is_kept).data)
    digest.update(devices.write_ipc(None, compression="uncompressed").getvalue())
    version = f"{bundle.version.partition('-')[0]}-{digest.hexdigest()[:8]}"
    return bundle.of_subjects(np.flatnonzero(is_kept), version=version, devices=devices)
