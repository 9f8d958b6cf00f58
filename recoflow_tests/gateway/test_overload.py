"""Memory stays bounded whatever arrives: 429 with Retry-After, and slow or hopeless requests are given up."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from recoflow_tests.gateway.client import Running, view

Start = Callable[..., Running]
HEAD = (
    "POST /api/lorem/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
)


def _begin_request(gateway: Running, length: int, sent: bytes) -> socket.socket:
    host, port = gateway.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(HEAD.format(length).encode() + sent)
    return connection


def _resident_bytes(gateway: Running) -> int:
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_too_much_at_once_is_429_with_the_time_to_wait_and_comes_in_later(start: Start) -> None:
    gateway = start("{ max_body_bytes: 100000, max_pending_bytes: 300000 }")
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(_begin_request(gateway, 80_000, b"{"))
        deadline = time.monotonic() + 10
        while (answer := gateway.post([view()])).status_code == 200:
            assert time.monotonic() < deadline
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) > 0
        assert gateway.client.get("/health").status_code == 200
    while gateway.post([view()]).status_code == 429:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_memory_stays_bounded_under_a_flood_of_large_bodies(start: Start) -> None:
    gateway = start("{ max_body_bytes: 4000000, max_pending_bytes: 8000000 }")
    gateway.post([view()])
    before = _resident_bytes(gateway)
    body = b'{"events": [' + b" " * 3_900_000 + b"]}"

    def flood(_number: int) -> int:
        headers = {"Content-Type": "application/json"}
        return gateway.client.post("/api/lorem/events", content=body, headers=headers).status_code

    with ThreadPoolExecutor(30) as pool:
        statuses = set(pool.map(flood, range(90)))
    assert statuses == {200, 429}
    assert _resident_bytes(gateway) - before < 60_000_000  # 30 bodies at once are 117 MB


def test_a_body_that_does_not_come_is_given_up(start: Start) -> None:
    gateway = start("{ body_seconds: 0.3 }")
    with _begin_request(gateway, 1000, b"{") as connection:
        assert b" 408 " in connection.recv(1000)


def test_a_client_that_goes_away_costs_nothing(start: Start) -> None:
    gateway = start()
    _begin_request(gateway, 1000, b"{").close()
    deadline = time.monotonic() + 10
    while 'recoflow_pending_bytes{environment="lorem"} 0\n' not in gateway.client.get("/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_with_too_little_space_nothing_is_taken_and_readiness_says_so(start: Start) -> None:
    gateway = start("{ min_free_bytes: 1000000000000000 }")
    answer = gateway.post([view()])
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers
    ready = gateway.client.get("/ready")
    assert ready.status_code == 503
    assert "bytes left" in ready.json()["problems"]["lorem"]
    assert gateway.client.get("/health").status_code == 200


def test_a_spool_that_cannot_be_written_is_503_and_nothing_is_taken(start: Start) -> None:
    gateway = start()
    spool = gateway.layout.spool("lorem")
    spool.parent.mkdir(exist_ok=True)
    if spool.exists():
        spool.rmdir()
    spool.write_text("a file where the folder should be")
    assert gateway.post([view()]).status_code == 503
    assert gateway.client.get("/ready").status_code == 503
    spool.unlink()
    assert gateway.post([view()]).status_code == 200
