"""The quick look against the exact rules: what it lets through must be good in every later stage."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recoflow import schema
from recoflow.formats import files, froomle
from recoflow.gateway import bodies
from recoflow.gateway.bodies import NotJsonError, RefusedBodyError
from recoflow.gateway.screen import Screen
from recoflow.settings.environment import Environment
from recoflow_tests.gateway.client import view

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SFTP = {"username": "u", "private_key": "k", "known_hosts": "h"}
ONE_TYPE = Environment.model_validate({"name": "lorem", "sftp": SFTP, "events": {"item_types": ["article"]}})
NO_TYPE = Environment.model_validate({"name": "lorem", "sftp": SFTP, "events": {"channels": ["kiosk"]}})

TEXTS = (
    None,
    "",
    " ",
    "\t",
    "\u00a0",
    " x ",
    "x",
    "null",
    "Anonymous ",
    "www",
    "WWW",
    "kiosk",
    "home",
    "lorem",
    "ipsum",
)
NUMBERS = (0, 1, -1, 1.0, 2.5, 1e300, 10**30, "1", "1.5", True, [], {})
TIMES = (
    *(1_790_000_000, "1790000000", 1_790_000_000_000, 1_780_315_200_000, 1_780_315_200_001.0),
    *("2026-05-01T12:00:00Z", "2026-05-01", "2026-05-01T12:00:00"),
)
ODD = st.sampled_from([*TEXTS, *NUMBERS, *TIMES, *schema.EVENT_TYPES])
FIELDS = st.sampled_from(sorted(froomle.KNOWN | {"shelf", "price", "rank"}))
TYPES = st.sampled_from(schema.EVENT_TYPES)
FULL = view(
    interaction_type="like", request_id="r", campaign_id="c", list_name="l", checkpoint="50", action_item_type="article"
)


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """A good event of any type in which a few fields are changed or left out."""
    event = FULL | {"event_type": draw(TYPES)} | draw(st.dictionaries(FIELDS, ODD, max_size=3))
    dropped = draw(st.sets(st.sampled_from(sorted(FULL)), max_size=2))
    return {name: value for name, value in event.items() if name not in dropped}


@pytest.mark.parametrize("environment", [ONE_TYPE, NO_TYPE])
@settings(deadline=None, max_examples=60)
@given(found=st.lists(events(), min_size=1, max_size=4))
def test_what_the_quick_look_lets_through_is_good_by_the_exact_rules(
    environment: Environment, found: list[dict[str, Any]]
) -> None:
    doubtful = set(Screen(environment, NOW).doubtful(found))
    exact = froomle.from_api(json.dumps({"events": found}).encode(), environment, NOW)
    assert set(exact.rejects["line"]) <= doubtful


@settings(deadline=None, max_examples=60)
@given(found=st.lists(events(), min_size=1, max_size=4))
def test_what_is_accepted_comes_out_of_the_spool_as_the_api_understood_it(found: list[dict[str, Any]]) -> None:
    body = json.dumps({"events": found}).encode()
    exact = froomle.from_api(body, ONE_TYPE, NOW)
    if exact.rejects.height:
        with pytest.raises(RefusedBodyError) as refused:
            bodies.events(body, ONE_TYPE, NOW)
        assert [flaw.index for flaw in refused.value.flaws] == exact.rejects["line"].to_list()
        return
    batch = _ingested(bodies.events(body, ONE_TYPE, NOW).lines)
    assert batch.rejects.is_empty()
    generated = ["event_id", "content_hash", "source"]  # of an event without a time they follow from its receipt
    assert batch.events.drop(generated).equals(exact.events.drop(generated))


def test_good_events_of_every_type_need_no_second_look() -> None:
    found = [FULL | {"event_type": name, "shelf": [1]} for name in schema.EVENT_TYPES]
    found += [{key: value for key, value in event.items() if key != "timestamp"} for event in found]
    assert Screen(ONE_TYPE, NOW).doubtful(found) == []


def test_one_odd_value_does_not_slow_the_others_down() -> None:
    found = [FULL, FULL | {"price": "12.5"}, FULL, 3, FULL]
    assert Screen(ONE_TYPE, NOW).doubtful(found) == [1, 3]


@pytest.mark.parametrize("depth", [10, 200, 400, 800, 990, 3000])
def test_a_deep_property_is_refused_or_ingested_but_never_a_failure(depth: int) -> None:
    nested = "[" * depth + "]" * depth
    body = b'{"events": [' + json.dumps(FULL).encode()[:-1] + b', "deep": ' + nested.encode() + b"}]}"
    try:
        accepted = bodies.events(body, ONE_TYPE, NOW)
    except (NotJsonError, RefusedBodyError):
        assert depth > 100
        return
    assert _ingested(accepted.lines).events.height == 1


def _ingested(lines: bytes) -> Any:
    with TemporaryDirectory() as folder:
        path = Path(folder, "events-1.jsonl")
        path.write_bytes(lines + b"\n")
        batches = list(files.read_events(path, ONE_TYPE, NOW, dialect=froomle.parse_froomle))
    (batch,) = batches
    return batch
