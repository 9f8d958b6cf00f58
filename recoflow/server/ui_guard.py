"""What stands before the Dagster UI: an ASGI layer that no page of another site gets past.

Dagster's web server has no log-in, executes GraphQL of a GET, reads it from the query string of a POST that is not
JSON, and looks at neither Host nor Origin: an image in any web page could stop a sensor. Here:

- Host is loopback or configured, once: no name that an attacker points to this machine (DNS rebinding).
- Origin, which browsers send with each POST and each WebSocket of a page, is the UI's own.
- GraphQL comes as a POST of application/json or over the WebSocket. A GET of /graphql shows the playground only.
- Nothing else takes a POST, so that /report_asset_… is closed.
- Pages load images from the UI itself only, and no other site shows them in a frame.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

HOSTS_VARIABLE: Final = "RECOFLOW_UI_HOSTS"  # names beside loopback, separated by commas
GRAPHQL: Final = "/graphql"
POLICY: Final = b"img-src 'self' data:; frame-ancestors 'self'"  # beside Dagster's own: the browser obeys both


@dataclass(frozen=True)
class Guard:
    """The ASGI application `app`, behind the rules above; `hosts` are names it answers to beside loopback."""

    app: App
    hosts: Collection[str] = ()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: 403
        elif refusal is not None:
            await _refuse(send, *refusal)
        elif scope["type"] == "websocket":
            await self.app(scope, receive, send)
        else:
            await self.app(_without_query(scope), receive, _with_policy(send))

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        """Status and reason, None for what is allowed."""
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return 421, f"The Dagster UI does not answer to this Host. Use 127.0.0.1, or name it in {HOSTS_VARIABLE}"
        if any(origin not in (f"http://{hosts[0]}", f"https://{hosts[0]}") for origin in origins):
            return 403, "Pages of other sites may not use the Dagster UI"
        if scope["type"] == "websocket":
            return None if scope["path"] == GRAPHQL else (404, "There is no WebSocket here")
        return _refused_method(scope)

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name == "localhost" or name in self.hosts or _is_loopback(name)


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _refused_method(scope: Message) -> tuple[int, str] | None:
    if scope["method"] in ("GET", "HEAD"):
        return None
    if scope["method"] != "POST" or scope["path"] != GRAPHQL:
        return 405, "The Dagster UI takes POST at /graphql only"
    types = [value.partition(";")[0].strip().lower() for value in _values(scope, b"content-type")]
    return None if types == ["application/json"] else (415, "GraphQL is taken as application/json only")


def _values(scope: Message, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted]


def _without_query(scope: Message) -> Message:
    """A GET of /graphql as one that asks for the playground, whatever its query string and Accept header ask for."""
    if scope["path"].strip("/") != GRAPHQL.strip("/") or scope["method"] == "POST":
        return scope
    kept = [(name, value) for name, value in scope["headers"] if name.lower() != b"accept"]
    return {**scope, "query_string": b"", "headers": [*kept, (b"accept", b"text/html")]}


def _with_policy(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            added = [(b"content-security-policy", POLICY), (b"x-content-type-options", b"nosniff")]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return sending


async def _refuse(send: Send, status: int, reason: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{reason}\n".encode()})
