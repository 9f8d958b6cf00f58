"""Item factors, prepared for exact search (see `top_k`).

What belongs here: the order of the search and the coordinates in which scores are bounded. What does not:
users' lists.

Scores do not change when users are multiplied by an invertible matrix and items by its inverse, but the bound
norm(user) × norm(item) does. `_balance` takes the coordinates in which users and items have the same diagonal
covariance (those of the score matrix's singular value decomposition, its singular values shared evenly). They minimize
the mean of norm(user)² × norm(item)²; on ALS factors they about halve the share of items that has to be scanned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from recoflow.compute.thread_pool import thread_pool
from recoflow.errors import ModelError
from recoflow.ranking import quantization

if TYPE_CHECKING:
    from typing import Any, TypeVar

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]
    Integers = NDArray[np.int32]
    Longs = NDArray[np.int64]
    Booleans = NDArray[np.bool_]
    Array = TypeVar("Array", bound=NDArray[Any])

SAMPLE = 8192
BLOCK = 8192
"""Rows that are made doubles at once: those of all items together are memory that is new, and takes longer to get."""
UNDERFLOW = 2.0**-116
"""More than the largest product of two rows of integers times the smallest float32 number."""


@dataclass(frozen=True)
class ItemIndex:
    """Item factors in the order in which they are searched; made once per model by `prepare`.

    Attributes:
        factors: float32 [items × f], as they were given.
        lengths: float64 [scored], norms of the rows of `factors`, in the order of the search.
        norms: float64 [scored], norms of the rows that are not zero, in balanced coordinates, longest first.
        panels: int32 [panels × pairs × PANEL], these rows as integers (see `quantization`).
        order: int32 [scored], the item index of each of these rows.
        position: int32 [items], the row of each item index, -1 where there is none.
        zeros: int32, items whose factors are zero, ascending: their score is 0 for every user.
        to_balanced: float64 [f × f], turns users into balanced coordinates.
        distortion: how much the change of coordinates may change a score, as a share of norm(user) × norm(item).
    """

    factors: Floats
    lengths: Doubles
    norms: Doubles
    panels: Integers
    order: Integers
    position: Integers
    zeros: Integers
    to_balanced: Doubles
    distortion: float

    def restrict(self, mask: Booleans) -> ItemIndex:
        """The index of the items that `mask` [items] allows."""
        rows = np.flatnonzero(mask[self.order])
        return ItemIndex(
            factors=self.factors,
            lengths=self.lengths[rows],
            norms=self.norms[rows],
            panels=quantization.panels(quantization.unpacked(self.panels, rows)),
            order=self.order[rows],
            position=_positions(self.order[rows], len(self.position)),
            zeros=self.zeros[mask[self.zeros]],
            to_balanced=self.to_balanced,
            distortion=self.distortion,
        )

    @cached_property
    def allowed(self) -> Integers:
        """All items of the index, ascending: what a user with no factors gets."""
        return np.sort(np.concatenate([self.order, self.zeros]))

    @cached_property
    def units(self) -> Floats:
        """What a product with a row's integers is multiplied by, beside the user's unit: float32 [panels * PANEL].

        Behind the last row it is NaN, so that no bound there reaches any floor.
        """
        units = np.full(len(self.panels) * quantization.PANEL, np.nan, np.float32)
        units[: len(self.norms)] = self.norms / self.norms.max(initial=0.0) / quantization.LARGEST
        return units

    def user_units(self, norms: Doubles) -> Floats:
        """The same for users of these balanced norms: float32 [users]; the longest item's norm is in it."""
        units: Floats = (norms * self.norms.max(initial=0.0) / quantization.LARGEST).astype(np.float32)
        return units

    def leeway(self, lengths: Doubles, units: Floats) -> Floats:
        """How far scores may be from product × units, beside `quantization.margin`, for users of these norms as given.

        That is what the change of coordinates distorts, and what underflows where their `units` are multiplied.
        """
        change = self.distortion * lengths * self.lengths.max(initial=0.0)
        leeway: Floats = (change + UNDERFLOW * (1.0 + units)).astype(np.float32)
        return np.nextafter(leeway, np.float32(np.inf), dtype=np.float32)


