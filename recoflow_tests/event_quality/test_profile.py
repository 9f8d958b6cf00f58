from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from recoflow.errors import ConfigurationError
from recoflow.event_quality import profile
from recoflow.event_quality.profile import Profile
from recoflow.settings.environment import Environment
from recoflow.settings.sections import Sftp

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = 86_400
LOREM = Environment(name="lorem", sftp=Sftp(username="lorem", private_key=Path("key"), known_hosts=Path("hosts")))
ITEM = {"action_item": "a1", "action_item_type": "article", "page_type": "home"}
SHOWN = ITEM | {"list_name": "top", "request_id": "r1"}
MAILED = {"action_item": "a1", "action_item_type": "article", "list_name": "mail", "request_id": "m1"} | {
    "campaign_id": "c1"
}
Read = Callable[..., Profile]


def event(event_type: str, seconds: int = 0, **fields: Any) -> dict[str, Any]:
    return {"event_type": event_type, "user_id": "ann", "timestamp": 1_772_000_000 + seconds} | fields


def item(item_id: str, **fields: Any) -> dict[str, Any]:
    return {"item_id": item_id, "item_type": "article", "timestamp": 1_771_000_000} | fields


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def write(name: str, rows: tuple[dict[str, Any], ...] | list[dict[str, Any]]) -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return path

    def profiled(*events: dict[str, Any], items: tuple[dict[str, Any], ...] = ()) -> Profile:
        paths = [write("lorem_events.jsonl", events), write("lorem_items.jsonl", items)]
        return profile.profile(paths, LOREM, NOW)

    return profiled


def possible(found: Profile) -> set[str]:
    return {verdict.name for verdict in found.verdicts if verdict.is_possible}


def reason(found: Profile, name: str) -> str:
    return next(verdict.reason for verdict in found.verdicts if verdict.name == name)


def shares(found: Profile) -> dict[str, float | None]:
    return {join.name: join.share for join in found.facts.joins}


def test_files_without_an_event_support_nothing(read: Read) -> None:
    found = read()

    assert possible(found) == set()
    assert found.facts.identity.with_user is None
    assert found.facts.times.first_at is None
    assert reason(found, "before_placements") == "page_visit: missing; detail_pageview: missing"
    assert reason(found, "ctr") == "no impression events; no click_on_recommendation events"
    json.dumps(found.as_json(), default=str)


def test_counts_and_refusals_are_those_of_an_ingest(read: Read) -> None:
    visit = event("page_visit", page_type="home")
    found = read(visit, visit, event("page_visit"), event("page_visit", 5))

    assert (found.counts.read, found.counts.accepted, found.counts.quarantined, found.counts.duplicates) == (4, 1, 2, 1)
    assert found.reasons.rows() == [("missing_field", 2, "page_type is missing; page_visit events need it")]
    assert [each.file for each in found.files] == ["lorem_events.jsonl", "lorem_items.jsonl"]


