"""Pictures of a decision: how good the candidates are against the model in service, and the last versions over time.

What belongs here: SVG texts of numbers that are given. What does not: the numbers, and where the pictures are shown.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import polars as pl

from recoflow.models.store.version_summaries import VersionSummary
from recoflow.models.store.versions import ServingState

WIDTH: Final = 720
LEFT: Final = 190  # where the scale begins; names stand before it
RIGHT: Final = 70
ROW: Final = 26
TOP: Final = 40
BOTTOM: Final = 30
COLOURS: Final = {
    "best": "#1a7f37",
    "in service": "#0969da",
    "candidate": "#57606a",
    "baseline": "#57606a",
    "refused": "#cf222e",
}
GRID: Final = "#d0d7de"
INK: Final = "#1f2328"
TICKS: Final = 5


@dataclass(frozen=True)
class Mark:
    """One value with its interval; `kind` is one of COLOURS, and says what it is."""

    name: str
    kind: str
    value: float
    low: float
    high: float


def candidates_chart(metrics: pl.DataFrame, chosen: str | None, refused: Collection[str], margin: float) -> str:
    """NDCG of the candidates with their intervals, and what they must reach; SVG.

    Args:
        metrics: tables.METRICS of one training; rows without NDCG are left out.
        chosen: the best sound candidate.
        refused: degenerate candidates.
        margin: share of the NDCG of the model in service that a challenger may lack.
    """
    judged = metrics.filter(pl.col("ndcg").is_not_null())
    serving = judged.filter(role="in service")["ndcg"]
    marks = [_candidate(row, chosen, refused) for row in judged.iter_rows(named=True)]
    wanted = (
        ""
        if serving.is_empty()
        else f"; dashed: what a challenger must reach, {1 - margin:.0%} of the model in service"
    )
    return intervals(
        f"NDCG@{judged['k'][0]} with 95 % intervals{wanted}",
        marks,
        floor=serving[0] * (1 - margin) if len(serving) else None,
    )


def versions(entries: Sequence[VersionSummary], service: ServingState | None) -> str:
    """NDCG of versions when they were judged, the oldest first; SVG."""
    judged = [entry for entry in entries if entry.metrics.get("ndcg") is not None]
    return course(
        "NDCG of the last versions, each on the hold-out of its own day", [_version(e, service) for e in judged]
    )


def intervals(title: str, marks: Sequence[Mark], *, floor: float | None = None) -> str:
    """A row per mark: its value as a dot, its interval as a line; SVG.

    Args:
        title: what the values are.
        marks: in the order of the rows.
        floor: where a dashed line stands: what a candidate must reach.
    """
    height = TOP + ROW * len(marks) + BOTTOM
    scale = _Scale(max([mark.high for mark in marks] + [floor or 0.0]), LEFT, WIDTH - RIGHT)
    shapes = [_text(12, 22, title, weight="bold")]
    for value in scale.ticks():
        shapes.append(_line(scale(value), TOP, scale(value), height - BOTTOM, GRID))
        shapes.append(_text(scale(value), height - 10, f"{value:.3g}", anchor="middle"))
    if floor is not None:
        shapes.append(_line(scale(floor), TOP - 6, scale(floor), height - BOTTOM, COLOURS["in service"], dash="4 3"))
    for row, mark in enumerate(marks):
        y = TOP + ROW * row + ROW / 2
        colour = COLOURS[mark.kind]
        shapes.append(_text(LEFT - 12, y + 4, f"{mark.name} · {mark.kind}", anchor="end", fill=colour))
        shapes.append(_line(scale(mark.low), y, scale(mark.high), y, colour, width=2))
        shapes.append(f'<circle cx="{scale(mark.value):.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>')
        shapes.append(_text(scale(mark.high) + 8, y + 4, f"{mark.value:.4f}", fill=colour))
    return _svg(height, shapes)


def course(title: str, marks: Sequence[Mark]) -> str:
    """The marks from left to right, the oldest first, values as dots that a line joins; SVG."""
    height, foot = 240, 190
    scale = _Scale(max([mark.high for mark in marks], default=0.0), foot, TOP)
    shapes = [_text(12, 22, title, weight="bold")]
    for value in scale.ticks():
        shapes.append(_line(60, scale(value), WIDTH - 20, scale(value), GRID))
        shapes.append(_text(52, scale(value) + 4, f"{value:.3g}", anchor="end"))
    step = (WIDTH - 80) / max(len(marks), 1)
    places = [60 + step * (number + 0.5) for number in range(len(marks))]
    points = " ".join(f"{x:.1f},{scale(mark.value):.1f}" for x, mark in zip(places, marks, strict=True))
    shapes.append(f'<polyline points="{points}" fill="none" stroke="{GRID}" stroke-width="2"/>')
    for x, mark in zip(places, marks, strict=True):
        colour = COLOURS[mark.kind]
        shapes.append(_line(x, scale(mark.low), x, scale(mark.high), colour, width=2))
        shapes.append(f'<circle cx="{x:.1f}" cy="{scale(mark.value):.1f}" r="4.5" fill="{colour}"/>')
        for line, text in enumerate((mark.name, mark.kind)):
            shapes.append(_text(x, foot + 18 + 16 * line, text, anchor="middle", fill=colour))
    return _svg(height, shapes)


def scatter(title: str, marks: Sequence[Mark], seconds: Sequence[float]) -> str:
    """The marks' values over how long each took, the time logarithmic; SVG."""
    height, foot = 340, 300
    scale = _Scale(max([mark.high for mark in marks], default=0.0), foot, TOP)
    logs = [math.log10(max(each, 0.01)) for each in seconds]
    low, high = math.floor(min(logs, default=0.0)), math.ceil(max(logs, default=1.0) + 1e-9)
    shapes = [_text(12, 22, title, weight="bold")]
    for value in scale.ticks():
        shapes.append(_line(60, scale(value), WIDTH - 20, scale(value), GRID))
        shapes.append(_text(52, scale(value) + 4, f"{value:.3g}", anchor="end"))
    width = (WIDTH - 160) / max(high - low, 1)
    for power in range(low, high + 1):
        x = 70 + width * (power - low)
        shapes.append(_text(x, foot + 18, f"{10.0**power:g} s", anchor="middle"))
    for mark, log in zip(marks, logs, strict=True):
        x, colour = 70 + width * (log - low), COLOURS[mark.kind]
        shapes.append(_line(x, scale(mark.low), x, scale(mark.high), colour, width=1))
        shapes.append(f'<circle cx="{x:.1f}" cy="{scale(mark.value):.1f}" r="4.5" fill="{colour}"/>')
        shapes.append(_text(x + 8, scale(mark.value) + 4, mark.name, fill=colour))
    return _svg(height, shapes)


