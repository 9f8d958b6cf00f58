"""What framing hands to the dialects: a stretch of a file, cut into records.

What belongs here: the shape of a chunk, whatever its format. What does not: how a format is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from recoflow.formats import buffers
from recoflow.formats.batch_builder import RawRecord
from recoflow.formats.rejects import EventError

COMPILED_FROM: Final = 2 * 1024**2  # bytes; fewer are searched before the compiled search is loaded

_GLANCE: Final = 256  # bytes that tell of nearly all texts that they are not blank
_LOOKED_AT: Final = 64 * 1024  # bytes that are searched at once from the end

Text = bytes | memoryview  # read only
Read = Callable[[memoryview], int]  # fills the memory from its beginning and tells how far, 0 at the end of the stream


class Records(NamedTuple):
    """Half-open bounds of each record in a chunk's text, and the line of the file where it begins.

    No record is an empty line: a file may have millions of them.
    """

    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    lines: NDArray[np.int64]


class Survey(NamedTuple):
    """What a text has of the bytes that decide how it is read."""

    line_ends: int
    quotes: int
    backslashes: int
    is_ascii: bool


class Chunk(Protocol):
    """A stretch of a file."""

    @property
    def text(self) -> Text:
        """The records with a line end between each two."""

    @property
    def survey(self) -> Survey:
        """Of the text; looked up once."""

    @property
    def records(self) -> Records:
        """Where each record lies; those of blanks hold no event."""

    @property
    def broken(self) -> Sequence[RawRecord]:
        """Pieces of the file that could not be cut into records."""

    def pieces(self, indices: Iterable[int]) -> Iterator[RawRecord]:
        """The events of these records with their exact places, texts and values."""


def refilled(rest: Text, read: Read, size: int) -> tuple[memoryview, bool]:
    """The rest of a text and about `size` bytes that follow in the stream, in one piece; and whether any followed."""
    text = buffers.empty(len(rest) + size, np.uint8).data
    text[: len(rest)] = rest
    more = read(text[len(rest) :])
    return text[: len(rest) + more].toreadonly(), more > 0


def is_blank(text: Text) -> bool:
    """Whether nothing but blanks and line ends is in a text."""
    return not bytes(text[:_GLANCE]).strip() and not bytes(text).strip()


def next_line(read: Read, size: int) -> bytes:
    """What is read of the stream behind its next line end; nothing of the line itself is kept."""
    is_more = True
    while is_more:
        block, is_more = refilled(b"", read, size)
        _, newline, rest = bytes(block).partition(b"\n")
        if newline:
            return rest
    return b""


def too_long(text: Text, line: int, max_event: int) -> RawRecord:
    """The beginning of a record that has no end within `max_event` bytes."""
    message = f"the event is longer than {max_event // 1024**2} MiB; is there a line end after each event?"
    return RawRecord(line, bytes(text[:1000]).decode(errors="replace"), EventError("too_long", None, message))


def last_place(text: Text, mark: bytes) -> int:
    """Position of the last such byte, -1 when there is none."""
    for end in range(len(text), 0, -_LOOKED_AT):
        begin = max(0, end - _LOOKED_AT)
        if (place := bytes(text[begin:end]).rfind(mark)) >= 0:
            return begin + place
    return -1


def surveyed(text: Text) -> Survey:
    """One look at each byte instead of one per question."""
    data = np.frombuffer(text, np.uint8)
    if len(data) < COMPILED_FROM:
        line_ends, quotes, backslashes = (int(np.count_nonzero(data == ord(mark))) for mark in ("\n", '"', "\\"))
        return Survey(line_ends, quotes, backslashes, is_ascii=bool(data.max(initial=0) < 128))
    from recoflow.formats import wide  # noqa: PLC0415 (loads numba)

    return Survey(*wide.survey(data))


def places(text: Text, mark: bytes, how_many: int) -> NDArray[np.int64]:
    """Positions of one byte in a text, which has it so often."""
    data = np.frombuffer(text, np.uint8)
    if len(data) < COMPILED_FROM:
        return np.flatnonzero(data == ord(mark))
    from recoflow.formats import wide  # noqa: PLC0415 (loads numba)

    found = np.empty(how_many, np.int64)
    wide.find_byte(data, ord(mark), found)
    return found


def count(text: Text, mark: bytes) -> int:
    """How often one byte stands in a text; where it is frequent, `bytes.count` takes ten times as long."""
    data = np.frombuffer(text, np.uint8)
    if len(data) < COMPILED_FROM:
        return int(np.count_nonzero(data == ord(mark)))
    from recoflow.formats import wide  # noqa: PLC0415 (loads numba)

    return int(wide.count_byte(data, ord(mark)))


def lines(text: Text, line_ends: int, first: int) -> Records:
    """Each line of a text that has content, without its line end, given how many line ends there are."""
    ends = places(text, b"\n", line_ends)
    if text[-1:] != b"\n":
        ends = np.append(ends, len(text))
    steps = np.diff(ends, prepend=-1)
    has_content = steps > 1
    short = np.flatnonzero(steps == 2)
    has_content[short] = np.frombuffer(text, np.uint8)[ends[short] - 1] != ord("\r")
    numbers = np.flatnonzero(has_content)
    ends = ends[numbers]
    return Records(ends - steps[numbers] + 1, ends, numbers + first)
