"""Eight bytes at a time is the same as one at a time, wherever in an array and however near its end."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recoflow.formats import wide

TEXT = st.lists(st.sampled_from(b'ab,"\\\x00\x1f \x20\x7f\x80\xdc\xff\x22\x2c\x21\x23'), max_size=40).map(bytes)


def end_of(text: bytes, begin: int, end: int, marks: bytes, bad: bytes) -> int | None:
    for place in range(begin, end):
        if text[place] in marks:
            return place
        if text[place] < 0x20 or text[place] in bad:
            return -1
    return None


@settings(max_examples=300, deadline=None)
@given(TEXT, st.integers(0, 40), st.integers(0, 40))
def test_texts_and_cells_end_where_a_look_at_each_byte_says(text: bytes, begin: int, end: int) -> None:
    begin, end = sorted((min(begin, len(text)), min(end, len(text))))
    data = np.frombuffer(text + b"\0", np.uint8)[: len(text)]
    of_text, of_cell = end_of(text, begin, end, b'"', b"\\"), end_of(text, begin, end, b",", b'"\\')
    assert wide.text_end(data, begin, end) == (-1 if of_text is None else of_text)
    assert wide.cell_end(data, begin, end) == (end if of_cell is None else of_cell)


@settings(max_examples=300, deadline=None)
@given(TEXT, st.integers(0, 40), st.integers(0, 40))
def test_the_commas_of_many_bytes_at_once_are_told_from_what_bare_cells_have_none_of(
    text: bytes, begin: int, end: int
) -> None:
    begin, end = sorted((min(begin, len(text)), min(end, len(text))))
    data = np.frombuffer(text + bytes(wide.CELL_WIDTH), np.uint8)
    commas, others = wide.cell_marks(data, begin, end)
    end = min(end, begin + wide.CELL_WIDTH)
    found = []
    while commas:
        place, commas = wide.next_mark(begin, np.uint64(commas))
        found.append(place)
    assert found == [place for place in range(begin, end) if text[place] == ord(",")]
    assert bool(others) == any(text[place] < 0x20 or text[place] in b'"\\' for place in range(begin, end))


@given(st.one_of(st.binary(min_size=8, max_size=8), st.integers(0, 99_999_999).map(lambda number: b"%08d" % number)))
def test_eight_digits_are_read_and_written_at_once(text: bytes) -> None:
    word = np.uint64(int.from_bytes(text, "little"))
    assert wide.are_digits(word) == text.isdigit()
    if text.isdigit():
        assert wide.number_of_digits(word) == int(text)
        assert wide.digits_of_number(np.uint64(int(text))) == word


@settings(max_examples=200, deadline=None)
@given(TEXT, TEXT, st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_bytes_are_compared_copied_and_packed_within_their_arrays(
    first: bytes, second: bytes, at: int, other_at: int, length: int
) -> None:
    at, other_at = min(at, len(first)), min(other_at, len(second))
    length = min(length, len(first) - at, len(second) - other_at)
    data, other = (np.frombuffer(text + b"\0", np.uint8)[: len(text)] for text in (first, second))
    assert wide.equals(data, at, other, other_at, length) == (
        first[at : at + length] == second[other_at : other_at + length]
    )
    guarded = np.full(len(second) + 16, 0xEE, np.uint8)
    target = guarded[: len(second)]
    assert wide.copy_bytes(data, at, length, target, other_at) == other_at + length
    assert target[other_at : other_at + length].tobytes() == first[at : at + length]
    assert (target[:other_at] == 0xEE).all()
    assert (guarded[len(second) :] == 0xEE).all()
    word = first[at : at + length][:8].ljust(8, b"\0")
    assert int(wide.first_word(data, at, length)) == int.from_bytes(word, "little")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(b"\nab"), max_size=100).map(bytes))
def test_a_byte_is_counted_and_found_wherever_it_stands(text: bytes) -> None:
    data, mark = np.frombuffer(text, np.uint8), ord("\n")
    expected = [place for place, byte in enumerate(text) if byte == mark]
    found = np.empty(wide.count_byte(data, mark), np.int64)
    wide.find_byte(data, mark, found)
    assert found.tolist() == expected
