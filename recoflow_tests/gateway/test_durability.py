"""What was answered with 200 is in the lake exactly once, however the gateway ends."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from recoflow_tests.gateway.client import Running, ingest_spool, view

Start = Callable[..., Running]
CLIENTS = 4
BATCH = 20


def _send_until(gateway: Running, stop: threading.Event, acknowledged: list[str], client: int) -> None:
    """Send batches until the gateway is gone; adds the batches that were acknowledged."""
    with httpx.Client(base_url=gateway.url, timeout=20) as connection:
        for number in range(10**6):
            batch = f"{client}-{number}"
            events = [view(f"{batch}-{index}") for index in range(BATCH)]
            try:
                answer = connection.post("/api/lorem/events", json={"events": events})
            except httpx.TransportError:
                break
            if answer.status_code == 200:
                acknowledged.append(batch)
            if stop.is_set():
                break


def _run_and_end(gateway: Running, number: int) -> tuple[list[str], int]:
    stop, acknowledged, deadline = threading.Event(), [], time.monotonic() + 30
    with ThreadPoolExecutor(CLIENTS) as pool:
        futures = [pool.submit(_send_until, gateway, stop, acknowledged, client) for client in range(CLIENTS)]
        while len(acknowledged) <= 5 * CLIENTS and time.monotonic() < deadline:
            time.sleep(0.05)
        code = gateway.end(number)
        stop.set()
    for future in futures:
        future.result()
    return acknowledged, code


def _assert_exactly_once(gateway: Running, acknowledged: list[str]) -> None:
    ids = gateway.table("events")["event_id"].to_list()
    assert len(ids) == len(set(ids))
    assert {f"event-{batch}-{index}" for batch in acknowledged for index in range(BATCH)} <= set(ids)
    assert len(ids) % BATCH == 0, "part of a request was kept"
    assert gateway.table("quarantine").is_empty()


def test_after_kill_every_acknowledged_event_is_in_the_lake_once(start: Start) -> None:
    gateway = start()
    acknowledged, code = _run_and_end(gateway, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert len(acknowledged) > CLIENTS
    following = start()  # seals what was left
    again = acknowledged[-1]
    assert following.post([view(f"{again}-{index}") for index in range(BATCH)]).status_code == 200  # a client in doubt
    assert following.end() == 0
    counts = following.ingest()
    assert counts.duplicates == BATCH
    _assert_exactly_once(following, acknowledged)


def test_a_graceful_stop_under_load_loses_nothing_and_leaves_no_open_segment(start: Start) -> None:
    gateway = start()
    acknowledged, code = _run_and_end(gateway, signal.SIGTERM)
    assert code == 0
    assert list(gateway.layout.spool("lorem").glob("*.open")) == []
    gateway.ingest()
    _assert_exactly_once(gateway, acknowledged)
    assert gateway.table("events").height == len(acknowledged) * BATCH


def test_a_crash_between_the_lake_and_the_removal_of_a_segment_counts_nothing_twice(start: Start) -> None:
    gateway = start()
    gateway.post([view(number) for number in range(10)])
    gateway.end()
    (segment,) = gateway.layout.spool("lorem").iterdir()
    content = segment.read_bytes()
    first = gateway.ingest()
    segment.write_bytes(content)
    assert ingest_spool(gateway.layout) == first
    assert gateway.table("events").height == 10


def test_a_request_that_had_begun_is_finished_before_the_end(start: Start) -> None:
    gateway = start()
    host, port = gateway.url.removeprefix("http://").split(":")
    body = b'{"events": []}'
    head = b"POST /api/lorem/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Content-Length: %d\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head % len(body) + body[:5])
        time.sleep(0.2)
        gateway.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        connection.sendall(body[5:])
        assert b" 200 " in connection.recv(1000)
    assert gateway.wait() == 0


@pytest.mark.fault("L9")
def test_an_event_without_a_time_that_is_sent_again_by_its_id_is_a_duplicate(start: Callable[..., Running]) -> None:
    gateway = start()
    for _ in range(2):
        assert gateway.post([view("mine", timestamp=None), view("other", timestamp=None)]).status_code == 200
        assert gateway.post([view("timed")]).status_code == 200
    assert gateway.post([view("mine", timestamp=None, action_item="a2")]).status_code == 200
    assert gateway.post([view("timed", timestamp="2026-05-01T12:00:01Z")]).status_code == 200
    gateway.end()
    counts = gateway.ingest()
    assert (counts.read, counts.accepted, counts.duplicates, counts.quarantined) == (8, 3, 3, 2)
    assert sorted(gateway.table("quarantine")["code"]) == ["conflict", "conflict"]
    assert sorted(gateway.table("events")["event_id"]) == ["event-mine", "event-other", "event-timed"]
