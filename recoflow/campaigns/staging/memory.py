"""Where the arrays of staged parts get their memory from.

What belongs here: that one choice. What does not: how much of it there is (see `build_lists`: a part at a time).
"""

from __future__ import annotations


def use_system_allocator() -> None:
    """Have pyarrow take memory from the C library, in this process and from now on.

    Its own pool gives what was freed back to the system within milliseconds. The next part would find each page anew,
    and the system has to wipe it first: up to a fifth of the processor time of an audited response.
    """
    import pyarrow as pa  # noqa: PLC0415 - late, like all that only campaigns need

    pa.set_memory_pool(pa.system_memory_pool())
