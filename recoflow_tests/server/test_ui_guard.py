"""Requests that a page of another site can cause are refused before Dagster's web server sees them."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from recoflow.server.ui_guard import Guard

pytestmark = pytest.mark.fault("C3")
OWN = [(b"host", b"127.0.0.1:3000")]
JSON = (b"content-type", b"application/json")


@dataclass
class Asked:
    """A guarded application that writes down what reaches it, and what the client got."""

    hosts: tuple[str, ...] = ()
    reached: list[dict[str, Any]] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached.append(scope)
        if scope["type"] == "http":
            policy = (b"content-security-policy", b"script-src 'self'")
            await send({"type": "http.response.start", "status": 200, "headers": [policy]})
            await send({"type": "http.response.body", "body": b"ok"})

    def request(
        self,
        method: str,
        path: str,
        headers: list[tuple[bytes, bytes]],
        query: bytes = b"",
        kind: str = "http",
    ) -> int:
        async def send(message: Any) -> None:
            self.sent.append(message)

        async def receive() -> Any:
            raise AssertionError("nothing is read")

        scope = {"type": kind, "method": method, "path": path, "headers": headers, "query_string": query}
        asyncio.run(Guard(self._app, self.hosts)(scope, receive, send))
        return next((message["status"] for message in self.sent if "status" in message), 0)


@pytest.mark.parametrize("host", ["127.0.0.1:3000", "localhost", "LOCALHOST:80", "[::1]:3000", "127.8.8.8:1"])
def test_loopback_hosts_are_answered(host: str) -> None:
    assert Asked().request("GET", "/runs", [(b"host", host.encode())]) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example:3000", "", "127.0.0.1.evil.example", "10.0.0.1:3000", "localhost.evil", "evil@x", "[", "0.0.0.0"],
)
def test_other_hosts_are_not(host: str) -> None:
    asked = Asked()
    assert asked.request("GET", "/server_info", [(b"host", host.encode())]) == 421
    assert asked.reached == []


@pytest.mark.parametrize("headers", [[], [*OWN, (b"host", b"evil.example")], [*OWN, *OWN]])
def test_a_request_has_one_host(headers: list[tuple[bytes, bytes]]) -> None:
    assert Asked().request("GET", "/", headers) == 421


def test_configured_hosts_are_answered_behind_a_proxy_with_tls() -> None:
    headers = [(b"host", b"ui.example"), (b"origin", b"https://ui.example"), JSON]
    assert Asked(hosts=("ui.example",)).request("POST", "/graphql", headers) == 200
    assert Asked().request("POST", "/graphql", headers) == 421


@pytest.mark.parametrize(
    "origin", [b"http://evil.example", b"null", b"http://127.0.0.1:8080", b"http://localhost:3000", b"file://", b""]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_origins_are_refused_for_every_method(method: str, origin: bytes) -> None:
    asked = Asked()
    assert asked.request(method, "/graphql", [*OWN, JSON, (b"origin", origin)]) == 403
    assert asked.reached == []


def test_the_own_origin_and_programs_without_one_may_ask() -> None:
    assert Asked().request("POST", "/graphql", [*OWN, JSON, (b"origin", b"http://127.0.0.1:3000")]) == 200
    assert Asked().request("POST", "/graphql", [*OWN, (b"Content-Type", b"application/json; charset=utf-8")]) == 200


@pytest.mark.parametrize("headers", [[(b"origin", b"http://evil.example")], [(b"origin", b"null")]])
def test_a_web_socket_of_another_origin_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    asked = Asked()
    asked.request("GET", "/graphql", [*OWN, *headers], kind="websocket")
    assert asked.reached == []
    assert asked.sent == [{"type": "websocket.close", "code": 1008}]


def test_a_web_socket_of_another_host_is_refused_and_the_own_one_is_not() -> None:
    for headers, path, reached in [
        ([(b"host", b"evil.example"), (b"origin", b"http://evil.example")], "/graphql", 0),
        ([*OWN, (b"origin", b"http://127.0.0.1:3000")], "/elsewhere", 0),
        ([*OWN, (b"origin", b"http://127.0.0.1:3000")], "/graphql", 1),
    ]:
        asked = Asked()
        asked.request("GET", path, headers, kind="websocket")
        assert len(asked.reached) == reached


@pytest.mark.parametrize(
    "types",
    [
        [],
        [b"text/plain"],
        [b"text/plain; application/json"],
        [b"application/x-www-form-urlencoded"],
        [b"multipart/form-data; boundary=application/json"],
        [b"application/graphql"],
        [b"application/json", b"text/plain"],
    ],
)
def test_graphql_is_posted_as_json_alone(types: list[bytes]) -> None:
    asked = Asked()
    status = asked.request("POST", "/graphql", [*OWN, *((b"content-type", value) for value in types)], b"query=x")
    assert status == 415
    assert asked.reached == []


@pytest.mark.parametrize("path", ["/graphql", "/graphql/"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_get_never_brings_a_query_to_dagster(method: str, path: str) -> None:
    asked = Asked()
    accept = [(b"accept", b"*/*"), (b"Accept", b"application/json")]
    assert asked.request(method, path, [*OWN, *accept], b"query=mutation{x}") == 200
    (scope,) = asked.reached
    assert scope["query_string"] == b""
    assert [value for name, value in scope["headers"] if name.lower() == b"accept"] == [b"text/html"]


def test_other_pages_keep_their_query() -> None:
    asked = Asked()
    asked.request("GET", "/notebook", OWN, b"path=a.ipynb")
    assert asked.reached[0]["query_string"] == b"path=a.ipynb"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/report_asset_materialization/lorem/events"),
        ("POST", "/report_asset_check/lorem/events"),
        ("POST", "/report_asset_observation/x"),
        ("POST", "/graphql/"),
        ("PUT", "/graphql"),
        ("DELETE", "/runs"),
        ("OPTIONS", "/graphql"),
    ],
)
def test_nothing_else_is_changed_from_outside(method: str, path: str) -> None:
    asked = Asked()
    assert asked.request(method, path, [*OWN, JSON]) == 405
    assert asked.reached == []


def test_each_page_loads_images_from_the_ui_alone_and_keeps_its_own_policy() -> None:
    asked = Asked()
    asked.request("GET", "/", OWN)
    policies = [value for name, value in asked.sent[0]["headers"] if name == b"content-security-policy"]
    assert policies == [b"script-src 'self'", b"img-src 'self' data:; frame-ancestors 'self'"]
