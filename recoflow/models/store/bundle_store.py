"""Bundles on disk: all that a campaign needs to answer, in one immutable folder.

What does not belong here: the files one by one (`bundle_files`), contradictions within a bundle (`bundle_validation`),
which versions there are and which one serves (`versions`).

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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recoflow import schema
from recoflow.errors import ModelError
from recoflow.models.algorithms.item_encoder import ItemEncoder
from recoflow.models.algorithms.scorer import Scorer
from recoflow.models.store import bundle_files as files
from recoflow.models.store.bundle import Bundle, make_scorer
from recoflow.models.store.bundle_validation import check_bundle
from recoflow.storage import atomic_files

ALTERNATIVE = "alternative_{}_"  # how the files of the model of this number begin


def model_spec(scorer: Scorer) -> dict[str, Any]:
    """What a manifest's `model` keeps of a scorer beside its arrays."""
    return {
        "parameters": scorer.parameters,
        "confidence": dataclasses.asdict(scorer.confidence),
        "encoders": [dataclasses.asdict(each) for each in scorer.encoders],
        "course": scorer.course,
    }


def save_bundle(bundle: Bundle, folder: Path) -> None:
    """Write `bundle` as `folder`, which appears complete or not at all; an equal bundle that is there already stays.

    Raises:
        ModelError: when the bundle contradicts itself, or another bundle has this name.
    """
    check_bundle(bundle, str(folder))
    arrays = _arrays(bundle)
    content = files.content_digest(arrays, (bundle.items, bundle.devices))
    if folder.exists():
        if load_bundle(folder).manifest["content"] == content:
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
    alternatives = [{"name": name, **model_spec(scorer)} for name, scorer in sorted(bundle.alternatives.items())]
    files.write_manifest(
        building, bundle.manifest | {"version": bundle.version, "content": content, "alternatives": alternatives}
    )
    for path in building.iterdir():
        atomic_files.sync(path)
    atomic_files.sync(building)
    atomic_files.publish(building, folder)


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle; arrays are memory-mapped, every file is held against its sha256.

    Raises:
        ModelError: naming the file, when one is missing, altered, not finite, of a wrong shape, or out of order.
    """
    manifest = files.read_manifest(folder)
    files.verify(folder, manifest)
    items = files.frame(folder / files.ITEMS, schema.ITEMS)
    alternatives = {
        each["name"]: make_scorer(each, files.read_scorer(folder, manifest, ALTERNATIVE.format(number), items.height))
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
    check_bundle(bundle, str(folder))
    return bundle


def _arrays(bundle: Bundle) -> dict[str, NDArray[Any]]:
    arrays = {name: getattr(bundle, name) for name in files.ARRAYS} | files.scorer_arrays(bundle.scorer, "")
    for number, (_, scorer) in enumerate(sorted(bundle.alternatives.items())):
        arrays |= files.scorer_arrays(scorer, ALTERNATIVE.format(number))
    return arrays | files.encoder_arrays(bundle.item_encoder)
