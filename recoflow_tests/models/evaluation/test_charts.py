from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import polars as pl
import pytest

from recoflow.models.evaluation import charts, tables
from recoflow.models.evaluation.charts import COLOURS
from recoflow.models.store.version_summaries import VersionSummary
from recoflow.models.store.versions import ServingState

SVG = "{http://www.w3.org/2000/svg}"


def row(model: str, role: str, ndcg: float | None) -> dict[str, object]:
    low, high = (None, None) if ndcg is None else (ndcg - 0.02, ndcg + 0.04)
    return {"model": model, "role": role, "k": 10, "ndcg": ndcg, "ndcg_low": low, "ndcg_high": high}


def texts(svg: str) -> dict[str, str]:
    """Text → colour."""
    return {str(each.text): each.attrib["fill"] for each in ET.fromstring(svg).iter(f"{SVG}text")}


def places(svg: str, axis: str) -> list[float]:
    return [float(each.attrib[axis]) for each in ET.fromstring(svg).iter(f"{SVG}circle")]


@pytest.fixture
def metrics() -> pl.DataFrame:
    rows = [row("als", "candidate", 0.2), row("<flat>", "candidate", 0.1), row("broken", "candidate", None)]
    return pl.DataFrame([*rows, row("als", "in service", 0.16), row("random", "baseline", 0.02)], schema=tables.METRICS)


def test_candidates_stand_at_their_values_in_the_colours_of_their_fate(metrics: pl.DataFrame) -> None:
    svg = charts.candidates_chart(metrics, "als", ["<flat>"], margin=0.05)
    assert {
        "als · best": COLOURS["best"],
        "<flat> · refused": COLOURS["refused"],
        "als · in service": COLOURS["in service"],
        "random · baseline": COLOURS["baseline"],
    }.items() <= texts(svg).items()
    assert "broken" not in svg
    best, flat, serving, random = (place - charts.LEFT for place in places(svg, "cx"))
    assert best == pytest.approx(2 * flat, abs=0.2)
    assert best == pytest.approx(10 * random, abs=1)
    (dashed,) = [each for each in ET.fromstring(svg).iter(f"{SVG}line") if "stroke-dasharray" in each.attrib]
    assert float(dashed.attrib["x1"]) - charts.LEFT == pytest.approx(0.95 * serving, abs=0.2)


def test_before_the_first_promotion_there_is_nothing_to_reach(metrics: pl.DataFrame) -> None:
    svg = charts.candidates_chart(metrics.filter(pl.col("role") != "in service"), None, [], margin=0.05)
    assert "stroke-dasharray" not in svg


def test_versions_stand_in_the_order_of_their_training() -> None:
    values = {"ndcg_low": 0.1, "ndcg_high": 0.3}
    entries = [
        VersionSummary(f"v{day}", datetime(2026, 1, day, tzinfo=UTC), {}, values | {"ndcg": day / 10}, (), ())
        for day in (1, 2, 3)
    ]
    entries[2] = dataclasses.replace(entries[2], refused_by=("coverage",))
    damaged = VersionSummary("v4", None, {}, {}, (), (), "is not JSON")
    svg = charts.versions([*entries, damaged], ServingState("v2"))
    across, down = places(svg, "cx"), places(svg, "cy")
    assert across == sorted(across)
    assert down == sorted(down, reverse=True)
    shown = texts(svg)
    assert shown["in service"] == shown["Jan 02 00:00"] == COLOURS["in service"]
    assert shown["refused"] == shown["Jan 03 00:00"] == COLOURS["refused"]


@pytest.mark.parametrize(
    "entries", [[], [VersionSummary("v1", None, {}, {"ndcg": 0.0, "ndcg_low": 0.0, "ndcg_high": 0.0}, (), ())]]
)
def test_nothing_and_zero_can_be_drawn(entries: list[VersionSummary]) -> None:
    assert len(places(charts.versions(entries, None), "cx")) == len(entries)


def test_the_scale_has_round_values(metrics: pl.DataFrame) -> None:
    assert {"0", "0.05", "0.1", "0.15", "0.2"} <= set(texts(charts.candidates_chart(metrics, None, [], margin=0)))


def test_quality_stands_over_time_on_a_logarithmic_scale() -> None:
    marks = [charts.Mark(name, "candidate", 0.1, 0.09, 0.11) for name in ("quick", "slow", "slowest")]
    svg = charts.scatter("NDCG over seconds", marks, [0.1, 1.0, 10.0])
    places = [float(each.attrib["cx"]) for each in ET.fromstring(svg).iter(f"{SVG}circle")]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2)
    assert places[2] > places[0]
    assert charts.scatter("nothing", [], [])
