"""Looking for bytes in a chunk says what Python's methods say, and a stream is put together again from pieces."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recoflow.formats import chunks

pytestmark = pytest.mark.slow

TEXT = st.lists(st.sampled_from(b"\nab")).map(bytes)
# The last line end is looked for in stretches of 64 KiB from the end.
STRETCHES = st.sampled_from([1, 65_535, 65_536, 65_537]).map(lambda length: b"a" * length)
LONG_TEXT = st.lists(st.one_of(STRETCHES, st.just(b"\n")), max_size=6).map(b"".join)
LARGE = 2 * 1024**2  # bytes, from which on compiled loops look


@given(LONG_TEXT)
def test_the_last_byte_of_a_kind_is_found_in_whatever_stretch_it_stands(text: bytes) -> None:
    assert chunks.last_place(memoryview(text), b"\n") == text.rfind(b"\n")


@given(TEXT)
def test_bytes_are_counted_and_found_in_texts_of_any_kind(text: bytes) -> None:
    for each in (text, memoryview(text)):
        assert chunks.count(each, b"\n") == text.count(b"\n")
        expected = [place for place, byte in enumerate(text) if byte == ord("\n")]
        assert chunks.places(each, b"\n", len(expected)).tolist() == expected


@pytest.mark.parametrize("filler", [b"", b"a" * LARGE, b"a\n" * (LARGE // 2)], ids=["small", "large", "many lines"])
@given(text=st.lists(st.sampled_from(b'\n"\\ab\x7f\x80\xff'), max_size=100).map(bytes))
def test_one_look_at_a_text_counts_what_decides_how_it_is_read(filler: bytes, text: bytes) -> None:
    for whole in (filler + text, text + filler):
        expected = (whole.count(b"\n"), whole.count(b'"'), whole.count(b"\\"), whole.isascii())
        assert chunks.surveyed(whole) == expected


@given(TEXT, TEXT, st.integers(1, 10))
def test_a_rest_is_followed_by_what_the_stream_has(rest: bytes, more: bytes, size: int) -> None:
    text, is_more = chunks.refilled(rest, io.BytesIO(more).readinto, size)
    assert bytes(text) == rest + more[:size]
    assert is_more == bool(more)
    assert text.readonly
