"""A series whose next things are made on a thread while the present one is used.

What belongs here: that one loop. What does not: what is made. It pays where both sides leave the GIL, as compiled
loops, polars and pyarrow do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetch(series: Iterable[T], most: int = 1) -> Generator[T, None, None]:
    """The same series; at most `most` things of it wait to be used.

    What the series raises is raised here, at its place. Who may stop early closes it, and waits for what is being made.
    """
    iterator, end = iter(series), object()
    with ThreadPoolExecutor(1) as thread:
        making = deque(thread.submit(next, iterator, end) for _ in range(most))
        try:
            while (made := making.popleft().result()) is not end:
                making.append(thread.submit(next, iterator, end))
                yield made  # type: ignore[misc]  # no `end`, so a T
        finally:
            for each in making:
                each.cancel()
