"""Compiled loops of training and evaluation.

What belongs here: numba functions over plain arrays, without the GIL. What does not: checks of arguments and defaults.
Import this module inside the function that needs it: it compiles on first use and is cached beside the package.
"""

from __future__ import annotations

import numpy as np

from recoflow.compute.jit import jit, jit_fastmath

TOGETHER = 32  # rows of one conjugate gradient at most: the Gram matrix is multiplied once for all of them
NEAR = 1 << 19  # numbers that are laid side by side for them: 2 MiB are read again and again at a core's full speed
LOOK = 64  # columns that are looked over at once for any that belongs into a list: few do


@jit
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
        for start in range(0, scores.shape[1], LOOK):
            stop, better = min(start + LOOK, scores.shape[1]), 0
            for column in range(start, stop):
                better += scores[row, column] > best[k - 1]
            if better:
                insert(scores[row], start, stop, best, lists[row])


@jit
def insert(scores, start, stop, best, found):  # type: ignore[no-untyped-def]
    """Put the columns from `start` to `stop` that belong there among the `best` scores and the columns `found`."""
    for column in range(start, stop):
        score = scores[column]
        if score > best[-1]:
            place = len(best) - 1
            while place > 0 and score > best[place - 1]:
                best[place] = best[place - 1]
                found[place] = found[place - 1]
                place -= 1
            best[place] = score
            found[place] = column


@jit_fastmath
def remainders(indptr, indices, weights, given, gram, ridge, target, vectors, out):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """out[r] = Σ_e w_e (target − y_e · v_r) y_e − (G + ridge_r) v_r, for the entries e of CSR row r.

    `indices` and `weights` begin with the entries of the first row. Four entries go together: `v_r` and `out` are then
    read and written a fourth as often.
    """
    np.dot(vectors, gram, out)
    for row in range(vectors.shape[0]):
        for column in range(vectors.shape[1]):
            out[row, column] = -out[row, column] - ridge[row] * vectors[row, column]
        begin, end = indptr[row] - indptr[0], indptr[row + 1] - indptr[0]
        fours = end - (end - begin) % 4
        for entry in range(begin, fours, 4):
            a, b, c, d = indices[entry], indices[entry + 1], indices[entry + 2], indices[entry + 3]
            of_a = of_b = of_c = of_d = np.float32(0)
            for column in range(vectors.shape[1]):
                of_a += given[a, column] * vectors[row, column]
                of_b += given[b, column] * vectors[row, column]
                of_c += given[c, column] * vectors[row, column]
                of_d += given[d, column] * vectors[row, column]
            of_a, of_b = weights[entry] * (target - of_a), weights[entry + 1] * (target - of_b)
            of_c, of_d = weights[entry + 2] * (target - of_c), weights[entry + 3] * (target - of_d)
            for column in range(vectors.shape[1]):
                half = of_a * given[a, column] + of_b * given[b, column]
                out[row, column] += half + (of_c * given[c, column] + of_d * given[d, column])
        for entry in range(fours, end):
            a, of_a = indices[entry], np.float32(0)
            for column in range(vectors.shape[1]):
                of_a += given[a, column] * vectors[row, column]
            of_a = weights[entry] * (target - of_a)
            for column in range(vectors.shape[1]):
                out[row, column] += of_a * given[a, column]


@jit_fastmath
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


@jit_fastmath
def descend(indptr, indices, weights, given, gram, ridge, solved, steps):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Steps of conjugate gradient for a few rows at once, whose entries `indices` and `weights` begin with."""
    residual, image = np.empty_like(solved), np.empty_like(solved)
    remainders(indptr, indices, weights, given, gram, ridge, np.float32(1), solved, residual)
    direction, size = residual.copy(), np.empty(len(solved), np.float32)
    for row in range(len(solved)):
        size[row] = (residual[row] ** 2).sum()
    for _ in range(steps):
        remainders(indptr, indices, weights, given, gram, ridge, np.float32(0), direction, image)
        for row in range(len(solved)):
            size[row] = step(solved[row], residual[row], direction[row], image[row], size[row])


@jit
def gather(given, indices, near):  # type: ignore[no-untyped-def]
    """Copy rows of `given` to the beginning of `near`."""
    for place in range(len(indices)):
        row = indices[place]
        for column in range(given.shape[1]):
            near[place, column] = given[row, column]


@jit
def conjugate_gradient(indptr, indices, weights, given, gram, ridge, solved, steps):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Bring `solved` float32 [rows × f] nearer to (G + ridge_r + Σ_e w_e y_e y_eᵀ) x_r = Σ_e w_e y_e, in place.

    A few rows go together. Their y_e, which each step reads twice, are copied out of `given` once; those of a row with
    too many entries stay where they are.
    """
    most = NEAR // given.shape[1]
    near, places = np.empty((most, given.shape[1]), np.float32), np.arange(most).astype(np.int32)
    start = 0
    while start < len(solved):
        stop = start + 1
        while stop < min(start + TOGETHER, len(solved)) and indptr[stop + 1] - indptr[start] <= most:
            stop += 1
        begin, end = indptr[start], indptr[stop]
        bounds, ridges, some = indptr[start : stop + 1], ridge[start:stop], solved[start:stop]
        if end - begin <= most:
            gather(given, indices[begin:end], near)
            descend(bounds, places, weights[begin:end], near, gram, ridges, some, steps)
        else:
            descend(bounds, indices[begin:end], weights[begin:end], given, gram, ridges, some, steps)
        start = stop


@jit
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


@jit_fastmath
def observed_loss(indptr, indices, weights, users, items):  # type: ignore[no-untyped-def]
    """Σ_e w_e (1 − x·y)² over the entries e of a CSR matrix, float64."""
    total = 0.0
    for row in range(len(indptr) - 1):
        for entry in range(indptr[row], indptr[row + 1]):
            item, product = indices[entry], np.float32(0)
            for column in range(users.shape[1]):
                product += users[row, column] * items[item, column]
            total += weights[entry] * (np.float32(1) - product) ** 2
    return total


@jit
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
