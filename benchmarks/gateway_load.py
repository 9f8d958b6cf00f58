"""The other side of `benchmarks.gateway`: the load generator's process, and the peer. Only the standard library."""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

TAG = b"@tag----"  # replaced by the number of the request, so that every event has an id of its own


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """The peer: the least that an ASGI application can do with a request."""
    if scope["type"] == "http":
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})


def template(batch: int) -> bytes:
    now = int(time.time() * 1000)
    events = [
        {
            "event_type": "detail_pageview",
            "event_id": f"{TAG.decode()}-{index}",
            "user_id": f"user{index * 7919 % 100_000}",
            "device_id": f"device{index * 104_729 % 200_000}",
            "channel": "www-desktop",
            "page_type": "article_detail",
            "action_item": f"article{index * index % 5_000}",
            "action_item_type": "article",
            "timestamp": now - index,
            "referrer": "https://lorem.example/home",
        }
        for index in range(batch)
    ]
    return json.dumps({"events": events}).encode()


def generate(port: int, batch: int, connections: int, seconds: float, log: Path) -> None:
    """The load generator's process: writes `tag,begin,end` of each acknowledged request, times in seconds."""
    body = template(batch)
    until = time.time() + seconds
    numbers = iter(range(10**8))
    guard = threading.Lock()
    with log.open("w") as acknowledged:

        def work() -> None:
            while time.time() < until:
                with guard:
                    number = next(numbers)
                tag = b"%08d" % number
                begin = time.time()
                if post(port, body.replace(TAG, tag), until + 30):
                    with guard:
                        acknowledged.write(f"{tag.decode()},{begin},{time.time()}\n")

        threads = [threading.Thread(target=work) for _ in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


_local = threading.local()


def post(port: int, body: bytes, until: float) -> bool:
    """Send until it is acknowledged; a connection that breaks, or a 429, is tried again."""
    while time.time() < until:
        try:
            if getattr(_local, "connection", None) is None:
                _local.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            _local.connection.request("POST", "/api/lorem/events", body, {"Content-Type": "application/json"})
            answer = _local.connection.getresponse()
            answer.read()
            if answer.status == 200:
                return True
            assert answer.status in (429, 503), answer.status
            time.sleep(0.1)
        except (OSError, http.client.HTTPException):
            _local.connection = None
            time.sleep(0.05)
    return False


if __name__ == "__main__":
    generate(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), Path(sys.argv[5]))
