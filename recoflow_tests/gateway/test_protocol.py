"""What a connection may cost before its request is read: over sockets, against the real process."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from recoflow_tests.gateway.client import Running, view

Start = Callable[..., Running]
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connect(gateway: Running) -> socket.socket:
    host, port = gateway.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def answer(connection: socket.socket) -> bytes:
    """Everything until the gateway closes the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    return received


def exchange(gateway: Running, *sent: bytes) -> bytes:
    with connect(gateway) as connection:
        for part in sent:
            connection.sendall(part)
        return answer(connection)


def status(received: bytes) -> int:
    return int(received.split(b" ", 2)[1])


def resident_bytes(gateway: Running) -> int:
    return int(Path(f"/proc/{gateway.process.pid}/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def headers(size: int, count: int = 10) -> bytes:
    """A head of so many bytes for /health, in so many headers besides two, which closes the connection."""
    start, end = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", b"\r\n"
    each = (size - len(start) - len(end)) // count
    lines = [b"X: " + b"x" * (each - 5) + b"\r\n"] * count
    lines[0] = b"X: " + b"x" * (each - 5 + (size - len(start) - len(end)) % count) + b"\r\n"
    head = start + b"".join(lines) + end
    assert len(head) == size
    return head


@pytest.mark.fault("M13")
@pytest.mark.parametrize(("size", "expected"), [(60_000, 200), (65_535, 200), (65_600, 431), (200_000, 431)])
def test_a_head_may_have_64_kb_in_one_piece_and_in_many(gateway: Running, size: int, expected: int) -> None:
    head = headers(size)
    assert status(exchange(gateway, head)) == expected
    pieces = [head[start : start + 5000] for start in range(0, len(head), 5000)]
    with connect(gateway) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.002)
        assert status(answer(connection)) == expected


@pytest.mark.fault("M13")
@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET /health?" + b"x" * 8_100 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 200),
        (b"GET /health?" + b"x" * 8_200 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 414),
        (headers(4_000, 90), 200),
        (headers(4_000, 99), 431),
    ],
)
def test_urls_have_8_kb_and_heads_100_headers(gateway: Running, head: bytes, expected: int) -> None:
    assert status(exchange(gateway, head)) == expected


@pytest.mark.fault("M13")
@pytest.mark.parametrize(
    "begin",
    [
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"GET /",
        b"POST /api/lorem/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX: ",
    ],
    ids=["header", "url", "trailer"],
)
def test_what_has_no_end_is_neither_kept_nor_does_it_delay_others(gateway: Running, begin: bytes) -> None:
    before = resident_bytes(gateway)
    with connect(gateway) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(begin)
            for _ in range(50):
                connection.sendall(b"x" * 1_000_000)
        assert answer(connection)[:12] in {b"HTTP/1.1 431", b"HTTP/1.1 414", b""}
    began = time.monotonic()
    assert gateway.client.get("/health").status_code == 200
    assert time.monotonic() - began < 3
    assert resident_bytes(gateway) - before < 20_000_000


@pytest.mark.fault("L11")
@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nhOST: rebound.example\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /health HTTP/1.0\r\n\r\n", 200),
        (b"GET /health\r\n\r\n", 400),
        (b"GET /health HTTP/0.9\r\n\r\n", 505),
        (b"GET /health HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ],
)
def test_one_host_header_and_http_1_only(gateway: Running, head: bytes, expected: int) -> None:
    assert status(exchange(gateway, head)) in {expected, 505 if b"/health\r" in head else expected}


