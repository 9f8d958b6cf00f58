from __future__ import annotations

from itertools import count

import pytest

from recoflow.compute.stage_timer import StageTimer


def test_stages_add_up_by_name_in_the_order_in_which_they_first_ended():
    watch = StageTimer(count(step=1.5).__next__)  # each look at the clock is 1.5 s later
    for name in ("rank", "join", "rank"):
        with watch.stage(name):
            pass
    assert list(watch.seconds.items()) == [("rank", 3.0), ("join", 1.5)]


def test_a_stage_that_fails_is_counted_too():
    watch = StageTimer(count().__next__)
    with pytest.raises(ZeroDivisionError), watch.stage("rank"):
        _ = 1 / 0
    assert watch.seconds == {"rank": 1}