def prepare(item_factors: Floats, user_factors: Floats | None = None) -> ItemIndex:
    """Sort item factors [items × f] for `top_k`; `user_factors` [any × f], if known, make the search faster.

    Raises:
        ModelError: factors that are not a matrix of finite numbers.
    """
    factors, lengths = measure(item_factors, "item factors")
    columns = factors.shape[1]
    scored = np.flatnonzero(lengths)
    # Users who are not known are taken to point in all directions alike.
    users = np.eye(columns, dtype=np.float32) if user_factors is None else user_factors
    if users.shape[1:] != (columns,):
        problem = f"have the shape {users.shape}, the items' have {columns} columns"
        raise ModelError("user factors", problem, "Use both factors of the same model.")
    with thread_pool(1):  # threads of BLAS would spin for longer than these small products take
        to_balanced, from_balanced = _balance(factors[scored], users)
        norms, rows = _balanced(factors, scored, from_balanced)
    ranks = np.argsort(-norms, kind="stable")
    order = scored[ranks].astype(np.int32)
    return ItemIndex(
        factors=factors,
        lengths=lengths[order],
        norms=norms[ranks],
        panels=quantization.panels(rows[ranks]),
        order=order,
        position=_positions(order, len(factors)),
        zeros=np.flatnonzero(lengths == 0.0).astype(np.int32),
        to_balanced=to_balanced,
        distortion=_distortion(to_balanced, from_balanced),
    )


def measure(values: Floats, name: str) -> tuple[Floats, Doubles]:
    """The factors as one read-only block, and the norms of their rows, which are finite only where all values are."""
    factors = np.ascontiguousarray(values, np.float32)
    if factors.ndim != 2:
        raise ModelError(name, f"have {factors.ndim} dimensions", "Pass a matrix with one row of factors each.")
    norms = np.sqrt(np.einsum("ij,ij->i", factors, factors, dtype=np.float64))
    if not np.isfinite(norms).all():
        raise ModelError(name, "hold a value that is not a finite number", "Train the model again.")
    return frozen(factors), norms


def frozen(array: Array) -> Array:
    """A read-only view: whether or not it came from a memory map, it has one type for the compiled kernels."""
    view = array.view()
    view.flags.writeable = False
    return view


def _balance(items: Floats, users: Floats) -> tuple[Doubles, Doubles]:
    """Matrices T and A = inverse of T: rows of users × T and of items × Aᵀ have the same diagonal covariance."""
    columns = items.shape[1]
    users, norms = measure(_sample(users), "user factors")
    # A user's norm cancels out of the comparison with the user's own k-th score, so all users count alike.
    directions = users[norms > 0.0] / norms[norms > 0.0][:, None]
    lower = np.linalg.cholesky(_covariance(_sample(items)))
    values, vectors = np.linalg.eigh(lower.T @ _covariance(directions) @ lower)
    values, vectors = values[::-1], vectors[:, ::-1]
    stretch = np.maximum(values, values[0] * 1e-12) ** 0.25 if columns else values
    to_balanced = lower @ vectors / stretch
    return to_balanced, np.linalg.inv(to_balanced)


def _balanced(factors: Floats, scored: Longs, from_balanced: Doubles) -> tuple[Doubles, Integers]:
    """Norms of the `scored` rows in balanced coordinates, and these rows as integers."""
    norms, rows = [np.empty(0)], [np.empty((0, -(-factors.shape[1] // 2)), np.int32)]
    for begin in range(0, len(scored), BLOCK):
        balanced = factors[scored[begin : begin + BLOCK]] @ from_balanced.T
        norms.append(np.sqrt(np.einsum("ij,ij->i", balanced, balanced)))
        rows.append(quantization.integers(balanced, norms[-1]))
    return np.concatenate(norms), np.concatenate(rows)


def _sample(rows: Floats) -> Floats:
    return rows[:: max(1, len(rows) // SAMPLE)]


def _covariance(rows: Floats | Doubles) -> Doubles:
    """The covariance around zero in float64, scaled to trace f, and regular whatever the rows are."""
    columns = rows.shape[1]
    rows = rows.astype(np.float64)
    covariance = rows.T @ rows
    trace = np.trace(covariance)
    scaled = covariance * (columns / trace) if trace > 0.0 else np.zeros_like(covariance)
    return scaled + 1e-6 * np.eye(columns)


def _distortion(to_balanced: Doubles, from_balanced: Doubles) -> float:
    """A bound of |(u T)(A v) - u v| / (norm(u) norm(v)) in float64: what T A lacks to 1, and three roundings."""
    columns = len(to_balanced)
    size = float(np.linalg.norm(to_balanced) * np.linalg.norm(from_balanced))
    return float(np.linalg.norm(to_balanced @ from_balanced - np.eye(columns))) + 4 * columns * 2.0**-53 * size


def _positions(order: Integers, items: int) -> Integers:
    position = np.full(items, -1, np.int32)
    position[order] = np.arange(len(order), dtype=np.int32)
    return position
