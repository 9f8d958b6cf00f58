"""A staged campaign as its audit reads it: requests and recommendations as arrays of numbers.

What belongs here: reading. What does not: what is looked for (see `audit`).

It shares nothing with what wrote the files (see `parquet_part`, `build_lists`) but the names of columns: a file of the
same rows whose texts are spelled out, or whose dictionaries are others, is read alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

if TYPE_CHECKING:
    import pyarrow as pa

    from recoflow.campaigns.staging.staged import Staged
    from recoflow.models.store.bundle import Bundle

Longs = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Values = TypeVar("Values", pl.Series, pl.DataFrame)

# What stands in every row of a list as in the row of the request that it is for.
OF_REQUESTS: Final = ("user_id", "device_id", "user_group", "version", "request_id", "list_name", "page_type")
TEXTS: Final = (*OF_REQUESTS, "campaign_id", "item_id")


@dataclass(frozen=True)
class Asked:
    """The rows of the request, and what the model knows of their subjects.

    Attributes:
        requests: `staged.REQUESTS`.
        subjects: int64 [requests], rows of the bundle's subjects, -1 for those that it does not know.
        person: int64 [requests], the first row of the same subject; -1 where it is the only one.
        is_by_score: bool [requests].
        consumed_types: int32 [requests].
    """

    requests: pl.DataFrame
    subjects: Longs
    person: Longs
    is_by_score: Flags
    consumed_types: npt.NDArray[np.int32]

    @classmethod
    def read(cls, staged: Staged, bundle: Bundle) -> Asked:
        """From the staged file; the bundle is the one at hand."""
        requests = pl.read_parquet(staged.requests)
        person = np.full(len(requests), -1, np.int64)
        if requests["subject"].hash().n_unique() < len(requests):
            several = np.flatnonzero(requests["subject"].is_duplicated().to_numpy())
            people = pl.DataFrame({"subject": requests["subject"].gather(several), "row": several})
            person[several] = people.select(pl.col("row").min().over("subject")).to_series().to_numpy()
        return cls(
            requests=requests,
            subjects=bundle.rows_of(requests["subject"]),
            person=person,
            is_by_score=requests["is_by_score"].to_numpy(),
            consumed_types=requests["consumed_types"].to_numpy(),
        )

    def texts(self, rows: Longs) -> pl.DataFrame:
        """What the recommendations of these rows are to say: OF_REQUESTS."""
        return _at(self.requests.select(OF_REQUESTS), rows)


@dataclass(frozen=True)
class Part:
    """One file of recommendations.

    Attributes:
        rows: int64 [recommendations], of the request; those of one list follow each other.
        before: the last row of the file before, -1 for none.
        ranks: int64 [recommendations], -1 where none is given.
        scores: float32 [recommendations], NaN where none is given.
        starts: int64 [stretches], where another row begins than the one before.
        texts: column → int64 [recommendations], places of the texts, and the texts, null among them.
        items: int64 [recommendations], places in the catalogue, -1 for what is not in it.
    """

    rows: Longs
    before: int
    ranks: Longs
    scores: npt.NDArray[np.float32]
    starts: Longs
    texts: dict[str, tuple[Longs, pl.Series]]
    items: Longs

    def changes(self, columns: Iterable[str]) -> Longs:
        """Where another row begins, or within it another text in one of these columns."""
        is_other = np.zeros(len(self.rows), np.bool_)
        is_other[self.starts] = True
        for places in (self.texts[column][0] for column in columns):
            is_other[1:] |= places[1:] != places[:-1]
        return np.flatnonzero(is_other)

    def text(self, column: str, recommendations: Longs) -> pl.Series:
        """What these recommendations say."""
        places, texts = self.texts[column]
        return _at(texts, places[recommendations])


def _at(values: Values, places: Longs) -> Values:
    """`values[places]`; as a rule these follow each other, and then nothing is to be copied."""
    if len(places) and (np.diff(places) == 1).all():
        return values.slice(int(places[0]), len(places))
    return values[places]


def parts(staged: Staged, catalogue: pl.Series) -> Iterator[Part]:
    """The files in their order.

    Args:
        staged: the campaign.
        catalogue: of item ids, ascending.
    """
    before = -1
    known = catalogue.extend_constant(None, 1)
    for path in staged.parts:
        part = _read(path, before, known)
        before = int(part.rows[-1]) if len(part.rows) else before
        yield part


def _read(path: Path, before: int, known: pl.Series) -> Part:
    from pyarrow import parquet  # noqa: PLC0415 - late, like all that only campaigns need

    columns = [*TEXTS, "row", "rank", "score"]
    with parquet.ParquetFile(path, read_dictionary=list(TEXTS)) as file:
        table = file.read(columns=columns, use_threads=False)
    texts = {name: _texts(table[name]) for name in TEXTS}
    places, distinct = texts["item_id"]
    items = known.slice(0, len(known) - 1).search_sorted(distinct.fill_null("")).cast(pl.Int64)
    rows = _numbers(table["row"], -1)
    return Part(
        rows=rows,
        before=before,
        ranks=_numbers(table["rank"], -1),
        scores=_numbers(table["score"], np.nan),
        starts=np.flatnonzero(np.diff(rows, prepend=rows[:1] - 1)),
        texts=texts,
        items=np.where((known[items] == distinct).fill_null(value=False), items, -1)[places],
    )


def _numbers(column: pa.ChunkedArray, missing: float) -> npt.NDArray[Any]:
    return pl.Series(column).fill_null(missing).to_numpy()


def _texts(column: pa.ChunkedArray) -> tuple[Longs, pl.Series]:
    array = column.unify_dictionaries().combine_chunks()
    distinct = pl.Series(array.dictionary, dtype=pl.String)
    places = pl.Series(array.indices).fill_null(len(distinct)).to_numpy()
    return places, distinct.extend_constant(None, 1)
