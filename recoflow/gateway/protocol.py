"""Limits of a connection that apply before a request reaches the application: head, time, number of connections.

uvicorn bounds none of them: it buffers a head of any length, waits for its end without a time-out, and answers nothing
at all once every connection that the process may have is open. What a request is answered belongs to `app`.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, cast

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

ALWAYS_ANSWERED: Final = (b"/health", b"/ready")  # also when every connection is at work
LINGER_SECONDS: Final = 2.0  # a refused client may read the reason; an immediate close would reset the connection


@dataclass(frozen=True)
class ConnectionLimits:
    """What one connection may cost."""

    connections: int  # beyond: the one that has waited longest for its next request is closed
    head_bytes: int = 64 * 1024  # request line and headers; also trailers and what stands between two chunks
    url_bytes: int = 8 * 1024
    headers: int = 100
    pipelined: int = 16  # requests that wait for the answer to an earlier one
    head_seconds: int = 10  # for a head, for the next request, and for a body that was answered before its end
    write_seconds: float = 30.0  # a client that does not read its answer is given up


class ProtocolError(Exception):
    """The connection is not served any further."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1 protocol within limits. Its keep-alive timer here also bounds heads and unread bodies."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._is_in_head = True  # between two requests too
        self._has_begun = False  # a head, whose end is awaited
        self._is_advancing = False  # a head was completed, or a part of a body handed out
        self._silent_bytes = 0  # taken by the parser since then
        self._is_refused = False
        self._unanswered: list[RequestResponseCycle] = []
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._make_room()
        self._arm(self._limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers, and mark every request; uvicorn marks the latest only, and the others would fail."""
        self._abandon()
        self._unset_keepalive_if_required()
        self._unset_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, never with more than a head may still have."""
        rest = memoryview(data)
        while rest and not (self._is_refused or self.transport.is_closing()):
            piece = rest[: self._limits.head_bytes - self._silent_bytes]
            rest = rest[self._feed(piece) :]

    def on_message_begin(self) -> None:
        """Begin to wait for the end of this head."""
        super().on_message_begin()
        self._has_begun = True
        self._arm(self._limits.head_seconds)

    def on_url(self, url: bytes) -> None:
        """Add a part of the URL."""
        super().on_url(url)
        if len(self.url) > self._limits.url_bytes:
            raise ProtocolError(414, f"The URL is longer than {self._limits.url_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; trailers are dropped."""
        if not self._is_in_head:
            return
        if len(self.headers) == self._limits.headers:
            raise ProtocolError(431, f"There are more than {self._limits.headers} headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, unless its head is refused."""
        self._check_head()
        is_served = len(self.connections) <= self._limits.connections or self._path() in ALWAYS_ANSWERED
        self.app = self.config.loaded_app if is_served else _too_busy
        super().on_headers_complete()
        self._unanswered = [cycle for cycle in self._unanswered if not cycle.response_complete] + [self.cycle]
        self._unset_keepalive_if_required()
        self._is_in_head = self._has_begun = False
        self._is_advancing = True

    def on_body(self, body: bytes) -> None:
        """Hand out a part of a body."""
        self._is_advancing = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Begin to wait for the next head."""
        self._is_in_head = True
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read its answer."""
        super().pause_writing()
        self._stall = self.loop.call_later(self._limits.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._unset_stall()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, or for the client to read this answer as the last one."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._arm(self._limits.write_seconds)

    def timeout_keep_alive_handler(self) -> None:
        """The time for a head, for the next request, for the rest of a body or for reading a refusal is over."""
        if self._is_refused or self.transport.is_closing():
            self.transport.abort()
        elif not self._is_idle():  # an earlier request is being answered; it has its own time-out
            self._arm(self._limits.head_seconds)
        elif self._has_begun:
            self._refuse(ProtocolError(408, f"The head was not complete within {self._limits.head_seconds} seconds"))
        else:
            super().timeout_keep_alive_handler()

    def _feed(self, piece: memoryview) -> int:
        """Parse a piece; returns how many bytes of it are done with."""
        self._is_advancing = False
        done = len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as offer:  # declined: the next request is read as if there was none
            done = offer.args[0]
        except httptools.HttpParserError as error:
            reason = error.__context__
            self._refuse(reason if isinstance(reason, ProtocolError) else ProtocolError(400, "This is not HTTP"))
        self._silent_bytes = 0 if self._is_advancing else self._silent_bytes + done
        if self._silent_bytes >= self._limits.head_bytes and not self._is_refused:
            self._refuse(ProtocolError(431, f"The head is longer than {self._limits.head_bytes} bytes"))
        return done

    def _check_head(self) -> None:
        """Refuse what proxies and servers understand differently.

        Raises:
            ProtocolError
        """
        version = self.parser.get_http_version()
        if version not in {"1.0", "1.1"}:
            raise ProtocolError(505, f"HTTP/{version} is not spoken here; use HTTP/1.1")
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            raise ProtocolError(400, f"There are {hosts} Host headers; send one")
        if self.parser.should_upgrade() and any(map(_announces_body, self.headers)):  # the parser would skip the body
            raise ProtocolError(400, "Upgrade is not offered here; send the body without it, in HTTP/1.1")
        if len(self.pipeline) >= self._limits.pipelined:
            raise ProtocolError(400, "Too many requests wait for an answer on this connection")

    def _path(self) -> bytes:
        return self.url.partition(b"?")[0]

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _make_room(self) -> None:
        """Close the connection that has waited longest for a request, where there are too many."""
        if len(self.connections) <= self._limits.connections:
            return
        others = [cast(LimitedProtocol, each) for each in self.connections if each is not self]
        waiting = [(each.timeout_keep_alive_task.when(), each) for each in others if each.timeout_keep_alive_task]
        idle = [(until, each) for until, each in waiting if each._is_idle()]
        if idle:
            _, longest = min(idle, key=lambda entry: entry[0])
            self.connections.discard(longest)
            longest.transport.abort()

    def _refuse(self, refusal: ProtocolError) -> None:
        """Answer with the reason where an answer is due, and read no further request from this connection."""
        self._is_refused = True
        if self._is_in_head and self._is_idle():
            self._answer(refusal)
        elif self._is_in_head:  # earlier requests are answered first, as if this one had not come
            self.cycle.keep_alive = False
        else:
            is_due = not (self.pipeline or self.cycle.response_started)
            self._abandon()
            if is_due:
                self._answer(refusal)
            else:
                self.transport.close()

    def _abandon(self) -> None:
        """Answer none of the requests that were begun; what they do is done all the same."""
        for cycle in self._unanswered:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def _answer(self, refusal: ProtocolError) -> None:
        body = _problem(refusal.message)
        head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[refusal.status] + head.encode() + body)
        self.transport.write_eof()
        self._arm(LINGER_SECONDS)

    def _arm(self, seconds: float) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _unset_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


def _announces_body(header: tuple[bytes, bytes]) -> bool:
    name, value = header
    return name == b"transfer-encoding" or (name == b"content-length" and value != b"0")


async def _too_busy(_scope: Scope, _receive: Receive, send: Send) -> None:
    body = _problem("Every connection is at work; try again")
    headers = {b"content-type": b"application/json", b"content-length": b"%d" % len(body)}
    headers |= {b"retry-after": b"2", b"connection": b"close"}
    status = HTTPStatus.SERVICE_UNAVAILABLE
    await send({"type": "http.response.start", "status": status, "headers": list(headers.items())})
    await send({"type": "http.response.body", "body": body})


def _problem(message: str) -> bytes:
    return json.dumps({"message": message}).encode()
