"""Any mix of repeated, shuffled and re-delivered events gives the same accepted set, and the accounting holds."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from recoflow.ingest.run import ingest_batches
from recoflow.schema import Counts
from recoflow.storage.lake.lake import Lake

# (id, kind, size of the ranking); a rare event has a second content under the same id
EVENTS = st.tuples(st.sampled_from("abcdef"), st.sampled_from([("event", 0), ("ranking", 1), ("ranking", 3)]))
DELIVERIES = st.lists(st.lists(st.lists(EVENTS, max_size=6), max_size=3), min_size=1, max_size=4)


@settings(max_examples=6, deadline=None)
@given(DELIVERIES, st.randoms(use_true_random=False))
def test_any_order_and_repetition_gives_the_same_events(make, deliveries, random):
    shuffled = [[random.sample(batch, len(batch)) for batch in delivery] for delivery in deliveries]
    random.shuffle(shuffled)

    forth, back = _ingested(make, deliveries), _ingested(make, shuffled + shuffled)

    assert forth[0] == back[0]
    assert forth[1].accepted == back[1].accepted == len({_key(e) for d in deliveries for b in d for e in b})
    assert forth[1].quarantined == back[1].quarantined == 0


@settings(max_examples=6, deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=8), min_size=1, max_size=4))
def test_the_first_content_of_an_id_stays_however_deliveries_are_cut(make, deliveries):
    first: dict[str, int] = {}
    expected = Counts()
    for name, content in (event for delivery in deliveries for event in delivery):
        is_new = name not in first
        first.setdefault(name, content)
        is_same = first[name] == content
        expected += Counts(1, int(is_new), int(not is_same), int(is_same and not is_new))
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        reports = [
            ingest_batches(
                [make.batch([make.event(name, content)]) for name, content in delivery],
                lake,
                make.now,
                name=str(turn),
                sha256=str(turn),
            )
            for turn, delivery in enumerate(deliveries)
        ]
        kept = {row["event_id"]: row["item_id"] for row in lake.scan("events").collect().iter_rows(named=True)}

    assert sum((report.counts for report in reports), Counts()) == expected
    assert kept == {name: f"i{content}-0" for name, content in first.items()}


def _key(event):
    name, (kind, size) = event
    return f"{name}{size}", kind


def _ingested(make, deliveries):
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        counts = Counts()
        for turn, delivery in enumerate(deliveries):
            batches = []
            for batch in delivery:
                keys = map(_key, batch)
                sizes = [size for _, (_, size) in batch]
                events = [
                    make.event(name, ord(name[0]) + size, kind=kind, size=size)
                    for (name, kind), size in zip(keys, sizes, strict=True)
                ]
                batches.append(make.batch(events))
            counts += ingest_batches(batches, lake, make.now, name=str(turn), sha256=str(turn)).counts
        rows = lake.scan("events").collect().sort("kind", "event_id", "part").rows()
    return rows, counts
