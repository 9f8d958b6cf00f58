"""What each request is answered, over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from recoflow.gateway.app import GatewayApp
from recoflow.gateway.tokens import Tokens
from recoflow.storage.paths import Paths
from recoflow_tests.gateway.client import Running, view, write_environment


def test_good_events_are_acknowledged_and_come_into_the_lake_with_all_fields(gateway: Running) -> None:
    answer = gateway.post([view("all", shelf="left", price=1.5), view("other", user_id=None, device_id="d9")])
    assert (answer.status_code, answer.json()) == (200, {"accepted": 2})
    gateway.await_sealed()
    gateway.ingest()
    rows = gateway.table("events").filter(event_id="event-all").rows(named=True)
    assert [(row["price"], row["properties"], row["item_id"], row["item_type"]) for row in rows] == [
        (1.5, '{"shelf":"left"}', "a1", "article")
    ]


def test_an_event_without_a_time_gets_that_of_its_receipt_and_without_an_id_gets_a_hash(gateway: Running) -> None:
    before = time.time()
    assert gateway.post([view(user_id="timeless", timestamp=None, event_id=None)]).status_code == 200
    gateway.await_sealed()
    gateway.ingest()
    (row,) = gateway.table("events").filter(user_id="timeless").rows(named=True)
    assert before <= row["timestamp"].timestamp() <= time.time()
    assert len(row["event_id"]) == 32
    assert abs(row["received_at"] - row["timestamp"]) < timedelta(seconds=1)  # not the time of the ingest


def test_one_bad_event_refuses_all_and_is_named_by_index_field_and_reason(gateway: Running) -> None:
    events = [view("kept-out"), view(page_type=None), view(channel="wwww"), 3, view(timestamp="2026-05-01")]
    answer = gateway.post(events)
    assert answer.status_code == 400
    message = answer.json()["message"]
    assert message.startswith("Events contain errors: event 1: page_type: page_type is missing")
    assert "event 2: channel: 'wwww' is not known; did you mean 'www'?" in message
    assert [(flaw["index"], flaw["field"], flaw["code"]) for flaw in answer.json()["errors"]] == [
        (1, "page_type", "missing_field"),
        (2, "channel", "unknown_channel"),
        (3, None, "not_an_object"),
        (4, "timestamp", "timestamp_date_only"),
    ]
    gateway.await_sealed()
    gateway.ingest()
    assert gateway.table("events").filter(event_id="event-kept-out").is_empty()


def test_an_event_whose_text_is_broken_is_named_by_its_index(gateway: Running) -> None:
    body = b'{"events": [' + json.dumps(view()).encode() + b', {"price": 1e400}]}'
    answer = _send(gateway, body)
    assert (answer.status_code, answer.json()["errors"][0]["index"]) == (400, 1)


@pytest.mark.parametrize("body", [b"", b"{", b"not json", b'{"events": [}', b"\xff", b"[" * 5000])
def test_what_is_not_json_is_415(gateway: Running, body: bytes) -> None:
    assert _send(gateway, body).status_code == 415


@pytest.mark.parametrize("body", [b"[]", b"3", b"null", b"{}", b'{"events": 3}', b'{"events": {}}'])
def test_json_without_a_list_of_events_is_400(gateway: Running, body: bytes) -> None:
    answer = _send(gateway, body)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("Events contain errors: ")


@pytest.mark.parametrize("headers", [{"Content-Type": "text/csv"}, {"Content-Encoding": "gzip"}])
def test_other_formats_are_415(gateway: Running, headers: dict[str, str]) -> None:
    assert gateway.post([view()], headers=headers).status_code == 415


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "application/vnd.lorem+json"])
def test_json_by_other_names_is_read(gateway: Running, media_type: str) -> None:
    assert gateway.post([view()], headers={"Content-Type": media_type}).status_code == 200


def test_an_empty_list_is_fine(gateway: Running) -> None:
    assert gateway.post([]).json() == {"accepted": 0}


def test_a_long_body_is_413_whether_its_length_is_told_or_not(gateway: Running) -> None:
    body = b" " * 3_000_000
    chunks = (body[start : start + 50_000] for start in range(0, len(body), 50_000))
    assert _send(gateway, body).status_code == 413
    assert _send(gateway, chunks).status_code == 413
    assert gateway.post([view()]).status_code == 200  # the connection is still in order


def test_too_many_events_are_413(gateway: Running) -> None:
    assert gateway.post([{}] * 1001).status_code == 413


def test_unknown_environments_and_paths_are_404_and_other_methods_405(gateway: Running) -> None:
    assert gateway.post([view()], "nobody").status_code == 404
    assert gateway.client.get("/api/lorem").status_code == 404
    assert gateway.client.get("/api/lorem/events").status_code == 405


def test_an_item_is_put_and_deleted(gateway: Running) -> None:
    path = "/api/lorem/items/article/fruit%2F1"
    assert gateway.client.put(path, json={"title": "Pear", "tags": ["a"]}).json() == {"accepted": 1}
    assert gateway.client.delete(path).json() == {"accepted": 1}
    gateway.await_sealed()
    gateway.ingest()
    rows = gateway.table("updates").filter(entity_id="fruit/1").sort("timestamp").rows(named=True)
    assert [(row["entity_type"], row["operation"], row["fields"]) for row in rows] == [
        ("article", "upsert", '{"tags":["a"],"title":"Pear"}'),
        ("article", "delete", "{}"),
    ]


def test_an_items_errors_are_named(gateway: Running) -> None:
    answer = gateway.client.put("/api/lorem/items/article/1", json={"price": "cheap"})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "price"
    assert gateway.client.put("/api/lorem/items/article/1", json=["title"]).status_code == 400
    headers = {"Content-Type": "application/json"}
    assert gateway.client.put("/api/lorem/items/article/1", content=b"{", headers=headers).status_code == 415


@pytest.mark.parametrize("framing", ["one", "list", "lines"])
def test_metarank_events_come_in(gateway: Running, framing: str) -> None:
    events = [
        {"event": "item", "id": f"{framing}-1", "timestamp": "1790000000000", "item": "m1", "fields": []},
        {"event": "interaction", "id": f"{framing}-2", "timestamp": 1790000000000, "type": "click", "item": "m1"},
    ][: 1 if framing == "one" else 2]
    body = {
        "one": json.dumps(events[0], indent=1),
        "list": json.dumps(events),
        "lines": "\n".join(map(json.dumps, events)),
    }[framing]
    answer = gateway.client.post("/api/lorem/metarank", content=body, headers={"Content-Type": "application/json"})
    assert answer.json() == {"accepted": len(events)}
    gateway.await_sealed()
    assert gateway.ingest().accepted == len(events)


def test_a_bad_metarank_event_refuses_all(gateway: Running) -> None:
    answer = gateway.client.post("/api/lorem/metarank", json=[{"event": "item", "id": "x"}])
    assert (answer.status_code, answer.json()["errors"][0]["index"]) == (400, 0)


def test_pubsub_pushes_are_acknowledged_and_bad_events_go_to_quarantine(gateway: Running) -> None:
    published = "2026-05-01T12:00:00.123456789Z"
    good = view("pushed", timestamp=None)
    for data in (json.dumps(good), json.dumps({"events": [good, view("bad", page_type=None)]}), "no json", ""):
        envelope = {"message": {"data": _base64(data), "publishTime": published}, "subscription": "s"}
        assert gateway.client.post("/api/lorem/pubsub", json=envelope).status_code == 200
    gateway.await_sealed()
    counts = gateway.ingest()
    assert (counts.read, counts.accepted, counts.duplicates, counts.quarantined) == (4, 1, 1, 2)
    (row,) = gateway.table("events").filter(event_id="event-pushed").rows(named=True)
    assert row["timestamp"].isoformat() == "2026-05-01T12:00:00.123456+00:00"


@pytest.mark.parametrize("envelope", [{}, [], {"message": 3}, {"message": {"data": "%"}}, {"message": {"data": "é"}}])
def test_what_is_no_envelope_of_pubsub_is_400(gateway: Running, envelope: Any) -> None:
    assert gateway.client.post("/api/lorem/pubsub", json=envelope).status_code == 400


def test_health_and_readiness_answer(gateway: Running) -> None:
    assert gateway.client.get("/health").json() == {"status": "ok"}
    assert gateway.client.get("/ready").json() == {"status": "ready", "problems": {}}


def test_metrics_count_requests_and_events(gateway: Running) -> None:
    before = _metrics(gateway)
    gateway.post([view(), view()])
    gateway.post([view(page_type=None)])
    after = _metrics(gateway)
    grown = {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}
    assert grown['recoflow_events_accepted_total{environment="lorem",kind="events"}'] == 2
    assert grown['recoflow_events_refused_total{environment="lorem",code="missing_field"}'] == 1
    assert grown['recoflow_requests_total{endpoint="post_events",status="400"}'] == 1
    assert grown['recoflow_commit_seconds_count{environment="lorem"}'] == 1
    assert after['recoflow_pending_bytes{environment="lorem"}'] == 0


def test_the_documentation_page_needs_nothing_from_outside(gateway: Running) -> None:
    page = gateway.client.get("/docs").text
    assert "<script" not in page
    assert "://" not in page
    for path in gateway.client.get("/openapi.json").json()["paths"]:
        assert path in page


def test_while_stopping_nothing_new_is_taken(tmp_path: Path) -> None:
    lorem = write_environment(Paths(tmp_path), "lorem")
    stopping = GatewayApp([lorem], Paths(tmp_path), Tokens([lorem], Paths(tmp_path), {}), lambda: datetime.now(UTC))
    stopping.is_stopping = True

    async def ask() -> tuple[httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(stopping.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/api/lorem/events", json={"events": []}), await client.get("/ready")

    taken, ready = asyncio.run(ask())
    assert (taken.status_code, taken.headers["Connection"], "Retry-After" in taken.headers) == (503, "close", True)
    assert (ready.status_code, ready.json()["problems"]["gateway"]) == (503, "stopping")


def _send(gateway: Running, body: Any) -> httpx.Response:
    return gateway.client.post("/api/lorem/events", content=body, headers={"Content-Type": "application/json"})


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _metrics(gateway: Running) -> dict[str, float]:
    lines = gateway.client.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}
