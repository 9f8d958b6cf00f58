"""Whatever bytes arrive: an answer that blames the client, bounded memory, and no failure in the log.

RECOFLOW_FUZZ_SECONDS (default 60) is the duration of the long variant, which `make faults` runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recoflow.storage.paths import Paths
from recoflow_tests.gateway.client import Running, write_environment

SECONDS = float(os.environ.get("RECOFLOW_FUZZ_SECONDS", "60"))
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Z]")
MAX_GROWTH = 40_000_000  # bytes

methods = st.sampled_from(
    [b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"CONNECT", b"PRI", b"get", b"G\0T"]
)
paths = st.one_of(
    st.sampled_from([
        b"/health", b"/ready", b"/metrics", b"/docs", b"/openapi.json", b"/api/lorem/events", b"/api/lorem/metarank",
        b"/api/lorem/pubsub?token=x", b"/api/lorem/items/article/a%0Ab", b"/api/lorem/forget", b"/api/lorem/forget/0",
        b"/api/configurations", b"/api/lorem/configurations/x", b"/api/ipsum/events", b"/health?" + b"x" * 9000,
        b"*", b"//", b"/%00", b"/%", b"/%ff%fe", b"/\xff", b"http://evil.example", b"http://evil.example/health",
        b"localhost:80", b"", b"/api/lorem/events HTTP/1.1", b"/../health", b"/#x",
    ]),
    st.binary(max_size=40).map(lambda text: b"/" + text),
)  # fmt: skip
versions = st.sampled_from(
    [b" HTTP/1.1", b" HTTP/1.1", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/0.9", b" HTTP/2.0", b" HTTP/9", b""]
)
names = st.sampled_from([
    b"Host", b"Content-Length", b"Transfer-Encoding", b"Content-Type", b"Authorization", b"Origin", b"Connection",
    b"Upgrade", b"Expect", b"X-Forwarded-For", b"Content-Encoding", b"Trailer", b"X", b"", b"X Y", b"Cookie",
])  # fmt: skip
values = st.one_of(
    st.sampled_from([
        b"localhost", b"evil.example", b"[::1", b"0", b"5", b"-1", b"+5", b"99999999999999999999999", b"5, 5",
        b"chunked", b"chunked, identity", b"gzip", b"application/json", b"text/plain", b"Bearer x", b"Bearer", b"http://evil.example",
        b"keep-alive", b"close", b"Upgrade", b"websocket", b"h2c", b"100-continue", b"null", b"x" * 5000,
    ]),
    st.binary(max_size=30),
)  # fmt: skip
ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n ", b""])
headers = st.lists(st.tuples(names, values, ends), max_size=8).map(
    lambda found: b"".join(name + b": " + value + end for name, value, end in found)
)
bodies = st.one_of(
    st.sampled_from([
        b"", b'{"events": []}', b"{}", b"[", b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"0\r\n\r\n", b"zz\r\n", b"ffffffffffffffffff\r\n", b"1\r\n", b"x" * 200_000,
    ]),
    st.binary(max_size=100),
)  # fmt: skip
hosts = st.sampled_from(
    [b"Host: localhost\r\n", b"Host: localhost\r\n", b"Host: localhost\r\n", b"Host: evil\r\n", b""]
)
requests = st.builds(
    lambda method, path, version, end, host, fields, body: (
        method + b" " + path + version + end + host + fields + b"\r\n" + body
    ),
    methods, paths, versions, ends, hosts, headers, bodies,
)  # fmt: skip
known = st.sampled_from([
    (b"GET", b"/health"), (b"GET", b"/docs"), (b"HEAD", b"/ready"), (b"GET", b"/metrics"),
    (b"GET", b"/api/configurations"), (b"POST", b"/api/lorem/events"), (b"POST", b"/api/lorem/metarank"),
    (b"POST", b"/api/lorem/pubsub"), (b"PUT", b"/api/lorem/items/article/%0A"), (b"POST", b"/api/lorem/forget"),
    (b"DELETE", b"/api/lorem/items/article/1"), (b"POST", b"/api/ipsum/events"),
    (b"PUT", b"/api/lorem/configurations/a"), (b"GET", b"/api/lorem/forget/%00"),
])  # fmt: skip
plain = values.filter(lambda value: not {*b"\r\n"} & {*value})
extras = st.one_of(st.just([]), st.lists(st.tuples(names.filter(bool), plain), max_size=3))


@st.composite
def whole_requests(draw: st.DrawFn) -> bytes:
    """Requests that are in order, but for what an extra header may do."""
    method, path = draw(known)
    body = draw(bodies)
    lines = [b"%b %b HTTP/1.1" % (method, path), b"Host: localhost", b"Content-Type: application/json"]
    lines += [b"Content-Length: %d" % len(body), *(b"%b: %b" % extra for extra in draw(extras))]
    return b"\r\n".join([*lines, b"", body])


whole = whole_requests()
parts = st.one_of(whole, whole, whole, requests, st.binary(max_size=200))
streams = st.tuples(st.lists(parts, min_size=1, max_size=6), st.integers(1, 5))


@pytest.fixture
def noted(tmp_path: Path) -> Iterator[Running]:
    """A gateway whose log must stay free of failures."""
    layout = Paths(tmp_path)
    write_environment(layout, "lorem", "{ body_seconds: 0.3, max_body_bytes: 100000 }")
    write_environment(layout, "ipsum", "{ token_variables: [IPSUM_TOKEN] }")
    with (tmp_path / "log").open("wb") as log:
        running = Running(layout, log)
    yield running
    assert running.end() == 0
    assert (tmp_path / "log").read_text() == ""


def send(gateway: Running, stream: bytes, pieces: int) -> bytes:
    """Send in so many pieces and give what is answered, until nothing comes for a moment."""
    host, port = gateway.url.removeprefix("http://").split(":")
    received = b""
    size = -(-len(stream) // pieces) or 1
    gone = contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError)
    with socket.create_connection((host, int(port)), timeout=30) as connection, gone:
        for start in range(0, len(stream), size):
            connection.sendall(stream[start : start + size])
        connection.settimeout(0.02)
        while part := connection.recv(65536):
            received += part
    return received


def fuzz(gateway: Running, seconds: float) -> int:
    """Send streams until the time is over; gives how many."""
    until, before, count = time.monotonic() + seconds, resident_bytes(gateway), 0

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(streams)
    def once(stream: tuple[list[bytes], int]) -> None:
        nonlocal count
        count += 1
        received = send(gateway, b"".join(stream[0]), stream[1])
        assert all(int(status) < 500 or status == b"505" for status in STATUS.findall(received)), received

    while time.monotonic() < until:
        once()
        assert gateway.client.get("/health").status_code == 200
        assert resident_bytes(gateway) - before < MAX_GROWTH
    return count


def resident_bytes(gateway: Running) -> int:
    return int(Path(f"/proc/{gateway.process.pid}/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.fault("M13")
def test_no_bytes_make_the_gateway_fail(noted: Running) -> None:
    assert fuzz(noted, 5) >= 50


@pytest.mark.matrix
@pytest.mark.fault("M13")
def test_no_bytes_make_the_gateway_fail_for_long(noted: Running) -> None:
    assert fuzz(noted, SECONDS) >= 50
