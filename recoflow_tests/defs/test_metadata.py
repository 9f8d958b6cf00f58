"""What the Dagster UI is given to render holds no markup of others and no ids of people."""

from __future__ import annotations

import dagster as dg
import polars as pl
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from recoflow.defs import metadata
from recoflow.quality.finding import Finding

HOSTILE = [
    "![](http://e.vil/x.png)",
    "[click](http://e.vil)",
    "[click][1] [1]: http://e.vil",
    "<img src=http://e.vil/x.png onerror=alert(1)>",
    "<http://e.vil>",
    "http://e.vil/x",
    "www.e.vil",
    "a | ![](http://e.vil) | b",
    "a \\| ![](http://e.vil) \\\\| b",
    "` ![](http://e.vil) `",
    "``` ![](http://e.vil)",
    "![a\n](http://e.vil)",
    "&#33;[](http://e.vil)",
    "\\![](http://e.vil)",
    "\u2028![](http://e.vil)",
    "<script>alert(1)</script>",
    "**x** _y_ ~~z~~",
]
RENDERER = MarkdownIt("gfm-like", {"linkify": False, "html": True})
ALLOWED = {"text", "code_inline", "softbreak"}


def inline(markdown: str) -> list[Token]:
    return [part for token in RENDERER.parse(markdown) for part in (token.children or [])]


@pytest.mark.fault("C3")
@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_renders_as_nothing_but_text(text: str) -> None:
    shown = metadata.table([{"file": text, "rows": 1, text: "x"}]).value
    blocks = {token.type.rpartition("_")[0] for token in RENDERER.parse(shown) if token.type != "inline"}
    assert blocks == {"table", "thead", "tr", "th", "tbody", "td"}
    assert {part.type for part in inline(shown)} <= ALLOWED
    assert len([token for token in RENDERER.parse(shown) if token.type == "td_open"]) == 3
    for part in inline(shown):
        assert part.type == "code_inline" or ("//" not in part.content and "www." not in part.content)


@pytest.mark.fault("C3")
@pytest.mark.parametrize("text", HOSTILE)
def test_the_description_of_a_check_renders_as_nothing_but_text(text: str) -> None:
    finding = Finding("rows_sound", passed=False, message=f"{text} is wrong")
    (result,) = metadata.check_results([finding], ["rows_sound"], dg.AssetKey("x"), {})
    assert result.description is not None
    types = {part.type for part in inline(result.description)}
    assert not types & {"link_open", "image", "html_inline"}
    assert "html_block" not in {token.type for token in RENDERER.parse(result.description)}
    assert "://" not in result.description
    assert "www." not in result.description


@pytest.mark.fault("M15")
def test_a_preview_leaves_out_who_it_was() -> None:
    row = {"user_id": "ann-4711", "device_id": "d", "raw": "x", "message": "ann-4711", "item_id": "a-1", "rank": 2}
    shown = metadata.preview(pl.DataFrame([row])).value
    assert shown.splitlines() == ["| item_id | rank |", "| --- | --- |", "| a-1 | 2 |"]
    assert "ann" not in metadata.preview(pl.DataFrame([{"user_id": "ann-4711"}])).value


def test_ordinary_cells_are_shown_as_they_are() -> None:
    shown = metadata.table([{"name": "lorem_events (2), 50 %", "share": 0.5, "none": None}]).value
    assert shown.splitlines()[2] == "| lorem_events (2), 50 % | 0.5000 |  |"
