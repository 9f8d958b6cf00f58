from __future__ import annotations

import gc

import pytest

from recoflow.compute.collector import collector_paused


def test_the_collector_is_paused_and_goes_on_even_after_an_error():
    def work() -> None:
        with collector_paused():
            assert not gc.isenabled()
            raise ValueError("an error")

    assert gc.isenabled()
    with pytest.raises(ValueError, match="an error"):
        work()
    assert gc.isenabled()


def test_one_that_is_paused_already_stays_so():
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
