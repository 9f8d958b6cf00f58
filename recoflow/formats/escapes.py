# mypy: allow-untyped-defs, allow-untyped-calls
"""JSON whose escaped characters are spelled out, compiled with numba: `\\/` and `\\u00e9` become `/` and `é`.

What belongs here: which escapes mean nothing but their character, wherever they stand. What does not: JSON's syntax.

Many printers escape what needs no escape: PHP's every slash, Python's every letter beyond ASCII, Go's `<`, `>` and `&`
(RFC 8259, section 7). Quotes, backslashes, line ends, and whatever could mean something outside of a text stay as they
are: a text that was no JSON before is none afterwards.
"""

from __future__ import annotations

import numpy as np

from recoflow.compute.jit import jit_inline, jit_no_refcount
from recoflow.formats.chunks import Text, count, places
from recoflow.formats.wide import WIDTH, copy_bytes

_BACKSLASH, _SLASH, _U = 0x5C, 0x2F, 0x75
_HARMLESS = np.isin(np.arange(128), np.frombuffer(b"/&<>'=#%!$()*;?@^_`|~", np.uint8))  # nothing in JSON has them
_STAYS = -1  # instead of a character


def spelled_out(text: Text) -> Text:
    """The text with its harmless escapes as UTF-8; the same object when it has none. Lines stay lines."""
    backslashes = count(text, b"\\")
    if not backslashes:
        return text
    data, out = np.frombuffer(text, np.uint8), np.empty(len(text) + int(WIDTH), np.uint8)
    return out[: _spell_out(data, places(text, b"\\", backslashes), _HARMLESS, out)].tobytes()


@jit_no_refcount
def _spell_out(data, marks, harmless, out):
    source = at = 0
    for index in range(len(marks)):
        mark = marks[index]
        if mark < source:  # part of the escape before
            continue
        at = copy_bytes(data, source, mark - source, out, at)
        character, length = _character(data, mark, harmless)
        at = copy_bytes(data, mark, length, out, at) if character == _STAYS else _write_utf8(character, out, at)
        source = mark + length
    return copy_bytes(data, source, len(data) - source, out, at)


@jit_inline
def _character(data, at, harmless):
    """The character that is escaped here, or _STAYS; and how many bytes the escape takes."""
    if at + 1 >= len(data):
        return _STAYS, 1
    if data[at + 1] == _SLASH:
        return _SLASH, 2
    code = _code_unit(data, at)
    if code == _STAYS:
        return _STAYS, 2
    if code < 0x80:
        return (code if harmless[code] else _STAYS), 6
    return _of_pair(data, at, code) if 0xD800 <= code <= 0xDFFF else (code, 6)


@jit_inline
def _of_pair(data, at, high):
    """The character beyond the first 65,536, which takes two escapes."""
    low = _code_unit(data, at + 6)
    if high > 0xDBFF or low < 0xDC00 or low > 0xDFFF:
        return _STAYS, 6
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00), 12


@jit_inline
def _code_unit(data, at):
    """The number of an escape with four hexadecimal digits, _STAYS when there is none here."""
    if at + 6 > len(data) or data[at] != _BACKSLASH or data[at + 1] != _U:
        return _STAYS
    code = np.int64(0)
    for place in range(at + 2, at + 6):
        byte = np.int64(data[place])
        if 0x30 <= byte <= 0x39:
            digit = byte - 0x30
        elif 0x61 <= byte | 0x20 <= 0x66:
            digit = (byte | 0x20) - 0x57
        else:
            return _STAYS
        code = code << 4 | digit
    return code


@jit_inline
def _write_utf8(character, out, at):
    if character < 0x80:
        out[at] = character
        return at + 1
    if character < 0x800:
        out[at] = 0xC0 | character >> 6
        out[at + 1] = 0x80 | character & 0x3F
        return at + 2
    if character < 0x10000:
        out[at] = 0xE0 | character >> 12
        out[at + 1] = 0x80 | character >> 6 & 0x3F
        out[at + 2] = 0x80 | character & 0x3F
        return at + 3
    out[at] = 0xF0 | character >> 18
    out[at + 1] = 0x80 | character >> 12 & 0x3F
    out[at + 2] = 0x80 | character >> 6 & 0x3F
    out[at + 3] = 0x80 | character & 0x3F
    return at + 4
