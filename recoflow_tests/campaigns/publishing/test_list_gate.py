from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from recoflow.campaigns.lists.rank_blocks import BlockLimits
from recoflow.campaigns.publishing import list_gate
from recoflow.errors import AuditError
from recoflow.storage import atomic_files

REQUEST = """environment,user_id,device_id,list_name,list_size,page_type
lorem,sport,,Top,2,home
lorem,stranger,,Top,3,home
lorem,sport,,Other,2,home
lorem,,kiosk,Top,2,home
"""


@pytest.fixture
def result(reply, newsroom):
    return reply(REQUEST, newsroom, limits=BlockLimits(lists=3))


def rewritten(result, change, *, file):
    """The campaign with one file replaced by `change` of it, and a matching manifest."""
    path = (*result.parts, result.requests)[file]
    change(pl.read_parquet(path)).write_parquet(path)
    return dataclasses.replace(result, files=result.files | {path.name: atomic_files.sha256(path)})


def forged(result, *changes, file=0):
    """The campaign with some values of one file changed, and a matching manifest."""

    def forge(original):
        frame = original.with_row_index("place")
        for condition, change in changes:
            frame = frame.with_columns(
                pl.when(condition)
                .then(value if isinstance(value, pl.Expr) else pl.lit(value))
                .otherwise(column)
                .alias(column)
                .cast(frame.schema[column])
                for column, value in change.items()
            )
        return frame.drop("place")

    return rewritten(result, forge, file=file)


def test_a_sound_campaign_passes_every_check(result, newsroom):
    findings = list_gate.audit_lists(result, newsroom)
    assert [finding.check for finding in findings] == list(list_gate.CHECKS)
    assert all(finding.passed for finding in findings)


def test_a_campaign_without_rows_passes(reply, newsroom):
    empty = reply(REQUEST.replace(",2,", ",0,").replace(",3,", ",0,"), newsroom, folder="empty")
    assert all(finding.passed for finding in list_gate.audit_lists(empty, newsroom))


def test_a_changed_missing_or_foreign_file_is_refused_before_it_is_read(result, newsroom):
    result.parts[0].write_bytes(result.parts[0].read_bytes() + b"x")
    with pytest.raises(AuditError, match="files_unchanged"):
        list_gate.audit_lists(result, newsroom)
    result.parts[0].unlink()
    with pytest.raises(AuditError, match=r"files_unchanged.*part-00000"):
        list_gate.audit_lists(result, newsroom)


def test_a_file_that_the_manifest_does_not_know_is_refused(result, newsroom):
    pl.DataFrame({"x": [1]}).write_parquet(result.folder / "part-00009.parquet")
    with pytest.raises(AuditError, match=r"files_unchanged.*part-00009"):
        list_gate.audit_lists(result, newsroom)


@pytest.mark.parametrize("name", ["user_factors", "item_factors", "popular"])
def test_a_model_with_numbers_that_are_none_never_publishes(result, newsroom, name):
    broken = getattr(newsroom, name).copy()
    broken.flat[0] = np.nan
    with pytest.raises(AuditError, match="model_sound"):
        list_gate.audit_lists(result, dataclasses.replace(newsroom, **{name: broken}))


def test_another_model_than_the_one_that_ranked_is_refused(result, newsroom):
    with pytest.raises(AuditError, match="model_sound"):
        list_gate.audit_lists(result, dataclasses.replace(newsroom, version="v2"))


PLACE = pl.col("place")


@pytest.mark.parametrize(
    ("check", "condition", "change"),
    [
        ("order_kept", PLACE == 0, {"rank": 2}),
        ("order_kept", PLACE < 2, {"rank": 3 - pl.col("rank")}),
        ("order_kept", PLACE < 2, {"rank": pl.col("rank") + 1}),
        ("order_kept", PLACE == 1, {"score": 1000.0}),
        ("order_kept", PLACE == 1, {"score": float("nan")}),
        ("order_kept", pl.lit(value=True), {"row": 2 - pl.col("row")}),
        ("order_kept", pl.col("row") == 0, {"row": 9}),
        ("order_kept", PLACE == 1, {"rank": None}),
        ("order_kept", PLACE == 1, {"score": None}),
        ("order_kept", PLACE == 1, {"row": None}),
        ("rows_match", PLACE == 0, {"user_id": "ann"}),
        ("rows_match", PLACE == 0, {"device_id": "phone"}),
        ("rows_match", PLACE == 0, {"campaign_id": "other"}),
        ("rows_match", PLACE == 0, {"request_id": "other"}),
        ("rows_match", PLACE == 0, {"list_name": "other"}),
        ("rows_match", PLACE == 0, {"user_group": "fallback"}),
        ("rows_match", PLACE == 0, {"page_type": "search"}),
        ("rows_match", PLACE == 1, {"version": "other"}),  # within a list
        ("rows_match", PLACE == 1, {"user_id": None}),
        ("items_recommendable", PLACE == 0, {"item_id": "zzz"}),
        ("items_recommendable", PLACE == 0, {"item_id": None}),
        ("no_item_repeated", PLACE == 1, {"item_id": pl.col("item_id").first()}),
        ("no_item_repeated", pl.col("row") == 2, {"item_id": pl.col("item_id").shift(5)}),
        ("nothing_consumed", PLACE == 0, {"item_id": "a"}),
    ],
)
def test_a_forged_recommendation_is_refused_by_the_check_that_it_breaks(result, newsroom, check, condition, change):
    with pytest.raises(AuditError, match=f": {check}"):
        list_gate.audit_lists(forged(result, (condition, change)), newsroom)


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("rows_match", {"list_size": 1}),
        ("rows_match", {"items": 1}),
        ("rows_match", {"items": None}),
        ("rows_match", {"row": 9}),
        ("no_item_repeated", {"subject": None}),
        ("counts_add_up", {"list_size": 3}),
    ],
)
def test_a_forged_request_row_is_refused(result, newsroom, check, change):
    with pytest.raises(AuditError, match=f": {check}"):
        list_gate.audit_lists(forged(result, (PLACE == 0, change), file=-1), newsroom)


