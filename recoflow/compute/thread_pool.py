"""Threads for compiled loops and matrix products over blocks of rows, one for each core.

What belongs here: how many threads there are, and that BLAS starts none of its own under them. What does not: blocks.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def thread_pool(most: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """At most so many threads, by default one for each core.

    BLAS has one thread meanwhile: more of them would compete with ours, and could change the last bits of a sum.
    """
    with _libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(most or cores()) as threads:
        yield threads


@functools.cache
def _libraries() -> ThreadpoolController:
    """The loaded libraries that have threads; to look for them takes longer than a small campaign's ranking."""
    import scipy.linalg.cython_blas  # noqa: F401, PLC0415 - what numba's products call, once it is loaded

    return ThreadpoolController()
