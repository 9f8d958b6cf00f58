"""What a request brings: token, media type, length and body, within limits.

Who may send is decided in `access`, what a request is answered in `app`.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request


class TooLargeError(Exception):
    """The body is longer than the environment takes."""


def bearer_token(request: Request) -> str | None:
    """The token of the Authorization header."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def pushed_token(request: Request) -> str | None:
    """The same; for Pub/Sub, which cannot send one, the parameter that Google's documents propose."""
    return bearer_token(request) or request.query_params.get("token") or None


def check_media_type(request: Request) -> None:
    """Refuse what is not plain JSON, and what does not say so.

    A page of any site can send a body without a media type, or with one of a form's, and no browser asks us before.

    Raises:
        HTTPException: 415.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
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