def test_the_order_of_the_rows_in_the_file_of_requests_does_not_hide_what_was_consumed(result, newsroom):
    other = rewritten(result, pl.DataFrame.reverse, file=-1)
    list_gate.audit_lists(other, newsroom)
    with pytest.raises(AuditError, match=": nothing_consumed"):
        list_gate.audit_lists(forged(other, (PLACE == 0, {"item_id": "a"})), newsroom)


def test_columns_are_taken_by_their_names_in_every_file(result, newsroom):
    list_gate.audit_lists(rewritten(result, lambda part: part.select(reversed(part.columns)), file=1), newsroom)
    swapped = {"user_id": "device_id", "device_id": "user_id"}
    with pytest.raises(AuditError, match=": rows_match"):
        list_gate.audit_lists(rewritten(result, lambda part: part.rename(swapped), file=1), newsroom)


def test_recommendations_that_nobody_asked_for_are_refused(result, newsroom):
    with pytest.raises(AuditError, match=": rows_match"):
        list_gate.audit_lists(forged(result, (pl.lit(value=True), {"row": 7}), file=1), newsroom)


def test_a_list_that_goes_on_in_the_next_file_is_refused(result, newsroom):
    with pytest.raises(AuditError, match=": order_kept"):
        list_gate.audit_lists(forged(result, (pl.lit(value=True), {"row": 2}), file=1), newsroom)


def test_a_part_of_the_response_that_is_left_out_is_refused(result, newsroom):
    last = result.parts[-1]
    last.unlink()
    files = {name: digest for name, digest in result.files.items() if name != last.name}
    with pytest.raises(AuditError, match=": rows_match"):
        list_gate.audit_lists(dataclasses.replace(result, files=files), newsroom)


def test_an_item_that_was_disabled_since_is_refused(result, newsroom):
    items = newsroom.items.with_columns(is_enabled=pl.col("item_id") != "b")
    with pytest.raises(AuditError, match=": items_recommendable"):
        list_gate.audit_lists(result, dataclasses.replace(newsroom, items=items))


def test_wrong_counts_are_refused(result, newsroom):
    counts = dataclasses.replace(result.counts, failed=1)
    with pytest.raises(AuditError, match=": counts_add_up"):
        list_gate.audit_lists(dataclasses.replace(result, counts=counts), newsroom)


SPORT = {"key": "categories", "contains": {"value": "sport"}}
REST = {"key": "section", "match": {"value": 1, "not": True}}


@pytest.mark.parametrize(
    ("item", "limits"), [("c", [{"query": SPORT, "limit": {"max": 1}}]), ("c", [{"query": REST, "limit": {"min": 1}}])]
)
def test_a_list_that_breaks_a_constraint_is_refused(reply, newsroom, item, limits):
    request = "\n".join(REQUEST.splitlines()[:2])
    configurations = {"c": {"constraints": limits, "repeat_items": True}}
    result = reply(request, newsroom, configurations=configurations, lists={"Top": "c"})
    assert pl.read_parquet(result.parts[0])["item_id"].to_list() == ["b", "e"]
    list_gate.audit_lists(result, newsroom)
    with pytest.raises(AuditError, match=": constraints_hold"):
        list_gate.audit_lists(forged(result, (PLACE == 1, {"item_id": item})), newsroom)


def test_scores_may_rise_in_a_diverse_list_and_in_no_other(reply, newsroom):
    configurations = {"c": {"diversity": 0.5}}
    result = reply(REQUEST, newsroom, configurations=configurations, lists={"Top": "c"}, folder="diverse")
    rising = (PLACE == 0, {"score": -1.0})
    list_gate.audit_lists(forged(result, rising), newsroom)
    with pytest.raises(AuditError, match=": order_kept"):
        list_gate.audit_lists(forged(result, (pl.col("row") == 2, {"score": pl.col("rank")})), newsroom)
