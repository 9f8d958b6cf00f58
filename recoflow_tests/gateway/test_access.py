"""Who may send: tokens, and without one the address, Host and Origin of a request, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from recoflow.errors import ConfigurationError
from recoflow.storage.paths import Paths
from recoflow_tests.gateway.client import Running, view, write_environment

Start = Callable[..., Running]
ITEM = {"title": "Pear"}
SENDS = [
    ("POST", "events", {"events": []}),
    ("POST", "metarank", []),
    ("POST", "pubsub", {"message": {"data": ""}}),
    ("PUT", "items/article/1", ITEM),
    ("DELETE", "items/article/1", None),
]
MANAGES = [
    ("POST", "forget", {"user_id": "somebody"}),
    ("GET", "forget/0", None),
    ("GET", "configurations/fresh", None),
    ("PUT", "configurations/fresh", {"algorithm": "newest"}),
    ("DELETE", "configurations/fresh", None),
]
TAKEN = {200, 201, 202, 204, 404}  # 404: it may look, and there is nothing
FOREIGN_HOSTS = [
    {"Host": "rebound.example:8080"},
    {"Host": "127.0.0.1.rebound.example"},
    {"Host": "rebound.example", "Origin": "http://rebound.example"},
    {"Host": "[::1"},
    {"Host": "["},
    {"Host": ""},
    {"Host": "0.0.0.0:8080"},
]
FOREIGN_ORIGINS = [
    {"Origin": "http://site.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://127.0.0.1"},  # another port is another origin
    {"Origin": "http://localhost:3000"},
    {"X-Forwarded-For": "203.0.113.9"},
    {"X-Forwarded-For": "127.0.0.1"},
    {"X-Forwarded-Proto": "https"},
    {"X-Real-IP": "127.0.0.1"},
    {"Forwarded": "for=203.0.113.9"},
    {"Via": "1.1 proxy"},
]


def ask(gateway: Running, method: str, path: str, body: Any, name: str = "lorem", **headers: str) -> httpx.Response:
    return gateway.client.request(method, f"/api/{name}/{path}", json=body, headers=headers)


def pending(gateway: Running) -> bytes:
    gateway.await_sealed()  # a segment that is sealed meanwhile has another name
    return b"".join(path.read_bytes() for path in sorted(gateway.layout.spool("lorem").glob("*")))


@pytest.mark.fault("H5")
@pytest.mark.parametrize("headers", [{}, *FOREIGN_HOSTS, *FOREIGN_ORIGINS])
def test_without_a_token_requests_to_forget_and_configurations_are_refused(
    gateway: Running, headers: dict[str, str]
) -> None:
    for request in MANAGES:
        answer = ask(gateway, *request, **headers)
        assert answer.status_code == 403, request
        assert "data/tokens/lorem" in answer.json()["message"]
        assert "gateway.token_files of lorem.yaml" in answer.json()["message"]


@pytest.mark.fault("H5")
@pytest.mark.parametrize("headers", [{}, *FOREIGN_HOSTS, *FOREIGN_ORIGINS])
def test_the_token_that_the_gateway_made_opens_everything_from_everywhere(
    gateway: Running, headers: dict[str, str]
) -> None:
    for request in [*SENDS, *MANAGES]:
        assert ask(gateway, *request, **headers, **gateway.token()).status_code in TAKEN, request


@pytest.mark.fault("M14")
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost"},
        {"Host": "127.0.0.2:1"},
        {"Host": "[::1]:1"},
        {"Host": "LOCALHOST:8080", "Origin": "http://localhost:8080"},
    ],
)
def test_without_a_token_programs_of_this_machine_send_events_and_items(
    gateway: Running, headers: dict[str, str]
) -> None:
    for request in SENDS:
        assert ask(gateway, *request, **headers).status_code == 200, request


@pytest.mark.fault("M14")
@pytest.mark.parametrize(
    ("headers", "status"),
    [*((headers, 421) for headers in FOREIGN_HOSTS), *((headers, 403) for headers in FOREIGN_ORIGINS)],
)
def test_without_a_token_pages_and_proxies_send_nothing(gateway: Running, headers: dict[str, str], status: int) -> None:
    before = pending(gateway)
    for request in SENDS:
        answer = ask(gateway, *request, **headers)
        assert (answer.status_code, "lorem.yaml" in answer.json()["message"]) == (status, True), request
    assert pending(gateway) == before


@pytest.mark.fault("M14")
@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain;charset=UTF-8"}, {"Content-Type": ""}])
def test_a_body_must_say_that_it_is_json(gateway: Running, headers: dict[str, str]) -> None:
    for method, path, body in [*SENDS, *MANAGES]:
        if body is not None:
            content = json.dumps(body).encode()
            answer = gateway.admin.request(method, f"/api/lorem/{path}", content=content, headers=headers)
            assert (answer.status_code, "send application/json" in answer.json()["message"]) == (415, True), path


@pytest.mark.fault("M14")
def test_hosts_and_origins_of_the_settings_may_send_events_and_nothing_else(start: Start) -> None:
    gateway = start('{ hosts: [reco.example, "lan:8080"], origins: ["https://shop.example"] }')
    shop = {"Host": "reco.example:443", "Origin": "https://shop.example"}
    assert gateway.post([view()], headers=shop).status_code == 200
    assert gateway.post([view()], headers={"Host": "lan:8080", "Origin": "http://lan:8080"}).status_code == 200
    assert gateway.post([view()], headers={"Host": "lan:9090"}).status_code == 421
    assert gateway.post([view()], headers={"Origin": "https://shop.example:444"}).status_code == 403
    assert gateway.post([view()], headers={"Origin": "http://shop.example"}).status_code == 403
    assert ask(gateway, "POST", "forget", {"user_id": "ann"}, **shop).status_code == 403


@pytest.mark.parametrize(
    ("gateway", "problem"),
    [
        ('{ origins: ["https://shop.example/"] }', "'https://shop.example/' does not look like"),
        ("{ origins: [shop.example] }", "'shop.example' does not look like `https://shop.example.com`"),
        ("{ hosts: [Reco.example] }", "'Reco.example' does not look like `reco.example.com`; write it in lower case"),
        ('{ hosts: ["http://reco.example"] }', "does not look like `reco.example.com`"),
        ('{ hosts: ["*"] }', "does not look like `reco.example.com`"),
    ],
)
def test_hosts_and_origins_that_no_browser_sends_are_errors(tmp_path: Any, gateway: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=r"lorem\.yaml:5") as error:
        write_environment(Paths(tmp_path), "lorem", gateway)
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic ipsum-secret"}, 401),
        ({"Authorization": "Bearer dolor-secret"}, 403),
        ({"Authorization": "Bearer ipsum-secret"}, 200),
        ({"Authorization": "bearer  ipsum-secret"}, 200),
    ],
)
def test_an_environment_with_tokens_takes_requests_only_with_its_own(
    gateway: Running, headers: dict[str, str], status: int
) -> None:
    for method, path, body in [*SENDS, *MANAGES]:
        answer = ask(gateway, method, path, body, "ipsum", **headers)
        assert answer.status_code in (TAKEN if status == 200 else {status}), path
        assert ("www-authenticate" in answer.headers) == (status == 401)


def test_a_wrong_token_does_not_count_as_none(gateway: Running) -> None:
    assert gateway.post([view()], headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert gateway.post([view()], headers={"Authorization": "Bearer ipsum-secret"}).status_code == 403
    assert gateway.post([view()], "ipsum", headers=gateway.token()).status_code == 403


@pytest.mark.fault("L6")
@pytest.mark.parametrize("path", ["items/article/pubsub", "configurations/pubsub", "configurations/a/pubsub", "events"])
def test_a_token_in_the_url_opens_the_push_of_pubsub_only(gateway: Running, path: str) -> None:
    envelope = {"message": {"data": ""}}
    assert gateway.client.post("/api/ipsum/pubsub?token=ipsum-secret", json=envelope).status_code == 200
    assert gateway.client.post("/api/ipsum/pubsub?token=wrong", json=envelope).status_code == 401
    assert gateway.client.post("/api/ipsum/pubsub?token=", json=envelope).status_code == 401
    method = "POST" if path == "events" else "PUT"
    answer = gateway.client.request(method, f"/api/ipsum/{path}?token=ipsum-secret", json={})
    assert answer.status_code == 401
