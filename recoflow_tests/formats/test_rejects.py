from __future__ import annotations

import re
from pathlib import Path

import pytest

from recoflow.formats import rejects


def test_every_code_is_used_and_none_is_missing() -> None:
    folder = Path(rejects.__file__).parent
    text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py") if path.name != "rejects.py")
    unused = [code for code in rejects.CODES if f'"{code}"' not in text]
    assert unused == ["unknown_channel", "unknown_page_type"]  # composed from the field's name in froomle
    assert 'f"unknown_{name}"' in text


def test_codes_are_stable_words_with_a_meaning() -> None:
    assert all(re.fullmatch(r"[a-z0-9_]+", code) and meaning for code, meaning in rejects.CODES.items())


def test_a_code_that_is_not_listed_cannot_be_given() -> None:
    with pytest.raises(ValueError, match="not in rejects"):
        rejects.EventError("made_up", None, "x")


def test_long_values_are_cut_in_messages() -> None:
    assert rejects.shortened("x" * 100) == "x" * 59 + "…"
    assert rejects.shortened("x" * 60) == "x" * 60
