"""The user–item matrix: interactions as sparse rows of subjects and columns of items.

What belongs here: alignment of ids with rows and columns, and what the matrix knows of time. What does not: what a
weight means (that is decided where interactions are built) and what a model makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from recoflow.errors import ModelError

Matrix = NDArray[np.float32]

TREND_HALF_LIFE_DAYS = 7.0
LAST_ASCII = 127
REBUILD = "Materialize interactions again: they are built anew from the events"


@dataclass(frozen=True)
class UserItems:
    """Weighted interactions of subjects (rows) with items (columns), both sorted by id.

    Attributes:
        subjects: ids, unicode, sorted, unique [users].
        items: ids, unicode, sorted, unique [items].
        matrix: CSR float32 [users × items], every stored weight > 0, column indices sorted.
        last_at: microseconds since 1970 of a stored entry's last event, aligned with `matrix.data` [entries].
        born_at: microseconds since 1970 at which an item was published, or else first interacted with [items].
    """

    subjects: NDArray[np.str_]
    items: NDArray[np.str_]
    matrix: sparse.csr_matrix
    last_at: NDArray[np.int64]
    born_at: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        """Users, items."""
        return self.matrix.shape[0], self.matrix.shape[1]

    def popularity(self) -> NDArray[np.float32]:
        """Distinct subjects per item [items]."""
        return np.bincount(self.matrix.indices, minlength=self.shape[1]).astype(np.float32)

    def trend(self, half_life_days: float = TREND_HALF_LIFE_DAYS) -> NDArray[np.float32]:
        """Distinct subjects per item, each counting half for every half-life before the newest event [items].

        The clock is the data's own: the newest event of the matrix is now.
        """
        if not self.matrix.nnz:
            return np.zeros(self.shape[1], np.float32)
        age_days = (self.last_at.max() - self.last_at) / 86_400e6
        weight = np.exp2(-age_days / half_life_days)
        return np.bincount(self.matrix.indices, weight, minlength=self.shape[1]).astype(np.float32)


def from_interactions(
    frame: pl.DataFrame,
    *,
    subjects: NDArray[np.str_] | None = None,
    items: NDArray[np.str_] | None = None,
    catalogue: pl.DataFrame | None = None,
) -> UserItems:
    """Build the matrix from INTERACTIONS (one row per subject and item; weights ≤ 0 are left out).

    Args:
        frame: INTERACTIONS.
        subjects: rows of the result, sorted; by default those that have an entry.
        items: columns of the result, sorted; by default those that have an entry.
        catalogue: ITEMS; tells when items were published.

    Raises:
        ModelError: when a weight is not finite, an id is missing, or a subject–item pair stands twice.
    """
    if not frame["weight"].is_finite().all():
        raise ModelError("interactions: weight", "is not finite", "Check events.weights of the environment")
    kept = frame.filter(pl.col("weight") > 0)
    subjects = ids(kept["subject"]) if subjects is None else subjects
    items = ids(kept["item_id"]) if items is None else items
    rows, columns, order = _entries(kept, subjects, items)
    matrix = csr(rows, columns, kept["weight"].to_numpy()[order].astype(np.float32), len(subjects), len(items))
    first_at, last_at = (kept[name].dt.epoch("us").to_numpy()[order] for name in ("first_at", "last_at"))
    return UserItems(subjects, items, matrix, last_at, _born_at(columns, first_at, items, catalogue))


def numbered_pairs(interactions: pl.DataFrame) -> pl.DataFrame:
    """The same rows with subjects and items as Enums, whose order is that of the ids.

    Whatever is made of them then sorts, joins and looks up integers: a fifth of the time of strings.

    Raises:
        ModelError: when an id is missing.
    """
    _refuse_missing_ids(interactions)
    return interactions.with_columns(
        column.cast(pl.Enum(column.unique().sort()))
        for column in (interactions["subject"], interactions["item_id"])
        if column.dtype == pl.String
    )


def _refuse_missing_ids(interactions: pl.DataFrame) -> None:
    for name in ("subject", "item_id"):
        missing = interactions[name].null_count()
        if missing:
            raise ModelError(f"interactions: {name}", f"is missing in {missing} of {len(interactions)} rows", REBUILD)


def of_event_types(frame: pl.DataFrame, *, subjects: NDArray[np.str_], items: NDArray[np.str_]) -> sparse.csr_matrix:
    """What happened between whom and what, whatever its weight: CSR int32 [users × items] of `event_types`.

    Args:
        frame: INTERACTIONS.
        subjects: rows, sorted.
        items: columns, sorted; rows of others are left out.
    """
    kept = frame.filter(pl.col("event_types") > 0)
    rows, columns, order = _entries(kept, subjects, items)
    return csr(rows, columns, kept["event_types"].to_numpy()[order], len(subjects), len(items))


@dataclass(frozen=True)
class Confidence:
    """From weights to confidences: log(1 + w / mean) / scale, of mean 1 over the data that it was measured on.

    Event weights have long tails (a hundred views are not a hundred times the evidence of one), and their unit is
    arbitrary; a model's settings must depend on neither. Equal weights become 1.
    """

    mean: float = 1.0
    scale: float = float(np.log(2))

    @classmethod
    def of(cls, matrix: sparse.csr_matrix) -> Confidence:
        """Measured on all weights of a matrix that has any."""
        mean = float(matrix.data.mean(dtype=np.float64))
        return cls(mean, float(np.log1p(matrix.data / mean).mean(dtype=np.float64)))

    def apply(self, matrix: sparse.csr_matrix) -> sparse.csr_matrix:
        """The same entries as confidences, CSR float32."""
        data = (np.log1p(matrix.data / self.mean) / self.scale).astype(np.float32)
        return sparse.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def csr(
    rows: NDArray[np.int32], columns: NDArray[np.int32], data: NDArray[Any], users: int, items: int
) -> sparse.csr_matrix:
    """A CSR matrix [users × items] from entries that are sorted by row, then column."""
    indptr = np.zeros(users + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=users), out=indptr[1:])
    return sparse.csr_matrix((data, columns, indptr), shape=(users, items))


def ids(column: pl.Series) -> NDArray[np.str_]:
    """Distinct ids of a column, sorted."""
    return ids_of(column.drop_nulls().unique().cast(pl.String).sort())


def ids_of(column: pl.Series) -> NDArray[np.str_]:
    """A column of strings as a unicode array (an empty one too)."""
    return np.array(column.to_list(), dtype=np.str_)


def texts_of(ids: NDArray[np.str_]) -> pl.Series:
    """The strings of a unicode array [n], in which none holds a NUL."""
    import pyarrow as pa  # noqa: PLC0415 - late, like all that only campaigns need

    codes = np.ascontiguousarray(ids).view(np.uint32).reshape(len(ids), ids.dtype.itemsize // np.dtype("U1").itemsize)
    if codes.max(initial=0) > LAST_ASCII:
        return pl.Series(ids.tolist(), dtype=pl.String)
    is_there = codes != 0  # a quarter of the time that it takes by way of Python's strings
    ends = np.cumsum(is_there.sum(axis=1), dtype=np.int64)
    texts, starts = codes[is_there].astype(np.uint8), np.concatenate([[0], ends])
    return pl.Series(pa.LargeStringArray.from_buffers(len(ids), pa.py_buffer(starts), pa.py_buffer(texts)))


def _entries(
    frame: pl.DataFrame, subjects: NDArray[np.str_], items: NDArray[np.str_]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64] | slice]:
    """Rows and columns of a matrix's entries in their order, and which row of the frame each one is."""
    _refuse_missing_ids(frame)
    rows, columns = _places(frame["subject"], subjects), _places(frame["item_id"], items)
    order = _order(rows, columns)
    return rows[order], columns[order], order