def _candidate(row: dict[str, Any], chosen: str | None, refused: Collection[str]) -> Mark:
    kind = row["role"]
    if kind == "candidate" and row["model"] in (chosen, *refused):
        kind = "best" if row["model"] == chosen else "refused"
    return Mark(row["model"], kind, row["ndcg"], row["ndcg_low"], row["ndcg_high"])


def _version(entry: VersionSummary, service: ServingState | None) -> Mark:
    kind = "refused" if entry.refused_by else "candidate"
    if service is not None and entry.version == service.version:
        kind = "in service"
    name = f"{entry.trained_at:%b %d %H:%M}" if entry.trained_at else entry.version
    metrics = entry.metrics
    return Mark(f"{name}", kind, metrics["ndcg"], metrics["ndcg_low"], metrics["ndcg_high"])


@dataclass(frozen=True)
class _Scale:
    """Values from 0 to `top` on the places from `begin` to `end`."""

    top: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        return self.begin + (self.end - self.begin) * value / (self.top or 1.0)

    def ticks(self) -> Iterable[float]:
        """Round values from 0 on: 1, 2 or 5 times a power of ten apart."""
        if self.top <= 0:
            return [0.0]
        rough = self.top / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        return [step * number for number in range(int(self.top / step) + 1)]


def _svg(height: float, shapes: Iterable[str]) -> str:
    font = 'font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" {font}>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#ffffff"/>', *shapes, "</svg>"])


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, width: float = 1, dash: str = "") -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="{colour}" stroke-width="{width}"{dashes}/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = INK, weight: str = "normal") -> str:
    look = f'text-anchor="{anchor}" fill="{fill}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(text)}</text>'
