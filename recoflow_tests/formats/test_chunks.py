"""Looking for bytes in a chunk says what Python's methods say, and a stream is put together again from pieces."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recoflow.formats import chunks

TEXT = st.lists(st.sampled_from(b"\nab")).map(bytes)


@pytest.fixture(scope="module", autouse=True)
def _short_stretches():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "_LOOKED_AT", 3)
        yield


@given(TEXT)
def test_the_last_byte_of_a_kind_is_found_in_whatever_stretch_it_stands(text: bytes) -> None:
    assert chunks.last_place(memoryview(text), b"\n") == text.rfind(b"\n")


@given(TEXT)
def test_bytes_are_counted_and_found_in_texts_of_any_kind(text: bytes) -> None:
    for each in (text, memoryview(text)):
        assert chunks.count(each, b"\n") == text.count(b"\n")
        expected = [place for place, byte in enumerate(text) if byte == ord("\n")]
        assert chunks.places(each, b"\n", len(expected)).tolist() == expected


@pytest.mark.parametrize("compiled_from", [0, 1000])
@given(text=st.lists(st.sampled_from(b'\n"\\ab\x7f\x80\xff'), max_size=100).map(bytes))
def test_one_look_at_a_text_counts_what_decides_how_it_is_read(compiled_from: int, text: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "COMPILED_FROM", compiled_from)
        found = chunks.surveyed(text)
    assert found == (text.count(b"\n"), text.count(b'"'), text.count(b"\\"), text.isascii())


@given(TEXT, TEXT, st.integers(1, 10))
def test_a_rest_is_followed_by_what_the_stream_has(rest: bytes, more: bytes, size: int) -> None:
    text, is_more = chunks.refilled(rest, io.BytesIO(more).readinto, size)
    assert bytes(text) == rest + more[:size]
    assert is_more == bool(more)
    assert text.readonly
