"""A real nginx in front of the gateway: what strangers reach through it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from recoflow.server.processes import free_port
from recoflow_tests.gateway.client import Running, view

Start = Callable[..., Running]
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
CONFIGURATION = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {gateway}; {headers} }} }}
}}
"""
HEADERS = {
    "nginx's own": "",
    "documented": "proxy_http_version 1.1; proxy_set_header Host $host;",
    "forwarded": "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
}
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx-light")


@pytest.fixture
def proxied(start: Start, tmp_path: Path) -> Iterator[Callable[[str, str], tuple[Running, httpx.Client]]]:
    """Start a gateway and nginx before it; gives the gateway and a client of nginx that calls it reco.example.com."""
    ended = []

    def start_both(headers: str, gateway: str = "{}") -> tuple[Running, httpx.Client]:
        running, port, folder = start(gateway), free_port(0), tmp_path / "nginx"
        folder.mkdir()
        text = CONFIGURATION.format(folder=folder, port=port, gateway=running.url, headers=headers)
        (folder / "nginx.conf").write_text(text)
        assert NGINX is not None
        command = [NGINX, "-c", str(folder / "nginx.conf"), "-p", str(folder)]
        nginx = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Host": "reco.example.com"}, timeout=20)
        ended.append((nginx, client))
        await_answer(client)
        return running, client

    yield start_both
    for nginx, client in ended:
        client.close()
        nginx.send_signal(signal.SIGTERM)
        nginx.wait(20)


def await_answer(client: httpx.Client) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            assert client.get("/health").status_code == 200
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


@pytest.mark.fault("H5")
@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS.keys())
def test_strangers_change_nothing_through_a_proxy(
    proxied: Callable[[str], tuple[Running, httpx.Client]], headers: str
) -> None:
    gateway, client = proxied(headers)
    assert client.post("/api/lorem/forget", json={"user_id": "reader-09999"}).status_code == 403
    assert client.put("/api/lorem/configurations/fresh", json={"algorithm": "newest"}).status_code == 403
    assert client.get("/api/lorem/configurations/fresh").status_code == 403
    assert client.get("/api/configurations").status_code == 401
    assert not list(gateway.layout.inbox("lorem").glob("*"))
    page = {"Origin": "http://reco.example.com"}
    assert client.post("/api/lorem/events", json={"events": [view()]}, headers=page).status_code in {403, 421}
    token = gateway.token()
    assert client.put("/api/lorem/configurations/fresh", json={"algorithm": "newest"}, headers=token).status_code == 201
    assert client.post("/api/lorem/forget", json={"user_id": "reader-09999"}, headers=token).status_code == 202


@pytest.mark.fault("H5")
def test_the_documented_proxy_keeps_out_events_without_a_token_where_there_are_token_files(
    proxied: Callable[[str, str], tuple[Running, httpx.Client]],
) -> None:
    _, client = proxied(HEADERS["documented"], "{ token_variables: [IPSUM_TOKEN] }")
    events = {"events": [view()]}
    assert client.post("/api/lorem/events", json=events).status_code == 401
    token = {"Authorization": "Bearer ipsum-secret"}
    assert client.post("/api/lorem/events", json=events, headers=token).json() == {"accepted": 1}
    assert client.post("/api/lorem/pubsub?token=ipsum-secret", json={"message": {"data": ""}}).status_code == 200
