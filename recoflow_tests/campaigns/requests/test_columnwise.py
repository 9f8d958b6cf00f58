"""Rows are compared by hashes, and yet never taken for each other."""

from __future__ import annotations

import polars as pl
import pytest

from recoflow.campaigns.requests import columnwise

ROWS = pl.DataFrame(
    {
        "user_id": ["ann", None, "ann", "web", None, "ann", None],
        "device_id": [None, "web", "web", None, "web", None, None],
        "line": [2, 3, 4, 5, 6, 7, 8],
    }
)
PERSON = ("user_id", "device_id")


def test_the_first_row_of_each_person_is_found() -> None:
    assert columnwise.first_alike(ROWS, PERSON).tolist() == [0, 1, 2, 3, 1, 0, 6]
    assert columnwise.is_repeated(ROWS, PERSON).to_list() == [False, False, False, False, True, True, False]
    assert not columnwise.is_distinct(ROWS, PERSON)
    assert columnwise.is_distinct(ROWS.head(4), PERSON)
    assert columnwise.first_alike(ROWS.clear(), PERSON).tolist() == []


@pytest.mark.fault("M11")
def test_people_with_equal_hashes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = columnwise.row_hashes  # the seed of a collision is not known, so one is made

    def colliding(rows: pl.DataFrame, columns: tuple[str, ...], seed: int) -> pl.Series:
        found = hashes(rows, columns, seed)
        return found if seed else found % 2

    monkeypatch.setattr(columnwise, "row_hashes", colliding)
    assert columnwise.first_alike(ROWS, PERSON).tolist() == [0, 1, 2, 3, 1, 0, 6]


def test_a_long_column_is_compared_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes, count = columnwise.row_hashes, columnwise.PART + 10
    monkeypatch.setattr(columnwise, "row_hashes", lambda rows, columns, seed: hashes(rows, columns, seed) * seed)
    rows = pl.DataFrame({"user_id": ["ann"] * count + ["bob"]})
    assert columnwise.first_alike(rows, ["user_id"]).tolist() == [0] * count + [count]


def test_rows_are_kept_column_by_column() -> None:
    rows = pl.concat([ROWS, ROWS])
    found = columnwise.kept(rows.clone(), pl.Series([False, True] * 7))
    assert found.equals(rows.filter(pl.Series([False, True] * 7)))
    assert columnwise.kept(rows, pl.Series([True] * 14)).equals(pl.concat([ROWS, ROWS]))


@pytest.mark.parametrize(("more_than", "expected"), [(1, {"ann", "web"}), (2, {"ann"}), (3, set()), (9, set())])
def test_what_stands_in_many_rows_is_found(more_than: int, expected: set[str]) -> None:
    rows = pl.DataFrame({"id": ["ann", "web", "ann", "ann", "web", "eve", "eve"], "is_meant": [True] * 6 + [False]})
    assert set(columnwise.frequent(rows, "id", pl.col("is_meant"), more_than)) == expected
