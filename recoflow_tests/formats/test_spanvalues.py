from __future__ import annotations

import numpy as np
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from recoflow.formats import canonical, spans, spanvalues
from recoflow.formats.spanvalues import Column


def test_the_content_hash_is_xxh64() -> None:
    text = canonical.canonical_text([("a", "b"), ("c", 1), ("d", None)])
    assert text == "a=b\x1fc=1"
    assert canonical.hash64(text) == xxhash.xxh64_intdigest(b"a=b\x1fc=1", seed=0)
    assert canonical.hash64("") == 0xEF46DB3751D8E999  # from the specification's test vectors


@given(st.lists(st.one_of(st.none(), st.text(st.sampled_from('ab\x1e\x1f="\\'), max_size=4)), min_size=2, max_size=2))
def test_distinct_values_have_distinct_texts(values: list[str | None]) -> None:
    first = canonical.canonical_text(zip(("a", "b"), values, strict=True))
    for other in ([values[1], values[0]], [values[0], None], [None, values[1]]):
        if other != values:
            assert canonical.canonical_text(zip(("a", "b"), other, strict=True)) != first


def test_zero_has_one_sign() -> None:
    assert canonical.number_text(-0.0) == canonical.number_text(0.0)


def test_strings_point_into_the_text() -> None:
    text = b"short,a string that is longer than twelve bytes,"
    column = Column(
        np.array([1, 0, 1, 1], np.uint8), np.array([0, 0, 6, 48], np.int32), np.array([5, 0, 41, 0], np.int32)
    )
    assert spanvalues.strings(np.frombuffer(text, np.uint8), column).to_list() == [
        "short",
        None,
        "a string that is longer than twelve bytes",
        "",
    ]


def test_words_are_found_by_their_whole_text() -> None:
    data = np.frombuffer(b"wwwapp-ios", np.uint8)
    column = Column(
        np.array([1, 1, 1, 0], np.uint8), np.array([0, 3, 3, 0], np.int32), np.array([3, 7, 3, 0], np.int32)
    )
    assert spanvalues.codes(data, column, spans.words(["app-ios", "www"])).tolist() == [1, 0, -2, -1]
