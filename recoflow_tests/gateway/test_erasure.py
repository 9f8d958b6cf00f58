"""Asking the gateway to forget a person: durable before the answer, readable afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recoflow.erasure import erasure_requests, request_file
from recoflow_tests.gateway.client import Running, view

PATH = "/api/lorem/forget"


def files(gateway: Running) -> list[Path]:
    return sorted(gateway.layout.inbox("lorem").glob("*"))


@pytest.mark.parametrize(
    ("body", "users", "devices"),
    [
        ({"user_id": "ann"}, {"ann"}, set()),
        ({"device_id": ' a "quoted", phone\n2 '}, set(), {'a "quoted", phone\n2'}),
        ({"user_id": "bob", "device_id": "tablet"}, {"bob"}, {"tablet"}),
    ],
)
def test_a_request_lies_where_the_next_ingest_finds_it(
    gateway: Running, body: dict[str, str], users: set[str], devices: set[str]
) -> None:
    answer = gateway.admin.post(PATH, json=body)
    assert answer.status_code == 202
    case = answer.json()["request_id"]
    (path,) = [path for path in files(gateway) if case in path.name]
    assert request_file.is_request(path.name)
    assert request_file.read_request_file(path, path.name) == (users, devices)
    assert gateway.admin.get(f"{PATH}/{case}").json() == {"request_id": case, "state": "waiting"}
    assert gateway.admin.post(PATH, json=body).json() == {"request_id": case}
    assert (
        len([path for path in files(gateway) if request_file.read_request_file(path, path.name) == (users, devices)])
        == 1
    )


def test_a_request_that_was_taken_up_is_no_answer_to_a_later_one(gateway: Running) -> None:
    first = gateway.admin.post(PATH, json={"user_id": "again"}).json()["request_id"]
    erasure_requests.begin(gateway.layout, "lorem", f"lorem_forget_{first}.csv")
    assert gateway.admin.get(f"{PATH}/{first}").json()["state"] == "running"
    assert gateway.admin.post(PATH, json={"user_id": "again"}).json()["request_id"] != first


def test_what_was_acknowledged_before_is_handed_to_the_ingest_first(start: Any) -> None:
    gateway = start("{ seal_seconds: 1000 }")
    assert gateway.post([view(user_id="leaver")]).status_code == 200
    assert list(gateway.layout.spool("lorem").glob("*.open"))
    gateway.admin.post(PATH, json={"user_id": "leaver"})
    assert not list(gateway.layout.spool("lorem").glob("*.open"))
    assert gateway.ingest().accepted == 1


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"user_id": ""},
        {"user_id": " "},
        {"user_id": 4711},
        {"user_id": None},
        {"user": "ann"},
        {"user_id": "ann", "reason": "asked"},
        {"user_id": "anonymous"},
        {"device_id": "NULL"},
    ],
)
def test_a_body_that_is_not_quite_a_request_forgets_nobody(gateway: Running, body: Any) -> None:
    before = files(gateway)
    answer = gateway.admin.post(PATH, json=body)
    assert answer.status_code == 400
    assert answer.json()["message"]
    assert files(gateway) == before


def test_only_the_environments_own_token_may_ask_and_look(gateway: Running) -> None:
    own = {"Authorization": "Bearer ipsum-secret"}
    path = "/api/ipsum/forget"
    assert gateway.client.post(path, json={"user_id": "ann"}).status_code == 401
    case = gateway.client.post(path, json={"user_id": "ann"}, headers=own).json()["request_id"]
    assert gateway.client.get(f"{path}/{case}").status_code == 401
    assert gateway.client.get(f"{path}/{case}", headers={"Authorization": "Bearer dolor-secret"}).status_code == 403
    assert gateway.client.get(f"{path}/{case}", headers=own).json()["state"] == "waiting"
    assert gateway.admin.get(f"{PATH}/{case}").status_code == 404  # another environment's


@pytest.mark.parametrize("case", ["0", "*", "..", "%2e%2e%2fipsum", "f" * 32])
def test_a_request_that_nobody_made_is_404(gateway: Running, case: str) -> None:
    assert gateway.admin.get(f"{PATH}/{case}").status_code == 404


def test_what_cannot_be_written_is_503_and_forgets_nobody(start: Any) -> None:
    gateway = start()
    inbox = gateway.layout.inbox("lorem")
    inbox.parent.mkdir(parents=True, exist_ok=True)
    inbox.write_text("in the way")
    answer = gateway.admin.post(PATH, json={"user_id": "ann"})
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
