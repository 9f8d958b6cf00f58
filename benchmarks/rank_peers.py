"""Lists by peers that recoflow does not need, each run by its own environment: the last line is a JSON object.

    <python with the peer> -m benchmarks.rank_peers rectools|lenskit FOLDER USERS K

FOLDER has users.npy, items.npy and interactions.npz, see `world_m.load`. What it takes to rank USERS users, evenly
spread, without what they consumed is told, less the time for ten of them: a peer may start processes for each call.
What belongs here: nothing that imports recoflow, which those environments do not have.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Callable

    Lists = Callable[[np.ndarray, int], np.ndarray]  # rows of users and k → items [rows × k]


def rectools(users: np.ndarray, items: np.ndarray, consumed: sp.csr_matrix) -> Lists:
    """The ranker that its models of vectors use."""
    from rectools.models.rank import Distance, ImplicitRanker
    from threadpoolctl import threadpool_limits

    ranker = ImplicitRanker(Distance.DOT, users, items)

    def lists(rows: np.ndarray, k: int) -> np.ndarray:
        with threadpool_limits(1, "blas"):  # it has threads of its own
            _, found, _ = ranker.rank(rows, k, filter_pairs_csr=consumed[rows])
        return np.asarray(found).reshape(len(rows), k)

    return lists


def lenskit(users: np.ndarray, items: np.ndarray, consumed: sp.csr_matrix) -> Lists:
    """Its batches over a pipeline, whose scorer has these factors and passes for trained."""
    import pandas as pd
    from lenskit.als import ImplicitMFScorer
    from lenskit.batch import recommend
    from lenskit.data import Vocabulary, from_interactions_df
    from lenskit.pipeline import topn_pipeline
    from lenskit.training import TrainingOptions

    scorer = ImplicitMFScorer(embedding_size=users.shape[1], user_embeddings="prefer")
    scorer.users, scorer.items = Vocabulary(np.arange(len(users)), "user"), Vocabulary(np.arange(len(items)), "item")
    scorer.user_embeddings, scorer.item_embeddings = users, items
    scorer.trained_epochs = 1
    pairs = consumed.tocoo()
    history = pd.DataFrame({"user_id": pairs.row, "item_id": pairs.col})
    pipeline = topn_pipeline(scorer)
    pipeline.train(from_interactions_df(history), TrainingOptions(retrain=False))

    def lists(rows: np.ndarray, k: int) -> np.ndarray:
        found = recommend(pipeline, rows.tolist(), k, n_jobs=len(os.sched_getaffinity(0)))
        return np.array([found.lookup(row).ids() for row in rows.tolist()])

    return lists


def main() -> None:
    peer, folder, most, k = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    users, items = np.load(folder / "users.npy"), np.load(folder / "items.npy")
    lists = {"rectools": rectools, "lenskit": lenskit}[peer](users, items, sp.load_npz(folder / "interactions.npz"))
    rows = np.linspace(0, len(users) - 1, min(len(users), most)).astype(np.int32)
    lists(rows[:10], k)  # loads what is loaded late
    marks = [time.perf_counter()]
    for asked in (rows[:10], rows):
        found = lists(asked, k)
        marks.append(time.perf_counter())
    print(json.dumps({"seconds": marks[2] - 2 * marks[1] + marks[0], "last": found[-1].tolist()}))


if __name__ == "__main__":
    main()
