"""Escapes are spelled out where they mean nothing but their character, and JSON stays what it was."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recoflow.formats.escapes import spelled_out

PIECES = [
    *(r"\/", r"\\", r"\"", r"\n", "\\", "\\u", r"\u00", r"\u00e9", r"\u00E9", r"\u20ac", r"\ud83d\ude00", r"\ud83d"),
    *(r"\ude00", r"\u0000", r"\u0026", r"\u003C", r"\u0022", r"\u005c", r"\u0031", r"\u002c", r"\u0074", r"\u000a"),
    *('"', "{", "}", "[", "]", ",", ":", " ", "1", "true", "é", "€", "x", "/", "ude00"),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


def parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return "no JSON"


@settings(max_examples=400, deadline=None)
@given(TEXTS, st.booleans())
@example(r"1\u002c2", False)
@example(r"\u0074rue", False)
@example(r"[1\/2]", False)
def test_json_means_the_same_and_what_is_none_stays_none(text: str, is_quoted: bool) -> None:
    text = f'["{text}"]' if is_quoted else text
    found = spelled_out(text.encode()).decode()
    assert parsed(found) == parsed(text)
    assert found.count("\n") == text.count("\n")


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'), max_size=40))
def test_what_printers_escape_beyond_ascii_is_spelled_out(text: str) -> None:
    escaped = json.dumps(text).replace("/", r"\/").encode()
    assert spelled_out(escaped) == json.dumps(text, ensure_ascii=False).encode()


@pytest.mark.parametrize("text", [b"", b'{"a": "b"}', "é".encode()])
def test_a_text_without_escapes_is_not_copied(text: bytes) -> None:
    assert spelled_out(text) is text


@pytest.mark.parametrize("kept", [r"\"", r"\\", r"\n", r"\u000a", r"\u0022", r"\u005c", r"\ud83d", r"\ude00", r"\u12"])
def test_what_a_text_needs_stays_escaped(kept: str) -> None:
    assert spelled_out(f'"{kept}"'.encode()) == f'"{kept}"'.encode()
