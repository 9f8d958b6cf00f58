from __future__ import annotations

import threading

import pytest

from recoflow.compute.prefetch import prefetch


@pytest.mark.parametrize("most", [1, 3])
def test_a_series_keeps_its_order_whatever_waits(most):
    assert list(prefetch(iter(range(10)), most)) == list(range(10))
    assert list(prefetch([], most)) == []


def test_the_next_one_is_made_while_this_one_is_used():
    is_made = threading.Event()

    def series():
        yield 1
        is_made.set()
        yield 2

    things = prefetch(series())
    assert next(things) == 1
    assert is_made.wait(10)
    assert list(things) == [2]


def test_no_more_than_asked_for_wait():
    made = []

    def series():
        for number in range(10):
            made.append(number)
            yield number

    things = prefetch(series(), 2)
    assert next(things) == 0
    things.close()
    assert len(made) <= 3


def test_what_the_series_raises_is_raised_at_its_place():
    def series():
        yield 1
        raise ValueError("broken")

    things = prefetch(series(), 2)
    assert next(things) == 1
    with pytest.raises(ValueError, match="broken"):
        next(things)
