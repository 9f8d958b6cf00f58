from __future__ import annotations

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recoflow import schema
from recoflow.campaigns.publishing import checks, violations
from recoflow.quality.gx_runner import run_checks
from recoflow.storage import sql

pytestmark = pytest.mark.slow

COLUMNS = (*schema.RESPONSE_COLUMNS, "url", "rank", "page_type", "row", "score")
SETTINGS = {"columns": COLUMNS, "provider": "recoflow", "max_fallback_share": 0.5, "validate": run_checks}


@pytest.fixture
def world(tmp_path):
    """Two lists of one user over three items, and how the suite is asked about them."""
    recommendations = pl.DataFrame(
        {
            "user_id": "ann",
            "device_id": pl.Series([None] * 3, dtype=pl.String),
            "user_group": "recoflow",
            "version": "v",
            "campaign_id": "c",
            "request_id": ["r0", "r0", "r1"],
            "list_name": ["Top", "Top", "Other"],
            "item_id": ["a", "b", "c"],
            "url": ["u", None, "u"],
            "rank": [1, 2, 1],
            "page_type": "home",
            "row": [0, 0, 1],
            "score": pl.Series([3, 3, 1], dtype=pl.Float32),
        }
    )
    requests = pl.DataFrame(
        {
            "row": [0, 1, 2],
            "line": [2, 3, 4],
            "user_id": "ann",
            "device_id": pl.Series([None] * 3, dtype=pl.String),
            "subject": "u:ann",
            "list_name": ["Top", "Other", "More"],
            "page_type": "home",
            "request_id": ["r0", "r1", "r2"],
            "user_group": "recoflow",
            "version": "v",
            "list_size": [2, 2, 2],
            "may_repeat": False,
            "is_by_score": True,
            "items": [2, 1, 0],
        }
    )
    items = pl.DataFrame(
        {"item_id": ["a", "b", "c", "off"], "is_enabled": [True, True, True, False], "is_available": True}
    )

    def stage(key, *, recommendations=recommendations, requests=requests, items=items):
        folder = tmp_path / key
        folder.mkdir(exist_ok=True)
        requests.write_parquet(folder / "requests.parquet")
        items.write_parquet(tmp_path / "items.parquet")
        halves = folder / "part-0.parquet", folder / "part-1.parquet"
        for path, half in zip(halves, (recommendations[:2], recommendations[2:]), strict=True):
            half.write_parquet(path)
        return violations.StagedTables(key, "c", halves, folder / "requests.parquet", tmp_path / "items.parquet")

    def check(**frames):
        return checks.check_lists([stage("one", **frames)], **SETTINGS)["one"]

    check.recommendations, check.requests, check.stage = recommendations, requests, stage
    return check


def failed(findings):
    return {finding.check for finding in findings if not finding.passed}


def test_a_sound_campaign_passes_every_check(world):
    findings = world()
    assert [finding.check for finding in findings] == list(violations.CHECKS)
    assert failed(findings) == set()
    json.dumps([finding.metadata for finding in findings])


def test_everything_that_can_be_wrong_within_rows_is_found_and_explained(world):
    """One forged file, so that great-expectations runs once; each line below breaks what it names."""
    frame = world.recommendations.with_columns(
        pl.Series("item_id", ["off", "off", None]),  # not recommendable, twice in a list, missing
        pl.Series("rank", [1, 3, 1]),  # a gap
        pl.Series("score", [1, 2, float("nan")], dtype=pl.Float32),  # rising, not finite
        pl.Series("user_group", ["recoflow", "somebody", "recoflow"]),
        pl.Series("campaign_id", ["c", "c", "d"]),
        pl.Series("row", [0, 0, 9]),  # nobody's row
    )
    requests = world.requests.with_columns(
        pl.Series("list_size", [1, 2, 2]),
        pl.Series("user_group", ["fallback", "fallback", "recoflow"]),
        pl.Series("request_id", ["r0", "r1", "r1"]),
    )
    findings = world(recommendations=frame, requests=requests)
    assert failed(findings) == set(violations.CHECKS) - {"columns_complete", "has_recommendations"}
    messages = {finding.check: finding.message for finding in findings}
    assert "somebody" in messages["user_groups_known"]
    assert "missing_item_id" in messages["required_values_present"]


def test_lists_that_are_torn_apart_or_mixed_up_are_found(world):
    """What the one pass over lists must see: a list in two places, an identifier of another row, scores that rise."""
    torn = world(recommendations=world.recommendations.with_columns(pl.Series("row", [0, 1, 0]), rank=pl.lit(1)))
    assert {"order_kept", "rows_match"} <= failed(torn)
    swapped = world(recommendations=world.recommendations.with_columns(pl.Series("request_id", ["r0", "r1", "r1"])))
    assert failed(swapped) == {"rows_match"}
    scores = pl.Series("score", [1, 3, 9], dtype=pl.Float32)  # another list may begin higher than this one ends
    assert failed(world(recommendations=world.recommendations.with_columns(scores))) == {"order_kept"}


def test_columns_repetition_and_emptiness_are_checked(world):
    repeated = world.recommendations.with_columns(pl.Series("item_id", ["a", "b", "a"])).drop("url")
    assert failed(world(recommendations=repeated)) == {"columns_complete", "no_item_repeated"}
    nothing = world(recommendations=world.recommendations[:0], requests=world.requests.with_columns(items=0))
    assert failed(nothing) == {"has_recommendations"}
    assert {finding.severity for finding in nothing if not finding.passed} == {"warn"}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 99), min_size=1, max_size=90))
def test_what_passes_for_a_varied_list_holds_no_item_twice(items):
    frame = pl.DataFrame({"item_id": [str(item) for item in items]})
    with sql.connect() as connection:
        connection.register("frame", frame.to_arrow())
        ((is_varied,),) = connection.execute(f"SELECT {violations.IS_VARIED} FROM frame").fetchall()
    assert not is_varied or len({*items}) == len(items)
    assert is_varied or len({*items}) < len(items) or len(items) > 2  # it tells apart at all


def test_of_many_campaigns_each_gets_its_own_findings(world):
    repeated = world.recommendations.with_columns(pl.Series("item_id", ["a", "b", "a"]))
    nothing = {"recommendations": world.recommendations[:0], "requests": world.requests.with_columns(items=0)}
    staged = [
        world.stage("sound"),
        world.stage("repeated", recommendations=repeated),
        world.stage("also sound"),
        world.stage("it's empty", **nothing),
    ]
    found = {key: failed(findings) for key, findings in checks.check_lists(staged, **SETTINGS).items()}
    assert found == {
        "sound": set(),
        "repeated": {"no_item_repeated"},
        "also sound": set(),
        "it's empty": {"has_recommendations"},
    }
    assert checks.check_lists([], **SETTINGS) == {}
