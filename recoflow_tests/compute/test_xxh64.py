from __future__ import annotations

import numpy as np
import polars as pl
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from recoflow.compute import xxh64


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=90)), st.integers(0, 3))
def test_a_column_of_texts_has_the_hashes_of_the_reference(texts: list[str], skipped: int) -> None:
    series = pl.concat([pl.Series(["skipped"] * skipped, dtype=pl.String), pl.Series(texts, dtype=pl.String)])[skipped:]
    assert xxh64.of_texts(series).tolist() == [xxhash.xxh64_intdigest(text.encode()) for text in texts]


def test_texts_are_hashed_behind_the_words_that_their_codes_tell() -> None:
    codes = np.array([2, 0, 1], np.int32)
    found = xxh64.of_texts(pl.Series(["a", "b", "ü"]), words=["kind\0", "", "a longer kind\0"], codes=codes)
    assert found.tolist() == [xxhash.xxh64_intdigest(text.encode()) for text in ("a longer kind\0a", "kind\0b", "ü")]
