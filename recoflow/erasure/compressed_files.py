"""Compressed files: opened, recognized as damaged, and written again in the form that they had."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa

GZIP: Final = b"\x1f\x8b"
ZSTD: Final = b"\x28\xb5\x2f\xfd"
BLOCK: Final = 1 << 16  # bytes that are read at once
LONGEST: Final = 2000  # bytes of an id
DAMAGE: Final = (EOFError, OSError, zlib.error, pa.ArrowException)  # what reading a damaged archive raises


@contextmanager
def open_compressed(path: Path) -> Iterator[BinaryIO]:
    """The content of a file, plain, gzip or zstd; a stream without `seek`.

    Raises:
        One of `DAMAGE` where the archive ends too early or is none.
    """
    with path.open("rb") as file:
        magic = _magic(file)
        if magic == GZIP:
            with gzip.open(file) as unzipped:
                yield unzipped  # type: ignore[misc]
        elif magic == ZSTD:
            with pa.CompressedInputStream(pa.PythonFile(file), "zstd") as stream:
                yield stream
        else:
            yield file


def is_damaged(path: Path) -> bool:
    """Whether a file is an archive that cannot be read to its end."""
    with path.open("rb") as file:
        if _magic(file) is None:
            return False
    try:
        with open_compressed(path) as file:
            while file.read(BLOCK):
                pass
    except DAMAGE:
        return True
    return False


def overlapping_blocks(path: Path) -> Iterator[bytes]:
    """The content of a file in blocks that overlap; of a damaged archive, what can be read."""
    tail = b""
    with path.open("rb") as file:
        read = {None: _plain, GZIP: _unzipped, ZSTD: _decompressed}[_magic(file)]
        try:
            for part in read(file):
                yield tail + part
                tail = part[-LONGEST:]
        except DAMAGE:
            return


def _plain(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


def _unzipped(file: BinaryIO) -> Iterator[bytes]:
    # gzip.open gives nothing of the block in which the archive ends.
    stream = zlib.decompressobj(wbits=31)
    while block := file.read(BLOCK):
        yield stream.decompress(block)


def _decompressed(file: BinaryIO) -> Iterator[bytes]:
    with pa.CompressedInputStream(pa.PythonFile(file), "zstd") as stream:
        while block := stream.read(BLOCK):
            yield block


def packed_like(path: Path, content: Iterator[bytes]) -> Callable[[BinaryIO], None]:
    """A function that writes the content in the compression of `path`."""
    with path.open("rb") as file:
        magic = _magic(file)

    def write(target: BinaryIO) -> None:
        if magic == GZIP:
            with gzip.GzipFile(fileobj=target, mode="wb", filename="", mtime=0) as archive:
                archive.writelines(content)
        elif magic == ZSTD:
            with pa.CompressedOutputStream(pa.PythonFile(_Kept(target), "w"), "zstd") as stream:
                for part in content:
                    stream.write(part)
        else:
            target.writelines(content)

    return write


def unpacked(content: bytes) -> bytes:
    """What a small compressed file contains; other content as it is.

    Raises:
        One of `DAMAGE` where the archive ends too early or is none.
    """
    if content.startswith(GZIP):
        return gzip.decompress(content)
    if content.startswith(ZSTD):
        stream: Any = pa.CompressedInputStream(pa.BufferReader(content), "zstd")
        return bytes(stream.read())
    return content


class _Kept(io.RawIOBase):
    """A file that stays open when pyarrow closes it."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target

    def writable(self) -> bool:
        return True

    def write(self, content: Any, /) -> int:
        return self._target.write(content)


def _magic(file: BinaryIO) -> bytes | None:
    head = file.read(4)
    file.seek(0)
    return next((magic for magic in (GZIP, ZSTD) if head.startswith(magic)), None)
