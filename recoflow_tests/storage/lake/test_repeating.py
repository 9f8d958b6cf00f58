"""Dictionaries of texts, by views and by pyarrow: the same texts come out."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recoflow.storage.lake import repeating

LONG = "a text that is longer than twelve bytes"
TEXTS = st.one_of(st.none(), st.sampled_from(["", "a", "b", "exactly 12 b", f"{LONG} 1", f"{LONG} 2"]), st.text())


def decoded(texts: pl.Series) -> list[str | None]:
    encoded = repeating.dictionary_encoded(texts)
    assert len(encoded.dictionary) == texts.drop_nulls().n_unique()
    return encoded.to_pylist()


@given(st.lists(TEXTS), st.lists(TEXTS), st.integers(0, 5))
def test_texts_come_back_from_their_dictionary(first: list[str | None], second: list[str | None], begin: int) -> None:
    texts = pl.concat([pl.Series(first, dtype=pl.String), pl.Series(second, dtype=pl.String)])[begin:]
    assert decoded(texts) == texts.to_list()


def test_a_long_text_in_several_places_is_one_word() -> None:
    texts = pl.Series(["x", f"{LONG} 1", f"{LONG} 2"] * 100)
    assert decoded(texts) == texts.to_list()


def test_words_stand_in_the_order_of_their_first_rows() -> None:
    assert repeating.dictionary_encoded(pl.Series(["b", None, "a", "b", "c"])).dictionary.to_pylist() == ["b", "a", "c"]


@pytest.mark.parametrize("more", [0, 1])
def test_too_many_words_are_no_dictionary(more: int) -> None:
    texts = pl.Series([f"w{index}" for index in range(repeating.MAX_WORDS + more)])
    assert (repeating.dictionary_encoded(texts) is None) == bool(more)
