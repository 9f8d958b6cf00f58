"""The chosen model trained on everything, and the bundle that is made of it.

What belongs here: what a bundle is made of, and the checks of models that nothing was held out from. What does not: the
choice (select), saving and promoting.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recoflow import schema
from recoflow.models.algorithms import matrix, train
from recoflow.models.algorithms.item_encoder import ItemEncoder
from recoflow.models.algorithms.matrix import UserItems
from recoflow.models.algorithms.scorer import Scorer
from recoflow.models.algorithms.warm_start import WarmStart
from recoflow.models.store.bundle import Bundle
from recoflow.quality.finding import Finding
from recoflow.settings.sections import Model

NAMED: Final = "named_models_sound"
NAMED_PROMISE: Final = "every model that a configuration names is finite and tells items apart"


def final_finding(scorer: Scorer) -> Finding:
    """Whether the model trained on everything is any good; nothing is held out that would tell how good."""
    if not scorer.is_finite():
        message = "the model trained on everything holds NaN or infinity; look at its settings and data"
        return Finding("final_model_sound", passed=False, message=message)
    if scorer.is_constant():
        message = "the model trained on everything scores all items alike; look at its settings and data"
        return Finding("final_model_sound", passed=False, message=message)
    return Finding(
        "final_model_sound", passed=True, message="the model trained on everything is finite and tells items apart"
    )


def alternatives(
    models: Mapping[str, Model],
    everything: UserItems,
    seed: int,
    starts: Mapping[str, Sequence[WarmStart]],
    on_step: Callable[[str], None],
) -> tuple[dict[str, Scorer], Finding]:
    """The models that lists may name beside the chosen one, trained on everything; degenerate ones are left out."""
    trained: dict[str, Scorer] = {}
    for name, model in models.items():
        on_step(f"train {name}, which a configuration names, on everything")
        scorer = train.train(everything, model, seed, starts[name])
        if scorer.is_finite() and not scorer.is_constant():
            trained[name] = scorer
    missing = sorted(set(models) - set(trained))
    if not missing:
        return trained, Finding(NAMED, passed=True, message=NAMED_PROMISE)
    message = (
        f"{', '.join(missing)} cannot tell items apart, so lists that name them will be refused;"
        " look at their settings, or name another model in campaigns.configurations"
    )
    return trained, Finding(NAMED, passed=False, message=message, severity="warn", metadata={"left_out": missing})


def everything(pairs: pl.DataFrame, catalogue: pl.DataFrame) -> UserItems:
    """The matrix of all interactions, with the items that nobody has met yet.

    Args:
        pairs: `matrix.numbered` INTERACTIONS.
        catalogue: ITEMS.
    """
    items = matrix.ids(pl.concat([catalogue["item_id"], pairs["item_id"].unique().cast(pl.String)]))
    subjects = matrix.ids(pairs["subject"])
    return matrix.from_interactions(pairs, subjects=subjects, items=items, catalogue=catalogue)


def bundle(
    scorer: Scorer,
    data: UserItems,
    pairs: pl.DataFrame,
    items: pl.DataFrame,
    identity: pl.DataFrame,
    *,
    signatures: NDArray[np.uint64],
    alternatives: Mapping[str, Scorer],
    encoder: ItemEncoder | None,
    manifest: dict[str, Any],
    as_of: datetime,
) -> Bundle:
    """The bundle of a model that was trained on `data`.

    Args:
        scorer: the model.
        data: the matrix of `pairs`.
        pairs: `matrix.numbered` INTERACTIONS.
        items: `all_items`.
        identity: IDENTITY.
        signatures: of the subjects, in their order.
        alternatives: the models that lists may name.
        encoder: of new items.
        manifest: all but the version, which follows from it and the item factors.
        as_of: the training's time, aware.
    """
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(scorer.item_factors).data)
    seen = matrix.of_event_types(pairs, subjects=data.subjects, items=data.items)
    return Bundle(
        version=f"{as_of:%Y%m%dT%H%M%SZ}-{digest.hexdigest()[:8]}",
        subjects=data.subjects,
        items=items,
        user_factors=scorer.user_factors,
        item_factors=scorer.item_factors,
        seen_indptr=seen.indptr.astype(np.int64),
        seen_indices=seen.indices.astype(np.int32),
        seen_types=seen.data,
        popular=data.popularity(),
        trending=data.trend(),
        signatures=signatures,
        devices=identity,
        manifest=manifest,
        history=scorer.history,
        similarity=scorer.similarity,
        projection=scorer.projection,
        alternatives=alternatives,
        item_encoder=encoder,
    )


def all_items(catalogue: pl.DataFrame, items: NDArray[np.str_]) -> pl.DataFrame:
    """ITEMS of these ids; those that have interactions but no metadata are enabled and available."""
    every = pl.DataFrame({"item_id": pl.Series(items.tolist(), dtype=pl.String)})
    joined = every.join(catalogue, on="item_id", how="left", maintain_order="left")
    filled = joined.with_columns(
        pl.col("is_enabled").fill_null(value=True),
        pl.col("is_available").fill_null(value=True),
        pl.col("attributes").fill_null("{}"),
    )
    return filled.select(schema.ITEMS.names()).cast(schema.ITEMS)