def test_each_event_type_has_its_priority_state_and_first_event(read: Read) -> None:
    found = read(event("page_visit", page_type="home"), event("page_visit", 200 * DAY // 100, page_type="home"))

    types = {each.event_type: each for each in found.facts.event_types}
    assert len(types) == 15
    visit = types["page_visit"]
    assert (visit.priority, visit.state, visit.events) == ("must, before placements", "ready", 2)
    assert visit.first_at == datetime.fromtimestamp(1_772_000_000, UTC)
    assert (types["detail_pageview"].state, types["start_subscription"].state) == ("missing", "not sent")


def test_events_of_long_ago_count_as_much_as_late_ones(read: Read) -> None:
    old = event("page_visit", -400 * DAY, page_type="home")
    found = read(old, event("page_visit", page_type="home"))

    assert found.facts.events_of("page_visit") == 2


def test_identity_tells_users_devices_and_anonymous_events_apart(read: Read) -> None:
    found = read(
        event("page_visit", 1, page_type="home", device_id="phone"),
        event("page_visit", 2, page_type="home", device_id="phone", user_id=None),
        event("page_visit", 3, page_type="home", device_id="tv"),
        event("page_visit", 4, page_type="home", device_id="tv", user_id="bob"),
        event("page_visit", 5, page_type="home", device_id="tv", user_id=None),
    )

    who = found.facts.identity
    assert (who.with_user, who.with_device, who.with_both) == pytest.approx((0.6, 1.0, 0.6))
    assert (who.anonymous, who.anonymous_but_known, who.without_identity) == pytest.approx((0.4, 0.2, 0.0))
    assert (who.users, who.devices, who.shared_devices) == (2, 2, 1)


def test_gaps_are_whole_days_without_events_the_longest_first(read: Read) -> None:
    found = read(*(event("page_visit", day * DAY, page_type="home") for day in (-9, -8, -6, -2)))

    assert found.facts.times.days == 4
    assert [(gap.first, gap.days) for gap in found.facts.times.gaps] == [(date(2026, 2, 20), 3), (date(2026, 2, 18), 1)]


def test_clicks_join_impressions_by_request_and_item(read: Read) -> None:
    found = read(
        event("impression", 1, **SHOWN),
        event("impression", 1, **SHOWN | {"action_item": "a2"}),
        event("click_on_recommendation", 2, **SHOWN),
        event("click_on_recommendation", 3, **SHOWN | {"action_item": "a3"}),
        event("click_on_recommendation", 4, **SHOWN | {"request_id": "r2"}),
    )

    found_shares = shares(found)
    assert found_shares["clicks_to_their_impression"] == pytest.approx(1 / 3)
    assert found_shares["clicks_to_a_known_request"] == pytest.approx(2 / 3)
    assert found_shares["impressions_to_a_click"] == pytest.approx(1 / 2)
    assert "live_placements" in possible(found)
    assert reason(found, "ctr") == "33% of clicks find their impression, 80% are needed"


def test_ctr_is_possible_when_clicks_find_their_impressions(read: Read) -> None:
    events = (event("impression", 1, **SHOWN), event("click_on_recommendation", 2, **SHOWN))

    assert "ctr" in possible(read(*events))
    assert "comparison_of_versions" not in possible(read(*events))
    assert "comparison_of_versions" in possible(read(*(each | {"version": "v1"} for each in events)))


def test_a_ranking_counts_once_though_its_impressions_are_sent_again_as_interactions(tmp_path: Path) -> None:
    ranking = {"event": "ranking", "id": "r1", "timestamp": "1772000000000", "user": "ann", "items": [{"id": "a1"}]}
    seen = {"event": "interaction", "id": "i1", "timestamp": "1772000000000", "type": "impression", "item": "a1"}
    path = tmp_path / "metarank.jsonl"
    path.write_text(json.dumps(ranking) + "\n" + json.dumps(seen))

    found = profile.profile([path], LOREM, NOW)

    assert found.facts.identity.without_identity == pytest.approx(0.5)
    assert found.facts.join("impressions_with_a_request").looked_for == 1


def test_conversion_needs_a_click_of_the_same_person_on_the_same_item_before(read: Read) -> None:
    click = event("click_on_recommendation", 2, **SHOWN, device_id="phone", user_id=None)
    login = event("page_visit", 3, page_type="home", device_id="phone")
    bought = {"action_item": "a1", "action_item_type": "article", "price": 3}

    assert "conversion" in possible(read(click, login, event("purchase", 9, **bought)))
    assert "conversion" not in possible(read(click, login, event("purchase", 1, **bought)))
    assert "conversion" not in possible(read(click, login, event("purchase", 9, **bought, user_id="bob")))
    assert "revenue" in possible(read(event("purchase", 9, **bought)))
    assert "revenue" not in possible(read(event("purchase", 9, **bought | {"price": None})))


def test_batch_attribution_needs_clicks_that_find_what_was_mailed(read: Read) -> None:
    opened, mailed = event("batch_open", campaign_id="c1"), event("batch_impression", **MAILED)
    click = event("batch_click_on_recommendation", 5, **MAILED)

    assert {"batch_attribution", "open_rate", "batch_campaigns"} <= possible(read(opened, mailed, click))
    lost = read(opened, mailed, click | {"request_id": "m2"})
    assert "batch_attribution" not in possible(lost)
    assert "open_rate" in possible(lost)


def test_models_need_people_days_and_a_catalogue(read: Read) -> None:
    def views(people: int, days: int) -> list[dict[str, Any]]:
        rows = ((person, thing) for person in range(people) for thing in range(2 if people < 20 else 12))
        return [
            event("detail_pageview", -(thing % days) * DAY + thing, **ITEM | {"action_item": f"a{thing}"})
            | {"user_id": f"user-{person}"}
            for person, thing in rows
        ]

    items = tuple(item(f"a{number}", title="A", publication_datetime="2026-02-01T00:00:00Z") for number in range(12))
    few, many = read(*views(3, 1)), read(*views(20, 2), items=items)

    assert {"popular", "trending", "newest", "collaborative_filtering", "item_metadata"} & possible(few) == {"popular"}
    assert reason(few, "collaborative_filtering") == (
        "people with two items or more: 3, at least 20 are needed; "
        "items with two people or more: 2, at least 10 are needed"
    )
    assert {"popular", "trending", "newest", "collaborative_filtering", "item_metadata"} <= possible(many)
    pairs = many.facts.interactions
    assert (pairs.pairs, pairs.subjects, pairs.items, pairs.per_subject_median) == (240, 20, 12, 12.0)
    assert many.facts.catalogue.attributes == {"publication_datetime": 1.0, "title": 1.0}


def test_items_that_the_catalogue_does_not_know_are_told(read: Read) -> None:
    views = (event("detail_pageview", number, **ITEM | {"action_item": f"a{number}"}) for number in range(4))
    found = read(*views, items=(item("a0", title="A"), item("z", title="Z")))

    assert shares(found)["items_to_the_catalogue"] == pytest.approx(1 / 4)
    assert shares(found)["catalogue_to_events"] == pytest.approx(1 / 2)
    assert reason(found, "item_metadata") == "25% of items in events are in the catalogue, 80% are needed"


def test_what_is_required_decides_what_has_failed(read: Read) -> None:
    found = read(event("page_visit", page_type="home"), event("detail_pageview", **ITEM))

    assert [verdict.name for verdict in found.failed()] == ["live_placements"]
    assert found.failed(["before_placements", "popular"]) == []
    with pytest.raises(ConfigurationError, match="Did you mean 'popular'"):
        found.failed(["populer"])
