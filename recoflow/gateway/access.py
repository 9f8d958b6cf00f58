"""Who may send: token, address, Host and Origin of a request, held against what it wants.

An environment with tokens of its own asks every request for one. One without, as in the sandbox, takes events and
items from programs of this machine, and everything else with the token that `local_tokens` made.
"""

from __future__ import annotations

import re
from enum import Enum
from ipaddress import IPv6Address, ip_address
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request

from recoflow.gateway.tokens import TokenAccess, Tokens
from recoflow.settings.environment import Environment

PROXY_HEADERS: Final = ("forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip")
_PORT: Final = re.compile(r":\d*$")


class RequestRight(Enum):
    """What a request wants to do in an environment."""

    SEND = "send events and items"
    MANAGE = "everything else"


def check_access(
    request: Request, environment: Environment, tokens: Tokens, right: RequestRight, token: str | None
) -> None:
    """Refuse a request that may not do what it wants.

    Raises:
        HTTPException: 401, 403 or 421.
    """
    name = environment.name
    if token is None and environment.gateway.is_open:
        _check_without_token(request, environment, right)
        return
    access = tokens.access(name, token)
    if access is TokenAccess.UNKNOWN:
        raise HTTPException(401, f"{name} needs a bearer token of its own", {"WWW-Authenticate": "Bearer"})
    if access is TokenAccess.FOREIGN:
        raise HTTPException(403, f"This token is not for {name}")


def _check_without_token(request: Request, environment: Environment, right: RequestRight) -> None:
    """Refuse what an environment takes with a token only.

    Web pages in a browser of this machine reach loopback too. A browser names the page's site as Origin, or as Host
    where the site has its name resolved to loopback.

    Raises:
        HTTPException: 403 or 421.
    """
    name, settings = environment.name, environment.gateway
    cure = f"send a bearer token: the one in data/tokens/{name}, or one that gateway.token_files of {name}.yaml names"
    if right is not RequestRight.SEND:
        raise HTTPException(403, f"{name} takes this with a token only; {cure}")
    if not is_loopback(request.client.host if request.client else "") or is_forwarded(request):
        raise HTTPException(403, f"Without a token, {name} takes events and items from its own machine only; {cure}")
    host = request.headers.get("host", "").lower()
    hostname = _PORT.sub("", host)
    if not (is_loopback(hostname) or {host, hostname} & set(settings.hosts)):
        cure = f"name it in gateway.hosts of {name}.yaml, or {cure}"
        raise HTTPException(421, f"'{host[:100]}' is not a name of this machine; {cure}")
    allowed = {f"http://{host}", *settings.origins}
    for origin in request.headers.getlist("origin"):
        if origin not in allowed:
            cure = f"name it in gateway.origins of {name}.yaml, or {cure}"
            raise HTTPException(403, f"Pages of '{origin[:100]}' may not send to {name}; {cure}")


def is_loopback(host: str) -> bool:
    """Whether an address, or a host name without port, is this machine's loopback."""
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return host == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def is_forwarded(request: Request) -> bool:
    """Whether a proxy says that it passed the request on. A proxy that does not say so is not recognized."""
    return any(header in PROXY_HEADERS or header.startswith("x-forwarded") for header in request.headers)
