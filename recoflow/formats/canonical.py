"""One text and one hash for one logical event, whatever its format, key order and number formatting were.

What belongs here: the canonical text and its digests, one event at a time; `spanevents` and `spanlists` make the same
for chunks. What does not: which fields an event has.

The text is `name=value` for each field that is present, in a fixed order, joined by U+001F. Absent fields leave no
trace, so that a field added to the schema later does not change the hash of events that do not carry it. Numbers stand
as the 64 bits of their double: every language has its own idea of printing 1e16. The hash is XXH64, which the lake may
keep: its values are specified and never change, unlike those of DuckDB's and polars' own hash functions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import msgspec
import xxhash

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


def canonical_text(fields: Iterable[tuple[str, str | int | float | None]]) -> str:
    """Canonical text of `(name, value)` pairs; None is absent. Distinct events have distinct texts."""
    return SEPARATOR.join([f"{name}={_value_text(value)}" for name, value in fields if value is not None])


def _value_text(value: str | float) -> str:
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, int):
        return str(value)
    if SEPARATOR in value or _ESCAPE in value:
        return _ESCAPE + msgspec.json.encode(value).decode()
    return value


def hash64(canonical: str) -> int:
    """Content hash: XXH64 of the text with seed 0."""
    return xxhash.xxh64_intdigest(canonical.encode())


def identifier(canonical: str) -> str:
    """Id of an event that has none: XXH64 of its text with seeds 0 and 1, 32 hexadecimal digits."""
    data = canonical.encode()
    return xxhash.xxh64_hexdigest(data) + xxhash.xxh64_hexdigest(data, 1)