def test_what_was_sent_before_a_broken_request_is_answered_and_nothing_after_it(gateway: Running) -> None:
    received = exchange(gateway, GET + GET + b"nonsense\r\n\r\n" + GET)
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.count(b"HTTP/1.1 ") <= 3
    body = b'{"events": []}'
    post = b"POST /api/lorem/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    post += b"Content-Length: %d\r\n\r\n" % len(body) + body
    received = exchange(gateway, post + b"nonsense\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200 OK")
    broken = post.replace(b"Content-Length: %d\r\n\r\n" % len(body) + body, b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert status(exchange(gateway, broken)) == 400


def test_more_requests_at_once_than_16_are_not_kept(gateway: Running) -> None:
    before = resident_bytes(gateway)
    received = exchange(gateway, GET * 100_000)
    assert 1 <= received.count(b"HTTP/1.1 200 OK") < 100
    assert resident_bytes(gateway) - before < 20_000_000


def test_an_offer_to_change_the_protocol_is_declined_and_refused_with_a_body_that_would_be_read_as_a_request(
    gateway: Running,
) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"
    last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert exchange(gateway, GET[:-2] + offer + last).count(b"HTTP/1.1 200 OK") == 2
    head = b"POST /api/lorem/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for framing in (b"Content-Length: %d\r\n" % len(GET), b"Transfer-Encoding: chunked\r\n"):
        received = exchange(gateway, head + framing + offer, GET)
        assert (status(received), received.count(b"HTTP/1.1 ")) == (400, 1)


@pytest.mark.fault("M13")
def test_heads_idle_connections_and_unread_bodies_end_after_10_seconds(gateway: Running) -> None:
    unread = b"POST /api/ipsum/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{"
    sent = {
        "silent": b"",
        "half a head": GET[:-4],
        "idle": GET,
        "unread body": unread,
        "half a second head": GET + GET[:9],
    }
    began = time.monotonic()
    with ExitStack() as stack:
        connections = {name: stack.enter_context(connect(gateway)) for name in sent}
        for name, connection in connections.items():
            connection.sendall(sent[name])
        for second in range(9):  # what trickles in does not help
            time.sleep(1)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connections["half a head"].sendall(b"\r\nX: %d" % second)
                connections["unread body"].sendall(b" ")
        answers = {name: answer(connection) for name, connection in connections.items()}
    assert 8 < time.monotonic() - began < 16
    statuses = {
        name: [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]] for name, received in answers.items()
    }
    assert statuses == {
        "silent": [],
        "half a head": [408],
        "idle": [200],
        "unread body": [401],
        "half a second head": [200, 408],
    }


@pytest.fixture
def small(start: Start) -> Iterator[Running]:
    """A gateway that may have 128 files open, hence 64 connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        gateway = start("{ body_seconds: 20 }")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    yield gateway
    assert gateway.end() == 0


@pytest.mark.fault("M13")
def test_new_connections_are_served_although_idle_and_half_sent_ones_reach_the_limit(small: Running) -> None:
    with ExitStack() as stack:
        for number in range(300):
            connection = stack.enter_context(connect(small))
            connection.sendall(GET[:9] if number % 2 else b"")
            if number % 20 == 0:
                with httpx.Client(base_url=small.url) as client:  # on a connection of its own
                    assert client.get("/health").status_code == 200
                    assert client.post("/api/lorem/events", json={"events": [view(number)]}).status_code == 200


@pytest.mark.fault("M13")
def test_when_every_connection_is_at_work_new_requests_are_503_and_health_is_answered(small: Running) -> None:
    head = b"POST /api/lorem/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(connect(small)).sendall(head + b"Content-Length: 9\r\n\r\n{")
        time.sleep(1)
        with httpx.Client(base_url=small.url) as client:
            assert client.get("/health").status_code == 200
            assert client.get("/ready").status_code == 200
            answered = client.post("/api/lorem/events", json={"events": []})
        assert (answered.status_code, answered.headers["Retry-After"]) == (503, "2")
        assert "at work" in answered.json()["message"]
    deadline = time.monotonic() + 10
    while small.post([view()]).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.fault("L10")
@pytest.mark.parametrize("item_id", ["a%0Ab", "%0Aa", "a%0A%0Ab%0D%0Ac", "a%E2%80%A8b", "a%2Fb%0Ac"])
def test_an_item_id_with_a_line_end_is_an_item_id(gateway: Running, item_id: str) -> None:
    path = f"/api/lorem/items/article/{item_id}"
    assert gateway.client.put(path, json={"title": "Pear"}).json() == {"accepted": 1}
    assert gateway.client.delete(path).json() == {"accepted": 1}
    answered = gateway.admin.put(f"/api/lorem/configurations/{item_id}", json={"algorithm": "newest"})
    assert (answered.status_code, "configuration_id" in answered.json()["message"]) == (400, True)
