"""Opening files that came from others: a regular file is opened, and a pipe in its place is refused, not waited for."""

from __future__ import annotations

import errno
import os
import stat


def opener(path: str, flags: int) -> int:
    """The `opener` of `open` for a path that somebody else may have replaced since it was looked at.

    Raises:
        OSError: it is not a regular file, or cannot be opened.
    """
    handle = os.open(path, flags | os.O_NONBLOCK)  # else a pipe without a writer would stop us for ever
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "is not a regular file", path)
    return handle
