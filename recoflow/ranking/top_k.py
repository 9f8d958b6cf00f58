"""The scoring core of campaigns: for each user the k best items by inner product, exactly, on all cores.

What belongs here: arrays in, arrays out. What does not: subjects, item ids, configurations, fallback lists.

An answer is defined by exact scores alone: the float64 dot product of a user's and an item's factors, rounded to
float32; larger scores first, equal scores by smaller item index. Products of factors rounded to 16-bit integers only
bound scores (see `quantization`): block after block of items in the order of falling norm, until norm(user) ×
norm(next item) (Cauchy–Schwarz) cannot reach the user's k-th score any more. How factors are rounded, how many threads
run and how users are cut into blocks never changes a byte. Where nothing can be left out, this is a block-wise product
that is faster than float32's, with a selection that costs little beside it.

Sources: LEMP (Teflioudi and Gemulla, TODS 2016), FEXIPRO (Li et al., SIGMOD 2017), MAXIMUS (Abuzaid et al., ICDE 2019).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recoflow.compute.thread_pool import cores
from recoflow.errors import ModelError
from recoflow.ranking.item_index import ItemIndex, frozen, measure, prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]
    Integers = NDArray[np.int32]
    Longs = NDArray[np.int64]
    Booleans = NDArray[np.bool_]

__all__ = ["ItemIndex", "prepare", "top_k"]


def top_k(
    user_factors: Floats,
    item_factors: Floats | ItemIndex,
    k: int,
    *,
    seen_indptr: Longs | None = None,
    seen_indices: Integers | None = None,
    masks: Booleans | None = None,
    mask_of: Integers | None = None,
    threads: int | None = None,
) -> tuple[Integers, Floats]:
    """The k best items of each user, without consumed and filtered items.

    Args:
        user_factors: float32 [n × f]. A row of zeros ties all items: the answer is then the allowed items by index.
        item_factors: float32 [items × f], or the index that `prepare` made of them (to be reused over calls).
        k: the length of the lists.
        seen_indptr: int64 [n + 1], consumed items in CSR form, with `seen_indices`: int32, any order, repeats allowed.
        seen_indices: see `seen_indptr`.
        masks: bool [g × items], allowed items, with `mask_of`: int32 [n], each user's row of `masks`, -1 for none.
        mask_of: see `masks`.
        threads: how many threads rank; by default one for each core that this process may use.

    Returns:
        Item indices int32 [n × k], padded with -1, and scores float32 [n × k], padded with minus infinity.

    Raises:
        ModelError: factors that are not finite or too large for float32 scores, or shapes that do not fit each other.
    """
    from recoflow.ranking.search import Search, search_top_k  # noqa: PLC0415 - imports numba

    if k < 1:
        raise ModelError("k", f"is {k}", "Ask for lists of at least one item.")
    users, lengths = measure(user_factors, "user factors")
    index = item_factors if isinstance(item_factors, ItemIndex) else prepare(item_factors, users)
    _check_scores(users, lengths, index)
    size = len(users), len(index.factors)
    indptr, indices = _consumed(seen_indptr, seen_indices, *size)
    masks, groups = _groups(masks, mask_of, *size)
    items, scores = np.full((len(users), k), -1, np.int32), np.full((len(users), k), -np.inf, np.float32)
    search = Search(users, lengths, index, indptr, indices, masks, items, scores)
    search_top_k(search, groups, threads or cores())
    return items, scores


def _check_scores(users: Floats, lengths: Doubles, index: ItemIndex) -> None:
    if users.shape[1] != index.factors.shape[1]:
        problem = f"have the shape {users.shape}, the items' have {index.factors.shape[1]} columns"
        raise ModelError("user factors", problem, "Use both factors of the same model.")
    stretch = np.linalg.norm(index.to_balanced)
    highest = lengths.max(initial=0.0) * max(index.lengths.max(initial=0.0), stretch * index.norms.max(initial=0.0))
    if highest * 2 > np.finfo(np.float32).max:
        raise ModelError("factors", "are too large for scores in float32", "Train the model again.")


def _consumed(indptr: Longs | None, indices: Integers | None, users: int, items: int) -> tuple[Longs, Integers]:
    if indptr is None and indices is None:
        return frozen(np.zeros(users + 1, np.int64)), frozen(np.empty(0, np.int32))
    if indptr is None or indices is None:
        raise ModelError("consumed items", "come without their other half", "Pass seen_indptr and seen_indices.")
    indptr, indices = np.ascontiguousarray(indptr, np.int64), np.ascontiguousarray(indices, np.int32)
    is_csr = len(indptr) == users + 1 and indptr[0] >= 0 and indptr[-1] <= len(indices) and (np.diff(indptr) >= 0).all()
    if not is_csr:
        raise ModelError("consumed items", f"are not one CSR row for each of {users} users", "Build the model again.")
    if indices.min(initial=0) < 0 or indices.max(initial=-1) >= items:
        raise ModelError("consumed items", f"name an item outside 0…{items - 1}", "Build the model again.")
    return frozen(indptr), frozen(indices)


def _groups(
    masks: Booleans | None, mask_of: Integers | None, users: int, items: int
) -> tuple[Booleans, list[tuple[int, Longs]]]:
    """The users of each mask, ascending: each group is searched in an index of its own."""
    if masks is None and mask_of is None:
        return np.empty((0, items), np.bool_), [(-1, np.arange(users))]
    if masks is None or mask_of is None:
        raise ModelError("masks", "come without their other half", "Pass masks and mask_of.")
    if masks.shape[1:] != (items,) or len(mask_of) != users:
        raise ModelError("masks", "do not fit the users and items", "Pass masks [g × items] and one row per user.")
    if mask_of.min(initial=0) < -1 or mask_of.max(initial=-1) >= len(masks):
        raise ModelError("masks", f"are numbered outside -1…{len(masks) - 1}", "Pass one row of masks per user.")
    rows = np.argsort(mask_of, kind="stable")
    names, sizes = np.unique(mask_of, return_counts=True)
    ends = np.cumsum(sizes)
    groups = [(int(name), rows[end - size : end]) for name, size, end in zip(names, sizes, ends, strict=True)]
    return masks, groups
