"""Compiled loops of training and evaluation.

What belongs here: numba functions over plain arrays, without the GIL. What does not: checks of arguments and defaults.
Import this module inside the function that needs it: it compiles on first use and is cached beside the package.
"""

from __future__ import annotations

import numpy as np

from recoflow.compiled import compiled, compiled_loosely

TOGETHER = 8  # rows of one conjugate gradient: with 50 to 200 entries each, their vectors fit into a core's own cache


@compiled
def top_k(scores, rows, indptr, indices, lists):  # type: ignore[no-untyped-def]
    """Fill `lists` int32 [block × k] with the best columns of `scores` float32 [block × items], best first.

    Columns in the CSR row `rows[i]` of (indptr, indices) are left out: their scores become −∞. So are scores of −∞ and
    NaN. Equal scores rank by column; places that stay empty hold −1.
    """
    k = lists.shape[1]
    best = np.empty(k, np.float32)
    for row in range(scores.shape[0]):
        best[:] = -np.inf
        lists[row] = -1
        for entry in range(indptr[rows[row]], indptr[rows[row] + 1]):
            scores[row, indices[entry]] = -np.inf
        bar = best[k - 1]
        for column in range(scores.shape[1]):
            score = scores[row, column]
            if score > bar:
                place = k - 1
                while place > 0 and score > best[place - 1]:
                    best[place] = best[place - 1]
                    lists[row, place] = lists[row, place - 1]
                    place -= 1
                best[place] = score
                lists[row, place] = column
                bar = best[k - 1]


@compiled_loosely
def remainders(indptr, indices, weights, given, gram, ridge, target, vectors, out):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """out[r] = Σ_e w_e (target − y_e · v_r) y_e − (G + ridge_r) v_r, for the entries e of CSR row r."""
    np.dot(vectors, gram, out)
    for row in range(vectors.shape[0]):
        vector, total = vectors[row], out[row]
        for column in range(len(vector)):
            total[column] = -total[column] - ridge[row] * vector[column]
        for entry in range(indptr[row], indptr[row + 1]):
            other = given[indices[entry]]
            product = np.float32(0)
            for column in range(len(vector)):
                product += other[column] * vector[column]
            product = weights[entry] * (target - product)
            for column in range(len(vector)):
                total[column] += product * other[column]


@compiled_loosely
def step(solution, residual, direction, image, size):  # type: ignore[no-untyped-def]
    """One step of conjugate gradient along `direction`, whose image under the matrix is −`image`, and the new |r|²."""
    curvature = np.float32(0)
    for column in range(len(solution)):
        curvature -= direction[column] * image[column]
    length = size / max(curvature, np.float32(1e-30))
    shorter = np.float32(0)
    for column in range(len(solution)):
        solution[column] += length * direction[column]
        residual[column] += length * image[column]
        shorter += residual[column] ** 2
    share = shorter / max(size, np.float32(1e-30))
    for column in range(len(solution)):
        direction[column] = residual[column] + share * direction[column]
    return shorter


@compiled_loosely
def conjugate_gradient(indptr, indices, weights, given, gram, ridge, solved, steps):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Bring `solved` float32 [rows × f] nearer to (G + ridge_r + Σ_e w_e y_e y_eᵀ) x_r = Σ_e w_e y_e, in place.

    A few rows go together: the Gram matrix G [f × f] is read once for them, and their y_e stay in the cache.
    """
    size = np.empty(TOGETHER, np.float32)
    for start in range(0, len(solved), TOGETHER):
        some, bounds, ridges = solved[start : start + TOGETHER], indptr[start:], ridge[start:]
        residual, image = np.empty_like(some), np.empty_like(some)
        remainders(bounds, indices, weights, given, gram, ridges, np.float32(1), some, residual)
        direction = residual.copy()
        for row in range(len(some)):
            size[row] = (residual[row] ** 2).sum()
        for _ in range(steps):
            remainders(bounds, indices, weights, given, gram, ridges, np.float32(0), direction, image)
            for row in range(len(some)):
                size[row] = step(some[row], residual[row], direction[row], image[row], size[row])


@compiled
def add_similar(indptr, indices, data, history, weights, asked, total):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Add weights[b, j] · S[history[b, j], asked[b, k]] to total[b, j, k], S being CSR with sorted indices."""
    for block in range(history.shape[0]):
        for entry in range(history.shape[1]):
            weight = weights[block, entry]
            if weight == 0:
                continue
            begin, end = indptr[history[block, entry]], indptr[history[block, entry] + 1]
            row = indices[begin:end]
            for place in range(asked.shape[1]):
                found = np.searchsorted(row, asked[block, place])
                if found < len(row) and row[found] == asked[block, place]:
                    total[block, entry, place] += weight * data[begin + found]


@compiled_loosely
def observed_loss(indptr, indices, weights, users, items):  # type: ignore[no-untyped-def]
    """Σ_e w_e (1 − x·y)² over the entries e of a CSR matrix, float64."""
    total = 0.0
    for row in range(len(indptr) - 1):
        for entry in range(indptr[row], indptr[row + 1]):
            other = items[indices[entry]]
            product = np.float32(0)
            for column in range(users.shape[1]):
                product += users[row, column] * other[column]
            total += weights[entry] * (np.float32(1) - product) ** 2
    return total


@compiled
def largest_per_row(indptr, indices, data, keep, kept_indices, kept_data, lengths):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Copy the `keep` largest entries of each CSR row, in the order of their columns; equal ones by column."""
    for row in range(len(indptr) - 1):
        begin, end = indptr[row], indptr[row + 1]
        bar, ties = np.float32(-np.inf), end - begin
        if end - begin > keep:
            bar = np.partition(data[begin:end], end - begin - keep)[end - begin - keep]
            ties = keep - np.count_nonzero(data[begin:end] > bar)
        place = 0
        for entry in range(begin, end):
            if data[entry] == bar:
                ties -= 1
            if data[entry] > bar or (data[entry] == bar and ties >= 0):
                kept_indices[row, place] = indices[entry]
                kept_data[row, place] = data[entry]
                place += 1
        lengths[row] = place
