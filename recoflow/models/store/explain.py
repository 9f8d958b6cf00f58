"""Why an item is recommended: what each item of a person's history adds to its score.

What belongs here: the parts of a score, and the largest of them. What does not: which lists are explained (campaigns).

A model that is linear in the history is a sum over it as it stands. Factors that solve a least-squares problem are one
too (Hu, Koren & Volinsky 2008, "Collaborative Filtering for Implicit Feedback Datasets", ICDM, section 5): with c the
confidences of the history, y the item factors and r the ridge,

    score = y_i · x,   A x = Σ_j c_j y_j,   A = α Σ_all y yᵀ + r I + Σ_j c_j y_j y_jᵀ,   so j adds c_j y_iᵀ A⁻¹ y_j

In the basis in which Σ_all y yᵀ is diagonal, only the history's part of A is not. So a person costs a system as large
as the history or the factors, whichever are fewer (Woodbury's identity).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recoflow.compute.thread_pool import thread_pool
from recoflow.models.algorithms.encoder import UserEncoder
from recoflow.models.algorithms.matrix import Matrix
from recoflow.models.algorithms.scorer import Scorer

PIECE: Final = 128  # items of one list that are explained at once
BLOCK_LISTS: Final = 1024
BLOCK_CELLS: Final = 1 << 20  # numbers of each kind that a thread holds

Longs = NDArray[np.int64]
Indices = NDArray[np.int32]


@dataclass(frozen=True)
class _Block:
    """Histories and asked items of some lists, padded to rectangles; padding has confidence 0.

    Attributes:
        history: int64 [lists × entries], ascending within a list.
        confidences: float32 [lists × entries].
        lengths: int64 [lists], entries without padding.
        asked: int64 [lists × asked].
    """

    history: Longs
    confidences: Matrix
    lengths: Longs
    asked: Longs

    @property
    def damped(self) -> Matrix:
        """As `scorer.damped` has them."""
        roots = np.sqrt(self.confidences.sum(1, keepdims=True))
        return np.asarray(self.confidences / np.maximum(roots, np.float32(1e-12)), np.float32)


class Explainer:
    """Finds the reasons of items in the histories of people, for one model.

    Args:
        scorer: a model of which `can_explain` is true.
        weights: CSR [users × items] as in INTERACTIONS, with rows for the scorer's users, column indices sorted. Models
            that keep the history themselves do without.
        piece: items of one list that are explained at once.
        block_cells: numbers of each kind that a thread holds, about.

    Raises:
        ValueError: the weights are missing.
    """

    def __init__(
        self,
        scorer: Scorer,
        weights: sparse.csr_matrix | None,
        *,
        piece: int = PIECE,
        block_cells: int = BLOCK_CELLS,
    ) -> None:
        self._piece, self._block_cells = piece, block_cells
        if scorer.history is not None:
            self._histories = _sorted(scorer.history)
        elif weights is not None:
            self._histories = scorer.confidence.apply(weights)
        else:
            raise ValueError("this model keeps no history; its users' weights are needed")
        self._is_damped = scorer.history is not None
        self._similarity = None if scorer.similarity is None else _sorted(scorer.similarity)
        self._width = max((encoder.columns for encoder in scorer.encoders), default=0)
        self._parts: list[_LeastSquares | _Linear] = []
        column = projected = 0
        for encoder in scorer.encoders:
            factors = scorer.item_factors[:, column : column + encoder.columns]
            if encoder.kind == "least_squares":
                self._parts.append(_LeastSquares(factors, encoder))
            elif encoder.kind == "linear" and scorer.projection is not None:
                stop = projected + encoder.columns
                self._parts.append(_Linear(scorer.projection[:, projected:stop], factors, encoder))
                projected = stop
            column += encoder.columns

    def reasons(self, users: Longs, lengths: Longs, items: Indices | Longs) -> Longs:
        """The item of the user's history that adds most to each item's score; -1 where none adds anything.

        Equal ones by their number; an item is never its own reason. The result does not depend on the threads.

        Args:
            users: the row of each list.
            lengths: how many items each list has.
            items: the lists' items, one list behind the other.

        Returns:
            int64, aligned with `items`.
        """
        found, wanted = np.full(len(items), -1, np.int64), items.astype(np.int64)
        pieces = _pieces(self._entries(users), lengths, self._piece)

        def explain(some: Longs) -> None:
            lists, begins, counts = pieces[some].T
            is_asked = np.arange(counts.max()) < counts[:, None]
            places = np.where(is_asked, begins[:, None] + np.arange(counts.max()), 0)
            found[places[is_asked]] = self._best(users[lists], wanted[places])[is_asked]

        with thread_pool() as threads:
            list(threads.map(explain, self._blocks(self._entries(users)[pieces[:, 0]], pieces[:, 2])))
        return found

    def contributions(self, users: Longs, asked: Longs) -> tuple[Longs, Matrix]:
        """What each item of the histories adds to the scores of some items.

        Args:
            users: with a history each [users].
            asked: items, [users × asked].

        Returns:
            The items of the histories [users × entries], padded behind their ends, and what they add, float32
            [users × entries × asked], 0 for padding. The sum over the entries is the score, but for parts of a blend
            that are the same for everyone.
        """
        from recoflow.models.algorithms import kernels  # noqa: PLC0415 - numba is heavy

        block = self._block(users, asked)
        total = np.zeros((*block.history.shape, asked.shape[1]), np.float32)
        for part in self._parts:
            part.add(block, total)
        if self._similarity is not None:
            matrix = self._similarity
            kernels.add_similar(
                matrix.indptr, matrix.indices, matrix.data, block.history, block.damped, block.asked, total
            )
        return block.history, total

    def _entries(self, users: Longs) -> Longs:
        return np.asarray(self._histories.indptr[users + 1] - self._histories.indptr[users], np.int64)

    def _best(self, users: Longs, asked: Longs) -> Longs:
        history, added = self.contributions(users, asked)
        added[history[:, :, None] == asked[:, None, :]] = 0
        best = added.argmax(1)  # the first of equal ones
        most = np.take_along_axis(added, best[:, None], 1)[:, 0]
        return np.where(most > 0, np.take_along_axis(history, best, 1), -1)

    def _block(self, users: Longs, asked: Longs) -> _Block:
        lengths = self._entries(users)
        is_entry = np.arange(lengths.max()) < lengths[:, None]
        places = np.where(is_entry, self._histories.indptr[users][:, None] + np.arange(lengths.max()), 0)
        history = np.where(is_entry, self._histories.indices[places], 0).astype(np.int64)
        values = np.where(is_entry, self._histories.data[places], 0).astype(np.float32)
        if self._is_damped:  # h = c / √Σc, so that Σh = √Σc
            values *= values.sum(1, keepdims=True)
        return _Block(history, values, lengths, asked.astype(np.int64))

    def _blocks(self, entries: Longs, counts: Longs) -> Iterator[Longs]:
        """Stretches of pieces, in the order of their entries, that hold about `block_cells` numbers of a kind."""
        begin = 0
        while begin < len(entries):
            stretch = slice(begin, begin + BLOCK_LISTS)
            asked = np.maximum.accumulate(counts[stretch])
            cells = np.maximum(entries[stretch] + asked, self._width) * np.maximum(entries[stretch], self._width)
            fitting = np.arange(1, len(cells) + 1) * cells <= self._block_cells
            end = begin + max(1, int(np.count_nonzero(fitting)))
            yield np.arange(begin, end)
            begin = end


def can_explain(scorer: Scorer) -> bool:
    """Whether scores of this model are sums over the history.

    Not so where a part of it has users whom their history does not determine (BPR), or nothing in it looks at the
    history. What is the same for everyone may be part of a blend: it is no item's merit.
    """
    kinds = {encoder.kind for encoder in scorer.encoders}
    is_sum = all(encoder.is_exact for encoder in scorer.encoders if encoder.kind == "least_squares")
    return is_sum and (scorer.history is not None or "least_squares" in kinds)


def needs_weights(scorer: Scorer) -> bool:
    """Whether a model that can explain lacks the histories that it would need."""
    return can_explain(scorer) and scorer.history is None


class _LeastSquares:
    """Factors that solve the least-squares problem of the module's docstring."""

    def __init__(self, factors: Matrix, encoder: UserEncoder) -> None:
        wide = np.asarray(factors, np.float64)
        values, basis = np.linalg.eigh(encoder.alpha * (wide.T @ wide))
        self._factors = np.ascontiguousarray(wide @ basis, np.float32)
        self._diagonal = np.maximum(values, 0)
        self._encoder = encoder

    def add(self, block: _Block, total: Matrix) -> None:
        """Add what the histories add, in place [lists × entries × asked]."""
        encoder, items = self._encoder, len(self._factors)
        ridge = encoder.regularization * (block.lengths + encoder.alpha * items) ** encoder.exponent
        diagonal = np.maximum(self._diagonal + ridge[:, None], 1e-30).astype(np.float32)
        roots = np.sqrt(block.confidences)[:, :, None]
        given = roots * self._factors[block.history]
        wanted = self._factors[block.asked].swapaxes(1, 2)
        if given.shape[1] <= given.shape[2]:
            scaled = given / diagonal[:, None, :]
            system = scaled @ given.swapaxes(1, 2)
            _add_to_diagonals(system, np.ones((1, 1), np.float32))
            solved = np.linalg.solve(system, scaled @ wanted)
        else:
            system = given.swapaxes(1, 2) @ given
            _add_to_diagonals(system, diagonal)
            solved = given @ np.linalg.solve(system, wanted)
        total += np.float32(encoder.weight) * roots * solved


