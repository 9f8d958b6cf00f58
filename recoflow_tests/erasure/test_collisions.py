"""A person whose id is also an item, a price, a type and a part of URLs: only the person is erased."""

from __future__ import annotations

import gzip
import json

import polars as pl
import pyarrow as pa
import pytest

from recoflow.erasure import compressed_files, remaining_mentions
from recoflow.erasure.erase import erase
from recoflow.erasure.subject import ErasureSubject
from recoflow.storage.spool import SpoolWriter
from recoflow_tests.erasure.conftest import ANN, NOW, OTHERS, PHONE, Installed, event, lines

pytestmark = pytest.mark.fault("C4")
TWIN = "12345"


def of_others(number: str) -> list[dict[str, object]]:
    other = {"user_id": OTHERS[3], "device_id": "tablet-9"}
    return [
        event(other, 1, 1, action_item=number),
        event(other, 1, 2, referrer=f"https://x.example/p/{number}?x"),
        event(other, 1, 3, price=12345),
        event(other, 1, 4, basket=f"{number},777", session_id=number, list_name=number),
    ]


ITEMS = f"item_id,item_type,title,price\n{TWIN},article,A chair,9.5\n777,article,Like {TWIN},{TWIN}\n"


def sealed(made: Installed, *batches: str, kind: str = "events") -> None:
    writer = SpoolWriter(made.layout.spool("lorem"), kind, 10**6)
    writer.append([batch.encode() for batch in batches], NOW)
    writer.seal()


def spooled(made: Installed) -> str:
    return "".join(path.read_text() for path in sorted(made.layout.spool("lorem").glob("*.jsonl")))


def test_what_waits_about_the_item_of_that_number_stays_byte_for_byte(made: Installed) -> None:
    inbox, own = made.layout.inbox("lorem"), event({"user_id": TWIN}, 2, 9)
    put = json.dumps({"put": {"item_id": TWIN, "item_type": "article", "user": TWIN}}) + "\n"
    sealed(made, lines([*of_others(TWIN), own]))
    sealed(made, put, kind="items")
    (inbox / "lorem_items.csv").write_text(ITEMS)
    metarank = {"event": "interaction", "id": "e1", "timestamp": 1, "user": OTHERS[4], "item": TWIN, "type": "click"}
    item = {"event": "item", "id": "e2", "timestamp": 1, "item": TWIN, "fields": [{"name": "price", "value": 12345}]}
    gone = metarank | {"user": TWIN, "id": "e3"}
    (inbox / "a.jsonl.gz").write_bytes(gzip.compress(lines([metarank, gone, item]).encode()))
    (inbox / "b.jsonl.zst").write_bytes(pa.compress(lines([gone, metarank]).encode(), codec="zstd", asbytes=True))
    rows = f"lorem,{OTHERS[5]},,{TWIN}\n"
    head = "environment,user_id,device_id,list_name\n"
    (made.layout.mailbox("lorem") / "inbox/feed").write_text(f"{head}lorem,{TWIN},,a\n{rows}")

    report = erase(made.layout, made.environment, made.lakes, user_ids=[TWIN])

    assert report.is_forgotten
    assert report.ambiguous == 1
    assert spooled(made).replace("\n\n", "\n").count(TWIN) == 8
    for record in of_others(TWIN):
        assert json.dumps(record) in spooled(made)
    assert put in spooled(made)
    assert (inbox / "lorem_items.csv").read_text() == ITEMS
    assert gzip.decompress((inbox / "a.jsonl.gz").read_bytes()).decode() == lines([metarank, item])
    assert compressed_files.unpacked((inbox / "b.jsonl.zst").read_bytes()).decode() == lines([metarank])
    assert (made.layout.mailbox("lorem") / "inbox/feed").read_text() == head + rows


def test_rows_of_the_lake_about_the_item_of_that_number_stay(made: Installed) -> None:
    made.ingest("lorem_items_1.csv", ITEMS)
    made.ingest("lorem_events_1.jsonl", lines([*of_others(TWIN), event({"user_id": TWIN}, 2, 9)]))
    refused = event({"user_id": OTHERS[6]}, 1, 1, action_item=TWIN, timestamp="never")
    own = event({"user_id": TWIN}, 1, 1, timestamp="never")
    made.ingest("lorem_events_refused.jsonl", lines([refused, own]))
    made.derive()
    before = {name: made.rows(name) for name in ("events", "items", "updates", "quarantine", "interactions")}

    report = erase(made.layout, made.environment, made.lakes, user_ids=[TWIN])

    assert report.is_forgotten
    assert report.remaining == ()
    for name, frame in before.items():
        column = {"interactions": "subject", "quarantine": "raw"}.get(name, "user_id")
        if name in {"items", "updates"}:
            assert made.rows(name).sort(pl.all()).equals(frame.sort(pl.all()))
        else:
            value = {"subject": f"u:{TWIN}", "raw": json.dumps(own)}.get(column, TWIN)
            expected = frame.filter(pl.col(column).ne_missing(value))
            assert expected.height == frame.height - 1
            assert made.rows(name).sort(pl.all()).equals(expected.sort(pl.all()))


def test_an_item_type_is_no_person(made: Installed) -> None:
    sealed(made, lines([*of_others("7"), event({"user_id": OTHERS[0]}, 1, 1, referrer="https://x.example/article/1")]))
    before, rows = spooled(made), {name: made.rows(name) for name in ("events", "quarantine", "interactions")}
    report = erase(made.layout, made.environment, made.lakes, user_ids=["article"])
    assert report.is_forgotten
    assert spooled(made) == before
    for name, frame in rows.items():
        assert made.rows(name).equals(frame)


def test_an_id_of_its_own_is_gone_from_records_of_others_which_stay(made: Installed) -> None:
    friend = event({"user_id": OTHERS[7]}, 1, 1, referrer=f"https://x.example/?by={ANN}", gift={"to": ANN, "n": 1.50})
    made.ingest("lorem_events_friend.jsonl", lines([friend]))
    made.ingest("lorem_events_odd.jsonl", lines([event({"user_id": OTHERS[8]}, 1, 1, timestamp=ANN)]))
    sealed(made, lines([friend]))
    counts = {name: made.rows(name).height for name in ("events", "quarantine")}
    own = made.rows("events").filter((pl.col("user_id") == ANN) | (pl.col("device_id") == PHONE)).height

    report = erase(made.layout, made.environment, made.lakes, user_ids=[ANN])

    assert report.is_forgotten
    assert made.rows("events").height == counts["events"] - own - 1  # one without a user, on a shared device
    assert made.rows("quarantine").height == counts["quarantine"] - 1
    left = made.rows("events").filter(pl.col("source") == "lorem_events_friend.jsonl")
    assert left["referrer"].to_list() == ["https://x.example/?by="]
    assert json.loads(left["properties"][0]) == {"gift": {"to": "", "n": 1.50}}
    assert '"referrer": "https://x.example/?by="' in spooled(made)
    assert (
        remaining_mentions.search_mentions([made.layout.root], ErasureSubject(frozenset({ANN}), frozenset({PHONE})))[1]
        == []
    )
