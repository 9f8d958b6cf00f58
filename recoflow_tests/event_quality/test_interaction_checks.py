from __future__ import annotations

from datetime import timedelta

import pytest

from recoflow.event_quality import interaction_checks
from recoflow_tests.event_quality.conftest import NOW, environment, event, item

ROW = {
    "subject": "u:ann",
    "item_id": "article-1",
    "weight": 1.0,
    "events": 1,
    "event_types": 2,
    "first_at": NOW - timedelta(days=2),
    "last_at": NOW - timedelta(days=1),
}


def test_interactions_of_a_lake_are_sound_known_and_fresh(judged):
    found = judged(interaction_checks.check_interactions, [event("detail_pageview")], items=[item("article-1")])
    assert list(found) == list(interaction_checks.CHECKS)
    assert {name for name, finding in found.items() if not finding.passed} == {"enough_to_learn"}


@pytest.mark.parametrize(
    "rows",
    [
        [ROW | {"weight": float("nan")}],
        [ROW | {"weight": None}],
        [ROW | {"events": 0}],
        [ROW | {"first_at": NOW}],
        [ROW | {"subject": "ann"}],
        [ROW, ROW],
    ],
)
def test_a_row_that_is_not_sound_is_an_error(judged, rows):
    finding = judged(interaction_checks.check_interactions, interactions=rows)["rows_sound"]
    assert (finding.passed, finding.severity) == (False, "error")
    assert finding.metadata["examples"] == ["article-1"]
    assert "Materialize interactions again" in finding.message


def test_too_few_subjects_items_and_pairs_are_named(judged):
    settings = environment({"min_subjects": 1, "min_items": 2, "min_interactions": 2})
    rows = [ROW, ROW | {"item_id": "article-2", "weight": -1.0}]
    finding = judged(interaction_checks.check_interactions, settings=settings, interactions=rows)["enough_to_learn"]
    assert not finding.passed
    assert finding.message.startswith("1 items, 2 are needed; 1 interactions, 2 are needed")


def test_items_without_metadata_are_counted_once_each(judged):
    rows = [ROW, ROW | {"subject": "u:bob"}, ROW | {"item_id": "article-2"}]
    finding = judged(interaction_checks.check_interactions, interactions=rows, items=[item("article-2")])["items_known"]
    assert (finding.metadata["looked_at"], finding.metadata["examples"]) == (2, ["article-1"])
