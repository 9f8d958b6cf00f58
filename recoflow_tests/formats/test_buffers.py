"""Memory is used again when, and only when, nothing points to it any more."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from recoflow.formats import buffers, spanvalues

SIZE = 3 * buffers.STEP


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_while_a_file_is_read_for_arrays_of_about_the_size():
    with buffers.kept():
        first = buffers.empty(SIZE, np.uint8)
        begin = address(first)
        del first
        again = buffers.empty((2, SIZE // 16 - 5), np.uint64)
        assert address(again) == begin
        assert again.shape == (2, SIZE // 16 - 5)
        assert again.flags.writeable
        assert again.flags.c_contiguous


def test_memory_that_something_points_to_is_not_given_away():
    with buffers.kept():
        views = buffers.empty((SIZE // 16, 2), np.uint64)
        views[:] = 0
        views[:, 0] = 1 | ord("a") << 32
        texts = spanvalues.of_views(len(views), np.full(len(views) // 8 + 1, 255, np.uint8), views)[5:]
        rest = views[7:, 1]
        del views
        other = buffers.empty(SIZE, np.uint8)
        other[:] = 255
        assert set(texts.unique()) == {"a"}
        assert not rest.any()


def test_nothing_is_kept_when_no_file_is_read():
    with buffers.kept(), buffers.kept():
        array = buffers.empty(SIZE, np.uint8)
    del array
    gc.collect()
    assert not buffers._waiting
    assert buffers.empty(SIZE, np.uint8).base is None


@pytest.mark.parametrize("shape", [0, (3, 0), 10, (2, 5)])
def test_small_arrays_are_nobodys_concern(shape):
    with buffers.kept():
        assert buffers.empty(shape, np.int32).base is None
