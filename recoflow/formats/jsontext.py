"""JSON text to values: strict decoding with explained errors.

What belongs here: one text at a time. What does not: cutting a stream into texts (`json_framing`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import msgspec

from recoflow.formats.batch_builder import RawRecord
from recoflow.formats.rejects import EventError

_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"\s*")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_FLAWS = (  # searched in the text without its strings, in this order
    (re.compile(r"//|/\*|#"), "json_comment", "has a comment, which JSON does not know; remove it"),
    (re.compile(r",\s*[}\]]"), "json_trailing_comma", "has a comma before a closing bracket; remove the comma"),
    (re.compile(r"\b(NaN|Infinity)\b"), "json_not_finite", "has NaN or Infinity; send null or leave the key out"),
)


def piece(raw: bytes, line: int) -> RawRecord:
    """The one value of a text, or why it has none."""
    text = raw.decode("utf-8", errors="replace")
    try:
        return RawRecord(line, text, decode(raw))
    except EventError as error:
        return RawRecord(line, text, error)


def pieces(raw: bytes, line: int) -> Iterator[RawRecord]:
    """The events of one text: usually its value; several when values are concatenated or wrapped in `events`."""
    only = piece(raw, line)
    if isinstance(only.value, dict) and is_wrapper(only.value):
        events = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])["events"]
        yield from (piece(bytes(event), line) for event in msgspec.json.decode(events, type=list[msgspec.Raw]))
    elif isinstance(only.value, EventError) and (texts := _concatenated(raw)):
        yield from (piece(text.encode(), line) for text in texts)
    else:
        yield only


def _concatenated(raw: bytes) -> list[str]:
    """The objects of `{…}{…}`; none when there is anything else between or after them."""
    texts: list[str] = []
    start = 0
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return []
    while start < len(text):
        try:
            _, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            return []
        texts.append(text[start:end])
        start = blank_end(text, end)
    return texts if all(found[:1] == "{" for found in texts) else []


def blank_end(text: str, start: int) -> int:
    """Position of the first character from `start` on that is no white space."""
    match = _BLANK.match(text, start)
    return match.end() if match else start


def is_wrapper(value: dict[str, object]) -> bool:
    """Whether an object is the body of an API request, `{"events": [ … ]}`."""
    return isinstance(value.get("events"), list) and "event_type" not in value


def decode(raw: bytes) -> object:
    """The value of a JSON text.

    Raises:
        EventError: one of the codes about text, its message naming what is wrong and where.
    """
    try:
        return msgspec.json.decode(raw)
    except UnicodeDecodeError as error:
        message = f"byte {error.start} is not UTF-8; save the file as UTF-8"
        raise EventError("not_utf8", None, message) from None
    except RecursionError:
        raise EventError("too_deep", None, "objects are nested too deep; send flat events") from None
    except msgspec.MsgspecError as error:
        raise _explained(raw, str(error)) from None


def _explained(raw: bytes, problem: str) -> EventError:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return EventError("not_utf8", None, f"byte {error.start} is not UTF-8; save the file as UTF-8")
    bare = _STRING.sub('""', text)
    for pattern, code, cure in _FLAWS:
        if pattern.search(bare):
            return EventError(code, None, f"the text {cure}")
    if "out of range" in problem:
        return EventError("json_not_finite", None, "a number is too large for a double; send a smaller one")
    if re.search(r"\\u[dD][89a-fA-F]", text):
        return EventError("not_utf8", None, r"a \u escape names half a character; write the character itself")
    if text.lstrip()[:1] in ("{", "[") and "truncated" in problem:
        return EventError("json_truncated", None, "the text ends in the middle of an object; send it whole")
    return EventError(
        "not_json", None, f"{problem.removeprefix('JSON is malformed: ')}; send one JSON object per event"
    )
