"""Between two trainings: what was just read, deleted or sent again shows in the next campaign, in no earlier one."""

import csv
import io
import json
from datetime import UTC, datetime

import dagster as dg
import polars as pl
import pytest
import yaml

from recoflow import schema
from recoflow.models.store import versions
from recoflow.sandbox import feeder, world
from recoflow_tests.scenario import Scenario, materializations

NAMES = [f"lorem_weekly_mail_2026-11-{day}T06:00:00Z.csv" for day in (22, 23)]


@pytest.fixture(scope="module")
def readers(sample: world.World) -> list[str]:
    return [str(user) for user in sample.users[:12]]


def ask(made: Scenario, readers: list[str], name: str) -> tuple[str, dg.RunRequest]:
    """One list for each reader and for somebody new, through SFTP and a run: the response, and the run's request."""
    lines = [f'"lorem","{user}","Top",10,"home"' for user in [*readers, "somebody-new"]]
    header = '"environment","user_id","list_name","list_size","page_type"'
    made.drop_request("\n".join([header, *lines]) + "\n", name)
    (request,) = made.run_requests("lorem_requests")
    assert made.campaign(request).success
    return made.fetch(name), request


def lists_of(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in csv.DictReader(io.StringIO(text)):
        found.setdefault(row["user_id"], []).append(row["item_id"])
    return found


def reasons_of(text: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in csv.DictReader(io.StringIO(text)):
        found.setdefault(row["user_id"], set()).add(row["because_of"])
    return found


def ingest(made: Scenario, events: list[dict[str, object]], name: str) -> None:
    path = made.layout.root / name
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    with made.customer() as sftp:
        feeder.drop(sftp, path, folder="periodic")
    (request,) = made.run_requests("lorem_files")
    result = made.run("lorem_ingest", request)
    assert result.success
    assert materializations(result)["events"]["accepted"] == len(events)


def delete(made: Scenario, item: str) -> None:
    """As `DELETE /items/article/<item>` does."""
    gone = {
        "entity": "item",
        "entity_id": item,
        "operation": "delete",
        "event_id": "gone",
        "timestamp": datetime.now(UTC),
    }
    made.definitions.resources["installation"].lake(made.environment("lorem")).append(
        "updates", pl.DataFrame([gone], schema=schema.UPDATES)
    )


def view(user: str, item: str) -> dict[str, object]:
    at = datetime.now(UTC).isoformat()
    about = {"action_item": item, "action_item_type": "article", "page_type": "article_detail"}
    return {"event_type": "detail_pageview", "user_id": user, "timestamp": at, **about}


def test_events_after_the_training_count_and_a_re_run_gives_what_it_gave(trained: Scenario, readers: list[str]) -> None:
    text, first = ask(trained, readers, NAMES[0])
    before = lists_of(text)
    response = trained.layout.campaigns("lorem") / str(first.partition_key) / "response"
    published = response.read_bytes()

    reader, other = readers[0], readers[1]
    read, deleted = before[reader][:3], before[other][0]
    delete(trained, deleted)
    visits = [view(reader, item) for item in read] + [view("somebody-new", item) for item in before[other][1:4]]
    ingest(trained, visits, "lorem_events_2026-11-23.jsonl")
    after = lists_of(ask(trained, readers, NAMES[1])[0])

    assert not set(read) & set(after[reader])
    stale = [item for item in before[reader] if item not in {*read, deleted}]
    assert after[reader][: len(stale)] != stale
    assert not any(deleted in items for items in after.values())
    stale = [item for item in before["somebody-new"] if item != deleted]
    assert after["somebody-new"][: len(stale)] != stale
    stale = [item for item in before[readers[5]] if item != deleted]
    assert after[readers[5]][: len(stale)] == stale

    response.unlink()
    again = trained.run("lorem_campaign", first)
    assert again.success
    assert response.read_bytes() == published


def test_a_list_tells_what_it_is_given_because_of(trained: Scenario, readers: list[str]) -> None:
    path = trained.layout.environments / "lorem.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["campaigns"]["information_fields"].append("because_of")
    path.write_text(yaml.safe_dump(settings))
    trained.reload()
    text, _ = ask(trained, readers, NAMES[0])
    reasons = reasons_of(text)
    assert reasons["somebody-new"] == {""}
    assert sum(len(reasons[reader]) > 1 for reader in readers) > len(readers) / 2

    read = lists_of(text)[readers[1]][1:4]
    ingest(trained, [view("somebody-new", item) for item in read], "lorem_events_2026-11-24.jsonl")
    told = reasons_of(ask(trained, readers, NAMES[1])[0])["somebody-new"]
    assert told != {""}
    assert told - {""} <= set(read)


def test_an_audience_is_chosen_from_what_people_did_since_the_training(trained: Scenario, readers: list[str]) -> None:
    champion = versions.champion_bundle(trained.layout.models("lorem"))
    assert champion is not None
    item = champion.items["item_id"][int(champion.popular.argmax())]

    def audience(name: str) -> list[tuple[str, str]]:
        trained.drop_request(f'"environment","item_id","audience_size"\n"lorem","{item}",5\n', name)
        (request,) = trained.run_requests("lorem_requests")
        assert trained.campaign(request).success
        return [(row["user_id"], row["device_id"]) for row in csv.DictReader(io.StringIO(trained.fetch(name)))]

    first = audience("lorem_audience_2026-11-22.csv")
    reader = next(person for person in first if person[0])
    ingest(trained, [view(reader[0], item)], "lorem_events_2026-11-25.jsonl")
    second = audience("lorem_audience_2026-11-23.csv")
    assert reader not in second
    assert second[:4] == [person for person in first if person != reader]