class _Linear:
    """Factors that are history × projection."""

    def __init__(self, projection: Matrix, factors: Matrix, encoder: UserEncoder) -> None:
        self._projection = projection
        self._factors = factors
        self._weight = np.float32(encoder.weight)

    def add(self, block: _Block, total: Matrix) -> None:
        """Add what the histories add, in place [lists × entries × asked]."""
        given = (self._weight * block.damped)[:, :, None] * self._projection[block.history]
        total += given @ self._factors[block.asked].swapaxes(1, 2)


def _sorted(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    return matrix if matrix.has_sorted_indices else matrix.sorted_indices()


def _add_to_diagonals(matrices: Matrix, values: Matrix) -> None:
    places = np.arange(matrices.shape[1])
    matrices[:, places, places] += values


def _pieces(entries: Longs, lengths: Longs, size: int) -> Longs:
    """Stretches of up to `size` items of lists with entries: (list, first item, items), the longest histories last."""
    begins = np.cumsum(lengths) - lengths
    pieces = -(-np.where(entries > 0, lengths, 0) // size)
    lists = np.repeat(np.arange(len(lengths)), pieces)
    skipped = size * (np.arange(len(lists)) - np.repeat(np.cumsum(pieces) - pieces, pieces))
    counts = np.minimum(lengths[lists] - skipped, size)
    found = np.stack([lists, begins[lists] + skipped, counts], axis=1)
    return found[np.lexsort((counts, entries[lists]))]
