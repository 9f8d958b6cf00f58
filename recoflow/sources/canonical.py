"""One text and one hash for one logical event, whatever its format, key order and number formatting were.

What belongs here: the canonical text and its digests, one event at a time. What does not: which fields an event has.

The text is `name=value` for each field that is present, in a fixed order, joined by U+001F. Absent fields leave no
trace, so that a field added to the schema later does not change the hash of events that do not carry it. Numbers stand
as the 64 bits of their double: every language has its own idea of printing 1e16.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

import msgspec

SEPARATOR = "\x1f"
_ESCAPE = "\x1e"
_ENCODER = msgspec.json.Encoder(order="sorted")


def json_text(value: object) -> str:
    """JSON with sorted keys and no spaces."""
    return _ENCODER.encode(value).decode()


def number_text(value: float) -> str:
    """The bits of a double as a signed integer; 0.0 and -0.0 are one number."""
    (bits,) = struct.unpack("<q", struct.pack("<d", value + 0.0))
    return str(bits)


def text(fields: Iterable[tuple[str, str | int | float | None]]) -> str:
    """Canonical text of `(name, value)` pairs; None is absent. Distinct events have distinct texts."""
    return SEPARATOR.join(f"{name}={_value_text(value)}" for name, value in fields if value is not None)


def _value_text(value: str | float) -> str:
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, int):
        return str(value)
    if SEPARATOR in value or _ESCAPE in value:
        return _ESCAPE + msgspec.json.encode(value).decode()
    return value


def hash64(canonical: str) -> int:
    """Content hash: the first 8 bytes, little endian, of the MD5 of the text (what DuckDB calls md5_number_lower)."""
    return int.from_bytes(_md5(canonical).digest()[:8], "little")


def identifier(canonical: str) -> str:
    """Id of an event that has none: the MD5 of its text, 32 hexadecimal digits."""
    return _md5(canonical).hexdigest()


def _md5(canonical: str) -> hashlib._Hash:
    return hashlib.md5(canonical.encode(), usedforsecurity=False)
