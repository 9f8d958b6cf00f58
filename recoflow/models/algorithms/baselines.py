"""Models without personal taste: popular, trending and newest, as factors of rank 1.

What belongs here: orders of items that are the same for everyone. They compete with the others, and a campaign can name
them. What does not: the fallback list itself (a campaign builds it from the bundle's `popular`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recoflow.models.algorithms.encoder import UserEncoder
from recoflow.models.algorithms.matrix import UserItems
from recoflow.models.algorithms.scorer import Scorer


def popular(data: UserItems) -> Scorer:
    """Items by distinct subjects.

    Cremonesi et al. 2010, "Performance of recommender algorithms on top-N recommendation tasks", RecSys.
    """
    return _for_everyone(data, data.popularity())


def trending(data: UserItems) -> Scorer:
    """Items by distinct subjects, each fading with the age of its last event; the data's newest event is now.

    Ji et al. 2020, "A Re-visit of the Popularity Baseline in Recommender Systems", SIGIR.
    """
    return _for_everyone(data, data.trend())


def newest(data: UserItems) -> Scorer:
    """Items by time of publication, or of their first interaction, the latest first; 1 for the newest, > 0 for all."""
    _, place = np.unique(data.born_at, return_inverse=True)
    return _for_everyone(data, (place + 1) / (place.max(initial=0) + 1))


def _for_everyone(data: UserItems, scores: NDArray[np.floating]) -> Scorer:
    everyone = np.ones((data.shape[0], 1), np.float32)
    return Scorer(everyone, scores.astype(np.float32).reshape(-1, 1), encoders=(UserEncoder("constant", 1),))
