"""What a request brings: token, media type, length and body, within limits.

What belongs here: looking at one request of HTTP. What does not: what it is answered (`app`).
"""

from __future__ import annotations

import re
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request

_LOOPBACK: Final = re.compile(r"localhost|127(\.\d{1,3}){3}|::1|\[::1\]")


class TooLargeError(Exception):
    """The body is longer than the environment takes."""


def token(request: Request) -> str | None:
    """The bearer token; for Pub/Sub, which cannot send one, the parameter that Google's documents propose."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return request.query_params.get("token") if request.scope["path"].endswith("/pubsub") else None


def is_from_here(request: Request) -> bool:
    """Whether a program of this machine sent a request: nobody behind a proxy, and no page of a site in a browser.

    A browser sends what a page of any site tells it to loopback too: it names that site as the origin, or as the host
    where the site has had its name resolved to loopback.
    """
    host = request.headers.get("host", "")
    peer = request.client.host if request.client else ""  # as a proxy tells it, where there is one
    is_own = request.headers.get("origin") in {None, f"http://{host}"}
    return is_own and all(_LOOPBACK.fullmatch(name) for name in (peer, re.sub(r":\d+$", "", host)))


def check_media_type(request: Request) -> None:
    """Refuse what is not plain JSON.

    Raises:
        HTTPException: 415.
    """
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    is_json = media_type == "application/json" or media_type.endswith("+json") or media_type == "application/x-ndjson"
    if request.method != "DELETE" and not is_json:
        raise HTTPException(415, f"'{media_type}' is not JSON; send application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "Compressed bodies are not read; send it plain")


def content_length(request: Request) -> int | None:
    """The stated length of the body, None when it is told in pieces."""
    stated = request.headers.get("content-length", "")
    if stated.isdecimal():
        return int(stated)
    return None if "transfer-encoding" in request.headers else 0


async def body(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        TooLargeError: it is longer than `limit` bytes.
    """
    chunks, length = [], 0
    async for chunk in request.stream():
        length += len(chunk)
        if length > limit:
            raise TooLargeError(limit)
        chunks.append(chunk)
    return b"".join(chunks)
