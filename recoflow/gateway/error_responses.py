"""What each error is answered, and answers as JSON."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recoflow.errors import StorageError
from recoflow.gateway import request_limits
from recoflow.gateway.admission import FullError, OverloadedError
from recoflow.gateway.bodies import NotJsonError, RefusedBodyError, TooManyError
from recoflow.gateway.configurations import FixedConfigurationError, UnknownConfigurationError
from recoflow.gateway.metrics import Metrics

RETRY_SECONDS: Final = "2"
AGAIN: Final = {"Retry-After": RETRY_SECONDS}
GONE: Final = {"Connection": "close"}

_log = logging.getLogger("recoflow.gateway")


class Counted:
    """Counts each answer by endpoint and status, outside of everything else."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                endpoint = getattr(scope.get("endpoint"), "__name__", "none")
                self._metrics.add("recoflow_requests_total", endpoint=endpoint, status=str(message["status"]))
            await send(message)

        await self._app(scope, receive, counting)


_ANSWERS: Final[Mapping[type[Exception], tuple[int, Mapping[str, str], str]]] = {
    NotJsonError: (415, {}, "The body is not JSON: {}"),
    TooManyError: (413, {}, "{}"),
    request_limits.TooLargeError: (413, {}, "The body is longer than {} bytes; send several requests"),
    RefusedBodyError: (400, {}, "{}"),
    UnknownConfigurationError: (404, {}, "{}"),
    FixedConfigurationError: (409, {}, "{}"),
    ClientDisconnect: (400, GONE, "The body ended early"),
    TimeoutError: (408, GONE, "The body took too long"),
    OverloadedError: (429, AGAIN, "Too much is pending; try again"),
    FullError: (503, AGAIN, "The disk is full; nothing was taken, try again"),
    StorageError: (503, AGAIN, "Nothing was taken, try again: {}"),
}


async def _answer(_request: Request, error: Exception) -> Response:
    status, headers, message = next(answer for kind, answer in _ANSWERS.items() if isinstance(error, kind))
    content: dict[str, Any] = {"message": message.format(error)}
    if isinstance(error, RefusedBodyError) and error.flaws:
        content["errors"] = error.flaws
    if isinstance(error, StorageError):
        _log.error("%s", error)
    return json_answer(status, content, headers)


async def _http(_request: Request, error: HTTPException) -> Response:
    return json_answer(error.status_code, {"message": error.detail}, error.headers or {})


async def _unexpected(_request: Request, error: Exception) -> Response:
    _log.error("a request failed", exc_info=error)
    return json_answer(500, {"message": HTTPStatus.INTERNAL_SERVER_ERROR.phrase})


def json_answer(status: int, content: object, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with JSON."""
    return Response(msgspec.json.encode(content), status, dict(headers or {}), "application/json")


HANDLERS: Final[Mapping[Any, Any]] = dict.fromkeys(_ANSWERS, _answer) | {HTTPException: _http, Exception: _unexpected}
