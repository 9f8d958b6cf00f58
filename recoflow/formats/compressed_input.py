"""The bytes of a file, unpacked as they are read, and never more of them than a file may hold.

What belongs here: compression, and the bounds of what comes out of it. What does not: what the bytes mean.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pyarrow as pa

from recoflow.errors import SourceError
from recoflow.formats.chunks import Read
from recoflow.storage import regular_files

MAX_RATIO: Final = 1000  # of unpacked to packed bytes; files of events have 5 to 100
JUDGED_FROM: Final = 64 * 1024**2  # unpacked bytes; fewer do no harm, whatever their ratio

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@contextmanager
def open_input(path: Path, name: str, max_bytes: int) -> Iterator[Read]:
    """A reader of the file's content, unpacked where its first bytes say gzip or zstd.

    Raises:
        SourceError: the file cannot be read to its end, or unpacks to more than `max_bytes` or `MAX_RATIO` allow.
    """
    try:
        with open(path, "rb", opener=regular_files.opener) as file:
            magic = file.read(4)
            file.seek(0)
            if magic.startswith(_GZIP):
                with gzip.open(file) as unzipped:
                    yield _bounded(unzipped.readinto, path, name, max_bytes)
            elif magic == _ZSTD:
                with pa.CompressedInputStream(pa.PythonFile(file), "zstd") as unzipped:
                    yield _bounded(unzipped.readinto, path, name, max_bytes)
            else:
                yield file.readinto
    except (EOFError, zlib.error, OSError) as error:
        raise SourceError(name, f"cannot be read to its end: {error}", "Send it again, whole") from error


def _bounded(read: Read, path: Path, name: str, max_bytes: int) -> Read:
    packed = path.stat().st_size
    unpacked = 0

    def read_next(into: memoryview) -> int:
        nonlocal unpacked
        length = read(into)
        unpacked += length
        if unpacked > max_bytes:
            raise SourceError(name, f"unpacks to more than {max_bytes:,} bytes", "Split it into several files")
        if unpacked > max(JUDGED_FROM, packed * MAX_RATIO):
            problem = f"unpacks to more than {MAX_RATIO:,} times its {packed:,} bytes, as no file of events does"
            raise SourceError(name, problem, "Look at what it holds, and send it uncompressed if these are events")
        return length

    return read_next