def _places(column: pl.Series, known: NDArray[np.str_]) -> NDArray[np.int32]:
    """Where each id of a column stands among the known ones, −1 where it does not."""
    dtype = column.dtype if isinstance(column.dtype, pl.Enum) else pl.Enum(column.unique().sort())
    categories = pl.DataFrame({"id": dtype.categories})
    places = pl.DataFrame({"id": pl.Series(known.tolist(), dtype=pl.String)}).with_row_index("place")
    joined = categories.join(places, on="id", how="left", maintain_order="left")
    found = joined["place"].cast(pl.Int32).fill_null(-1).to_numpy()
    return np.asarray(found[column.cast(dtype).to_physical().to_numpy()])


def _order(rows: NDArray[np.int32], columns: NDArray[np.int32]) -> NDArray[np.int64] | slice:
    """Which entries the matrix takes, by row, then column; those with a place of −1 are left out.

    Raises:
        ModelError: when a pair stands twice.
    """
    keys = rows.astype(np.int64)
    keys <<= 32
    keys |= columns  # below 0 where either is
    order = slice(None) if keys.min(initial=0) >= 0 else np.flatnonzero(keys >= 0)
    if _is_ascending(keys[order]):
        return order
    order = np.flatnonzero(keys >= 0)
    order = order[np.argsort(keys[order], kind="stable")]
    if not _is_ascending(keys[order]):
        raise ModelError("interactions", "hold a subject–item pair twice", REBUILD)
    return order


def _is_ascending(keys: NDArray[np.int64]) -> bool:
    return bool((keys[1:] > keys[:-1]).all())


def _born_at(
    columns: NDArray[np.int32], first_at: NDArray[np.int64], items: NDArray[np.str_], catalogue: pl.DataFrame | None
) -> NDArray[np.int64]:
    born_at = np.full(len(items), np.iinfo(np.int64).max, np.int64)
    np.minimum.at(born_at, columns, first_at)
    born_at[born_at == np.iinfo(np.int64).max] = np.iinfo(np.int64).min
    if catalogue is not None:
        published = catalogue.filter(pl.col("published_at").is_not_null())
        places = _places(published["item_id"], items)
        at = published["published_at"].dt.epoch("us").to_numpy()
        born_at[places[places >= 0]] = at[places >= 0]
    return born_at
