from __future__ import annotations

import numpy as np
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from recoflow.sources import canonical, spanhashes, spans, spanvalues
from recoflow.sources.spanhashes import Content
from recoflow.sources.spanvalues import Column

FIELDS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=50)),
        st.one_of(st.none(), st.integers(-(2**63) + 2, 2**63 - 1)),
        st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=100, deadline=None)
@given(FIELDS)
def test_hashes_by_columns_are_those_of_the_canonical_text(
    rows: list[tuple[str | None, int | None, float | None]],
) -> None:
    texts = [(text or "").encode() for text, _, _ in rows]
    lengths = np.array([len(text) for text in texts], np.int32)
    column = Column(
        np.array([text is not None for text, _, _ in rows], np.uint8),
        (np.cumsum(lengths) - lengths).astype(np.int32),
        lengths,
    )
    data = np.frombuffer(b"".join(texts) + b"\0", np.uint8)
    whole = np.array([spanvalues.MISSING if number is None else number for _, number, _ in rows], np.int64)
    doubles = spanhashes.double_bits(np.array([np.nan if number is None else number for _, _, number in rows]))
    fields = [Content("a", (data, column), None), Content("bb", None, whole), Content("c", None, doubles)]
    found = spanhashes.hashes(fields, len(rows))
    for row, (first, second) in zip(rows, found.tolist(), strict=True):
        text = canonical.text(zip(("a", "bb", "c"), row, strict=True))
        assert first == canonical.hash64(text)
        assert f"{first:016x}{second:016x}" == canonical.identifier(text)


def test_the_content_hash_is_xxh64() -> None:
    text = canonical.text([("a", "b"), ("c", 1), ("d", None)])
    assert text == "a=b\x1fc=1"
    assert canonical.hash64(text) == xxhash.xxh64_intdigest(b"a=b\x1fc=1", seed=0)
    assert canonical.hash64("") == 0xEF46DB3751D8E999  # from the specification's test vectors


@given(st.lists(st.one_of(st.none(), st.text(st.sampled_from('ab\x1e\x1f="\\'), max_size=4)), min_size=2, max_size=2))
def test_distinct_values_have_distinct_texts(values: list[str | None]) -> None:
    first = canonical.text(zip(("a", "b"), values, strict=True))
    for other in ([values[1], values[0]], [values[0], None], [None, values[1]]):
        if other != values:
            assert canonical.text(zip(("a", "b"), other, strict=True)) != first


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
