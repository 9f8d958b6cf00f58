"""Compiled loops of training and evaluation.

What belongs here: numba functions over plain arrays, without the GIL. What does not: checks of arguments and defaults.
Import this module inside the function that needs it: it compiles on first use and is cached beside the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

_compiled: Callable[..., Any] = numba.njit(cache=True, nogil=True)


@_compiled
def top_k(scores, rows, indptr, indices, lists):  # type: ignore[no-untyped-def]
    """Fill `lists` int32 [block × k] with the best columns of `scores` float32 [block × items], best first.

    Columns in the CSR row `rows[i]` of (indptr, indices sorted) are left out, as are scores of −∞ and NaN. Equal scores
    rank by column; places that stay empty hold −1.
    """
    k = lists.shape[1]
    best = np.empty(k, np.float32)
    for row in range(scores.shape[0]):
        best[:] = -np.inf
        lists[row] = -1
        entry, end = indptr[rows[row]], indptr[rows[row] + 1]
        for column in range(scores.shape[1]):
            score = scores[row, column]
            if entry < end and indices[entry] == column:
                entry += 1
                continue
            if score > best[k - 1]:
                place = k - 1
                while place > 0 and score > best[place - 1]:
                    best[place] = best[place - 1]
                    lists[row, place] = lists[row, place - 1]
                    place -= 1
                best[place] = score
                lists[row, place] = column
