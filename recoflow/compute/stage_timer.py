"""How long the stages of a piece of work take.

What belongs here: adding up seconds by name. What does not: showing them. They differ from run to run, so they never go
into a file that must have the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StageTimer:
    """Seconds by stage, in the order in which the stages first ended.

    Stages that run in several threads overlap: their seconds may add up to more than what passed.

    Args:
        clock: seconds from any fixed moment on.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens within as part of the stage `name`, whether or not it succeeds."""
        begin = self._clock()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self._clock() - begin
