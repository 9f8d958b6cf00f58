"""Cold items: whether the encoder places items that nobody has met better than chance, and what follows.

What belongs here: the measurement on held-out items, and putting encoded factors into a scorer. What does not: the
encoder (features).

Only factors of ALS, BPR and LMF are encoded, alone or in a blend. Spectral ones are eigenvectors, whose values tell
little of an item alone (measured: below chance); EASE and neighbours know an item by its users alone: there it waits
for interactions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from recoflow.models.algorithms import item_encoder
from recoflow.models.algorithms.item_encoder import ItemEncoder
from recoflow.models.algorithms.matrix import UserItems
from recoflow.models.algorithms.scorer import Scorer
from recoflow.models.evaluation import evaluate, metrics
from recoflow.models.evaluation.holdout import where
from recoflow.quality.finding import Finding

CHECK: Final = "cold_items_encoded"
PROMISE: Final = "items without interactions are placed by their attributes, where that beats chance on held-out items"
SHARE: Final = 0.2
MIN_ITEMS: Final = 20
MAX_USERS: Final = 2000
K: Final = 10


@dataclass(frozen=True)
class Measured:
    """Recall@10 among held-out items, mean over users: ranked by the encoder, at random, and the newest first.

    `gain` is the 95 % bootstrap interval of encoder − random.
    """

    items: int
    users: int
    encoder: float
    random: float
    newest: float
    gain: tuple[float, float]


def measure_cold_items(scorer: Scorer, data: UserItems, items: pl.DataFrame, seed: int) -> Measured | None:
    """Hide a fifth of the trained items and rank them for the users who took some, from their other items.

    The map learns from the other items' factors, and users are folded in without the hidden ones. The factors of the
    others were trained in a world that knew the hidden ones: an indirect and small advantage.

    Args:
        scorer: trained on `data`.
        data: raw weights.
        items: ITEMS, row i ↔ column i of `data`.
        seed: of what is hidden.

    Returns:
        None where there is nothing to measure: no factors, no telling attributes, too few items or users.
    """
    trained = np.flatnonzero(data.popularity() > 0)
    held = np.sort(np.random.default_rng(seed).permutation(trained)[: int(len(trained) * SHARE)])
    if not encodable(scorer).any() or len(held) < MIN_ITEMS:
        return None
    kept = np.setdiff1d(trained, held)
    encoder = _fit(scorer, data, items, kept, seed)
    test = sparse.csr_matrix(data.matrix[:, held])
    left = where(data.matrix, ~np.isin(data.matrix.indices, held))
    users = np.flatnonzero((np.diff(test.indptr) > 0) & (np.diff(left.indptr) > 0))
    if encoder is None or not len(users):
        return None
    if len(users) > MAX_USERS:
        users = np.sort(np.random.default_rng(seed).choice(users, MAX_USERS, replace=False))
    factors = np.array(scorer.item_factors)
    factors[held] = 0
    folded = replace(scorer, item_factors=factors).fold_in(sparse.csr_matrix(left[users]))
    encoded = replace(
        folded, item_factors=encoder.encode(items[held]), projection=None, history=None, similarity=None, encoders=()
    )
    test = sparse.csr_matrix(test[users])
    newest = np.repeat(data.born_at[held].argsort(kind="stable").argsort()[None].astype(np.float32), len(users), 0)
    recalls = [
        recall(scores, test)
        for scores in (encoded, evaluate.RandomScores(len(held), seed), Scorer(newest, np.eye(len(held), dtype="f4")))
    ]
    encoder_recall, random_recall, newest_recall = (float(each.mean()) for each in recalls)
    gain = metrics.interval(recalls[0] - recalls[1], seed)
    return Measured(len(held), len(users), encoder_recall, random_recall, newest_recall, gain)


def encode(
    scorer: Scorer, data: UserItems, items: pl.DataFrame, seed: int
) -> tuple[Scorer, ItemEncoder | None, Finding]:
    """The scorer with factors for items without interactions, its encoder, and what was found.

    Where the encoder does not beat chance, or cannot be measured, the scorer stays as it is and there is no encoder.
    """
    found = measure_cold_items(scorer, data, items, seed)
    if found is None:
        message = "nothing to place new items by (attributes in common, factors, enough items): they wait for events"
        return scorer, None, Finding(CHECK, passed=True, message=message)
    metadata = {
        "recall_encoder": found.encoder,
        "recall_random": found.random,
        "recall_newest": found.newest,
        "gain_interval": list(found.gain),
        "held_out_items": found.items,
        "users": found.users,
    }
    message = (
        f"recall@{K} among {found.items} held-out items: {found.encoder:.4f} by attributes, {found.random:.4f} at"
        f" random, {found.newest:.4f} newest first, over {found.users} users"
    )
    if found.gain[0] <= 0:
        message += "; the attributes tell too little, so new items wait for events"
        return scorer, None, Finding(CHECK, passed=False, message=message, severity="warn", metadata=metadata)
    popularity = data.popularity()
    known = np.flatnonzero(popularity > 0)
    encoder = _fit(scorer, data, items, known, seed)
    if encoder is None:
        return scorer, None, Finding(CHECK, passed=True, message=message, metadata=metadata)
    cold = np.flatnonzero(popularity == 0)
    factors = np.array(scorer.item_factors)
    factors[cold] = encoder.encode(items[cold])
    message += f"; {len(cold)} items without interactions are placed by them"
    return (
        replace(scorer, item_factors=factors),
        encoder,
        Finding(CHECK, passed=True, message=message, metadata=metadata),
    )


def encodable(scorer: Scorer) -> NDArray[np.bool_]:
    """Which columns of the item factors attributes can tell, bool [f]."""
    is_trained = np.array([each.kind == "least_squares" for each in scorer.encoders], np.bool_)
    return np.repeat(is_trained, [each.columns for each in scorer.encoders])


def _fit(
    scorer: Scorer, data: UserItems, items: pl.DataFrame, rows: NDArray[np.int64], seed: int
) -> ItemEncoder | None:
    factors = np.where(encodable(scorer), scorer.item_factors[rows], np.float32(0))
    return item_encoder.fit_item_encoder(items[rows], factors, data.popularity()[rows], seed)


def recall(scores: evaluate.Scores, test: sparse.csr_matrix) -> NDArray[np.float64]:
    """Recall@10 of each user (row) among all columns of `test`."""
    everyone = np.arange(test.shape[0])
    nothing = sparse.csr_matrix(test.shape, dtype=np.float32)
    lists = evaluate.top_lists(scores, nothing, everyone, min(K, test.shape[1]))
    return metrics.recall(evaluate.hits(lists, test, everyone), np.diff(test.indptr).astype(np.int64))
