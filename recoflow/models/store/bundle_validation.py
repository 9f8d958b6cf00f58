"""What makes a bundle contradict itself: shapes, order, numbers that are none.

What belongs here: reasons to refuse a bundle, whoever made it. What does not: whether its files are those that were
written (see `bundle_files`), whether the model is any good (see `promotion_gate`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from recoflow import schema
from recoflow.errors import ModelError

if TYPE_CHECKING:
    from recoflow.models.algorithms.item_encoder import ItemEncoder
    from recoflow.models.algorithms.scorer import Scorer
    from recoflow.models.store.bundle import Bundle

RETRAIN: Final = "Materialize factors again, or roll back to another version"


def check_bundle(bundle: Bundle, culprit: str) -> None:
    """Refuse a bundle that contradicts itself.

    Raises:
        ModelError: naming the part.
    """
    users, items = len(bundle.subjects), bundle.items.height
    _refuse_unless(bundle.items.schema == schema.ITEMS, f"{culprit}/items.parquet", "has other columns than ITEMS")
    _refuse_unless(_is_ascending(bundle.subjects), f"{culprit}/subjects.npy", "is not sorted and unique")
    ordered = bundle.items["item_id"].null_count() == 0 and bundle.items["item_id"].is_sorted()
    _refuse_unless(
        ordered and bundle.items["item_id"].n_unique() == items, f"{culprit}/items.parquet", "is not sorted and unique"
    )
    _check_array(bundle.popular, (items,), f"{culprit}/popular.npy")
    _check_array(bundle.trending, (items,), f"{culprit}/trending.npy")
    _check_array(bundle.signatures, (users,), f"{culprit}/signatures.npy")
    check_csr(f"{culprit}/seen", bundle.seen_indptr, bundle.seen_indices, (users, items))
    _check_array(bundle.seen_types, bundle.seen_indices.shape, f"{culprit}/seen_types.npy")
    _check_scorer(bundle.scorer, (users, items), f"{culprit}/")
    if bundle.item_encoder is not None:
        _check_encoder(bundle.item_encoder, bundle.item_factors.shape[-1], culprit)
    for name, scorer in bundle.alternatives.items():
        _check_scorer(scorer, (users, items), f"{culprit}: model {name}: ")


def _check_encoder(encoder: ItemEncoder, factors: int, culprit: str) -> None:
    _refuse_unless(_is_ascending(encoder.features), f"{culprit}/encoder_features.npy", "is not sorted and unique")
    _check_array(encoder.idf, (len(encoder.features),), f"{culprit}/encoder_idf.npy")
    _check_array(encoder.weights, (len(encoder.features), factors), f"{culprit}/encoder_weights.npy")
    _check_array(encoder.mean, (factors,), f"{culprit}/encoder_mean.npy")


def _check_scorer(scorer: Scorer, shape: tuple[int, int], culprit: str) -> None:
    users, items = shape
    factors = scorer.item_factors.shape[-1]
    _check_array(scorer.user_factors, (users, factors), f"{culprit}user_factors.npy")
    _check_array(scorer.item_factors, (items, factors), f"{culprit}item_factors.npy")
    if scorer.projection is not None:
        columns = sum(encoder.columns for encoder in scorer.encoders if encoder.kind == "linear")
        _check_array(scorer.projection, (items, columns), f"{culprit}projection.npy")
    has_half = (scorer.history is None) != (scorer.similarity is None)
    _refuse_unless(not has_half, f"{culprit}similarity", "has half a similarity model")
    for name, rows in (("history", users), ("similarity", items)):
        matrix = getattr(scorer, name)
        if matrix is not None:
            _refuse_unless(matrix.shape == (rows, items), f"{culprit}{name}", "has another shape than its ids")
            _refuse_unless(bool(np.isfinite(matrix.data).all()), f"{culprit}{name}", "holds NaN or infinity")


def check_csr(culprit: str, indptr: NDArray[Any], indices: NDArray[Any], shape: tuple[int, int]) -> None:
    """Refuse a CSR structure that does not fit its shape.

    Raises:
        ModelError: naming the part.
    """
    rows, columns = shape
    is_whole = (
        len(indptr) == rows + 1 and indptr[0] == 0 and indptr[-1] == len(indices) and not (np.diff(indptr) < 0).any()
    )
    _refuse_unless(is_whole, f"{culprit}_indptr.npy", "does not delimit its rows")
    within = not len(indices) or (int(indices.min()) >= 0 and int(indices.max()) < columns)
    _refuse_unless(within, f"{culprit}_indices.npy", "points outside the items")


def _check_array(array: NDArray[Any], shape: tuple[int, ...], culprit: str) -> None:
    _refuse_unless(array.shape == shape, culprit, f"has shape {array.shape} instead of {shape}")
    _refuse_unless(bool(np.isfinite(array).all()), culprit, "holds NaN or infinity")


def _is_ascending(ids: NDArray[np.str_]) -> bool:
    return bool((ids[1:] > ids[:-1]).all())


def _refuse_unless(is_right: bool, culprit: str, problem: str) -> None:
    if not is_right:
        raise ModelError(culprit, problem, RETRAIN)
