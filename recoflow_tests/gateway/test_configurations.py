"""The configurations API over real HTTP: what is registered, refused, told and taken back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from recoflow.settings.environment import load_environment
from recoflow.storage import configuration_store
from recoflow.storage.configuration_store import ConfigurationStore
from recoflow.storage.lake.lake import Lake
from recoflow.storage.paths import Paths
from recoflow_tests.gateway.client import Running, write_environment

FRESH = {"max_age_days": 3, "filters": {"categories": ["sport", "news"]}}
CAMPAIGNS = "campaigns: { configurations: { discover: { max_age_days: 60 } } }\n"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """lorem is open and has one configuration in its YAML; ipsum and dolor have tokens."""
    layout = Paths(tmp_path_factory.mktemp("data"))
    write_environment(layout, "lorem")
    with (layout.environments / "lorem.yaml").open("a") as file:
        file.write(CAMPAIGNS)
    write_environment(layout, "ipsum", "{ token_variables: [IPSUM_TOKEN] }")
    write_environment(layout, "dolor", "{ token_variables: [DOLOR_TOKEN] }")
    running = Running(layout)
    yield running
    assert running.end() == 0


def put(api: Running, name: str, body: Any, environment: str = "lorem", **options: Any) -> httpx.Response:
    client = api.admin if environment == "lorem" else api.client
    return client.put(f"/api/{environment}/configurations/{name}", json=body, **options)


def get(api: Running, name: str, **query: Any) -> httpx.Response:
    return api.admin.get(f"/api/lorem/configurations/{name}", params=query)


def test_a_put_is_in_the_lake_when_it_is_answered_and_campaigns_see_it(api: Running) -> None:
    before = datetime.now(UTC)
    answer = put(api, "fresh", FRESH)
    assert answer.status_code == 201
    (row,) = api.table("configurations").filter(configuration_id="fresh").rows(named=True)
    assert before <= row["registered_at"] <= datetime.now(UTC)
    told = answer.json()
    assert datetime.fromisoformat(told.pop("registered_at")) == row["registered_at"]
    assert told == {
        "environment": "lorem",
        "configuration_id": "fresh",
        "origin": "api",
        "version": 1,
        "configuration": FRESH,
    }
    lorem = load_environment(api.layout.environments / "lorem.yaml")
    merged = configuration_store.effective(
        lorem, ConfigurationStore(Lake(api.layout.lake("lorem"))).history(), datetime.now(UTC)
    )
    assert merged.campaigns.configurations["fresh"].filters == {"categories": ("sport", "news")}


def test_a_second_put_is_200_and_version_2_and_the_first_is_still_told(api: Running) -> None:
    put(api, "twice", {"max_age_days": 3})
    answer = put(api, "twice", {"max_age_days": 2})
    assert (answer.status_code, answer.json()["version"]) == (200, 2)
    assert get(api, "twice").json() == answer.json()
    assert get(api, "twice", version=1).json()["configuration"] == {"max_age_days": 3}
    assert get(api, "twice", version=3).status_code == 404
    for wrong in ("0", "-1", "one", "1.0", "٣", "9" * 30):
        assert get(api, "twice", version=wrong).status_code in (400, 404), wrong


def test_a_put_that_is_sent_again_makes_no_new_version(api: Running) -> None:
    first = put(api, "again", FRESH)
    second = put(api, "again", FRESH)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()


def test_a_deleted_one_is_404_and_its_versions_stay(api: Running) -> None:
    put(api, "gone", FRESH)
    assert api.admin.delete("/api/lorem/configurations/gone").status_code == 204
    assert api.admin.delete("/api/lorem/configurations/gone").status_code == 404
    assert get(api, "gone").status_code == 404
    assert get(api, "gone", version=1).json()["configuration"] == FRESH
    assert put(api, "gone", FRESH).status_code == 201


def test_an_id_of_the_yaml_is_told_and_cannot_be_changed(api: Running) -> None:
    told = get(api, "discover").json()
    assert told["configuration"] == {"max_age_days": 60}
    assert (told["origin"], told["version"], told["registered_at"]) == ("yaml", None, None)
    for answer in (put(api, "discover", FRESH), api.admin.delete("/api/lorem/configurations/discover")):
        assert answer.status_code == 409
        assert "stands in lorem.yaml and is changed there; choose another id" in answer.json()["message"]
    assert get(api, "discover", version=1).status_code == 404


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"max_age_days": -1}, "max_age_days: Input should be greater than 0 (found: -1). Correct this value"),
        ({"max_age": 1}, "max_age: is not a known key. Did you mean 'max_age_days'?"),
        ({"consumed": ["purchas"]}, "'purchas' is not an event type; did you mean purchase?"),
        ([], "the body is not a JSON object"),
    ],
)
def test_a_body_is_judged_like_the_yaml_and_the_answer_names_key_and_cure(
    api: Running, body: Any, problem: str
) -> None:
    answer = put(api, "wrong", body)
    assert answer.status_code == 400
    assert problem in answer.json()["message"]
    assert get(api, "wrong").status_code == 404


def test_what_is_not_json_or_too_long_is_refused(api: Running) -> None:
    path = "/api/lorem/configurations/wrong"
    assert api.admin.put(path, content=b"{", headers={"Content-Type": "application/json"}).status_code == 415
    assert api.admin.put(path, content=b"{}").status_code == 415
    assert api.admin.put(path, content=b"a: b", headers={"Content-Type": "text/yaml"}).status_code == 415
    assert put(api, "wrong", {"filters": {"a": "x" * 70_000}}).status_code == 413


def test_ids_are_plain_text(api: Running) -> None:
    assert put(api, "news/sport 10%25", FRESH).status_code == 201
    assert get(api, "news/sport 10%25").json()["configuration_id"] == "news/sport 10%"
    for bad in ("a%07b", "%20a", "x" * 201, ""):
        assert put(api, bad, FRESH).status_code == 400, bad


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"Authorization": "Bearer no"}, 401), ({"Authorization": "Bearer dolor-secret"}, 403)],
)
def test_each_act_needs_the_environments_token(api: Running, headers: dict[str, str], status: int) -> None:
    path = "/api/ipsum/configurations/fresh"
    for method, options in (("GET", {}), ("DELETE", {}), ("PUT", {"json": FRESH})):
        assert api.client.request(method, path, headers=headers, **options).status_code == status
    assert put(api, "fresh", FRESH, "nobody").status_code == 404


def test_all_configurations_of_the_environments_that_the_token_opens(api: Running) -> None:
    token = {"Authorization": "Bearer ipsum-secret"}
    put(api, "listed", FRESH)
    assert put(api, "secret", FRESH, "ipsum", headers=token).status_code == 201

    def told(**headers: str) -> list[tuple[str, str]]:
        found = api.client.get("/api/configurations", headers=headers).json()["configurations"]
        return [(each["environment"], each["configuration_id"]) for each in found]

    of_lorem = told(**api.token())
    assert {("lorem", "discover"), ("lorem", "listed")} <= set(of_lorem)
    assert {environment for environment, _ in of_lorem} == {"lorem"}
    assert of_lorem == sorted(of_lorem)
    assert told(**token) == [("ipsum", "secret")]


def test_the_list_needs_a_token(tmp_path: Path) -> None:
    layout = Paths(tmp_path)
    write_environment(layout, "ipsum", "{ token_variables: [IPSUM_TOKEN] }")
    running = Running(layout)
    try:
        assert running.client.get("/api/configurations").status_code == 401
        answer = running.client.get("/api/configurations", headers={"Authorization": "Bearer ipsum-secret"})
        assert answer.json() == {"configurations": []}
    finally:
        assert running.end() == 0


def test_what_was_registered_is_there_after_the_gateway_was_killed(api: Running) -> None:
    put(api, "kept", FRESH)
    other = Running(api.layout)
    try:
        assert get(other, "kept").json() == get(api, "kept").json()
        assert put(other, "kept", {"max_age_days": 1}).json()["version"] == 2
    finally:
        other.process.kill()
        other.wait()
    assert get(api, "kept").json()["version"] == 2
    assert datetime.fromisoformat(get(api, "kept").json()["registered_at"]) > datetime.now(UTC) - timedelta(minutes=5)
