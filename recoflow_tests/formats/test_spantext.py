from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from recoflow.formats import spantext


@given(st.integers(-(2**63) + 2, 2**63 - 1))
@example(0)
@example(99)
@example(-100)
@example(10**18)
def test_whole_numbers_are_written_as_python_writes_them(number: int) -> None:
    text = np.zeros(32, np.uint8)
    end = spantext.write_whole(np.int64(number), text, 3)
    assert text[3:end].tobytes().decode() == str(number)


@given(st.integers(0, 2**64 - 1))
def test_words_are_written_with_all_their_hexadecimal_digits(number: int) -> None:
    text = np.zeros(20, np.uint8)
    spantext.write_hexadecimal(np.uint64(number), text, 2)
    assert text[2:18].tobytes().decode() == f"{number:016x}"
