"""The gateway's process: uvicorn on one address, stopped by a signal without losing what it acknowledged.

What belongs here: starting and stopping. What does not: what a request is answered (`app`).

Why uvicorn with httptools and uvloop: measured on one busy core with bodies of 500 events that are only read, bare ASGI
took 308,000 events/s, with Starlette's routing 300,000, hypercorn 247,000, granian 527,000; with single events 2,200,
1,900, 600 and 2,800 requests/s. Judging is the larger part of the work, and Dagster's own UI brings uvicorn already.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from types import FrameType
from typing import cast

import uvicorn

from recoflow.gateway import local_tokens
from recoflow.gateway.app import GatewayApp
from recoflow.gateway.protocol import ConnectionLimits, LimitedProtocol
from recoflow.gateway.tokens import Tokens
from recoflow.settings.environment import Environment
from recoflow.storage.paths import Paths

MAX_CONNECTIONS = 1000
GRACE_SECONDS = 10  # for requests that have begun; what they have not been answered they send again


def serve(
    environments: Sequence[Environment], layout: Paths, host: str, port: int, tell: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or SIGINT: then requests that have begun are finished, and everything is sealed.

    Args:
        environments: those that are served.
        layout: the data folder.
        host: address to listen on.
        port: 0 takes a free one.
        tell: called with the URL once requests are answered.

    Raises:
        ConfigurationError: a token cannot be read.
        StorageError: what a crash left cannot be sealed, or a token cannot be written.
    """
    for environment in environments:
        if environment.gateway.is_open:
            local_tokens.make(layout.token(environment.name))
    tokens = Tokens(environments, layout, os.environ)
    gateway = GatewayApp(environments, layout, tokens, lambda: datetime.now(UTC))
    limits = ConnectionLimits(connections=_max_connections())
    config = uvicorn.Config(
        gateway.app,
        host=host,
        port=port,
        http=cast("type[asyncio.Protocol]", partial(LimitedProtocol, limits=limits)),
        lifespan="on",
        ws="none",
        proxy_headers=False,  # who may send depends on the address of the connection, not on what a header claims
        timeout_keep_alive=limits.head_seconds,
        access_log=False,  # would show the tokens of Pub/Sub's pushes
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # uvicorn raises the signal again when all is done
    _Server(config, gateway, tell).run(sockets=[config.bind_socket()])


def _max_connections() -> int:
    """Half of the files that this process may have open, so that the spool and the lake can always be opened."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files // 2)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, gateway: GatewayApp, tell: Callable[[str], None]) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._tell = tell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            self._tell(f"http://{host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._gateway.is_stopping = True
        super().handle_exit(sig, frame)
