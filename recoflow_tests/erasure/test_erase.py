from __future__ import annotations

import gzip
import json
import shutil
from datetime import timedelta

import duckdb
import pytest
from typer.testing import CliRunner

from recoflow.cli import app
from recoflow.erasure import remaining_mentions
from recoflow.erasure import request_file as requests
from recoflow.erasure.erase import erase
from recoflow.erasure.subject import ErasureSubject
from recoflow.errors import ConfigurationError, ModelError
from recoflow.ingest.run import ingest_file
from recoflow.models.store import version_summaries, versions
from recoflow.storage import spool
from recoflow.storage.spool import SpoolWriter
from recoflow_tests.erasure.conftest import ANN, NOW, OTHERS, PHONE, TABLET, Installed, event, lines, train

WHOLE = ErasureSubject(frozenset({ANN}), frozenset({PHONE}))


def damaged(person: dict[str, str]) -> bytes:
    return gzip.compress(lines([event(person, item, 1) for item in range(9)]).encode())[:-9]


def mentions(made: Installed, text: str) -> list[str]:
    """Files that hold the text somewhere in their bytes: what `search` finds in uncompressed ones, told another way."""
    files = [path for path in made.layout.root.rglob("*") if path.is_file()]
    return [
        str(path)
        for path in files
        if text.encode() in path.read_bytes() or text.encode("utf-32-le") in path.read_bytes()
    ]


def test_a_person_leaves_every_place_and_the_search_proves_it(made):
    found = remaining_mentions.search_mentions([made.layout.root], WHOLE)[1]
    places = {path.relative_to(made.layout.root).parts[0] for path in found}
    assert places == {"lake", "models", "campaigns", "inbox", "mailbox", "spool", "warehouse.duckdb"}
    assert remaining_mentions.in_warehouse(made.layout.warehouse, "lorem", WHOLE)

    report = erase(made.layout, made.environment, made.lakes, user_ids=[ANN])

    assert report.is_forgotten
    assert report.files_searched > 20
    assert remaining_mentions.search_mentions([made.layout.root], WHOLE)[1] == []
    assert not remaining_mentions.in_warehouse(made.layout.warehouse, "lorem", WHOLE)
    assert mentions(made, ANN) == mentions(made, PHONE) == []
    assert ANN not in json.dumps(report.as_json())
    counts = {(each.place, each.what): each.count for each in report.removals}
    assert counts["lake/quarantine", "rows"] == 1
    assert counts["lake/responses", "rows"] == 1
    assert counts["spool", "records"] == 1
    assert counts["models", "versions"] == 1
    assert counts["campaigns/staging", "folders"] == 1


def test_what_a_device_did_before_the_log_in_goes_with_its_only_user_and_ambiguous_events_go_too(made):
    report = erase(made.layout, made.environment, made.lakes, user_ids=[ANN])
    assert (report.user_ids, report.device_ids) == (1, 1)
    events = made.rows("events")
    assert events.filter(device_id=PHONE).is_empty()
    left = events.filter(device_id=TABLET)
    assert left["user_id"].to_list() == [OTHERS[0]]  # the anonymous one could have been Ann's
    friends = events.filter(user_id=OTHERS[1])  # one of them has a referrer that named Ann
    assert friends.height == 9
    assert friends["referrer"].drop_nulls().to_list() == ["https://x.example/?friend="]


def test_everybody_else_stays(made):
    names = ("items", "ingests")
    before = {name: made.rows(name) for name in names}
    interactions = made.rows("interactions")
    erase(made.layout, made.environment, made.lakes, user_ids=[ANN])
    for name in names:
        assert made.rows(name).equals(before[name])
    assert made.rows("interactions").equals(interactions.filter(interactions["subject"] != f"u:{ANN}"))
    assert made.rows("responses")["user_id"].to_list() == [OTHERS[0]]
    (segment,) = made.layout.spool("lorem").glob("*.jsonl")
    assert json.loads(segment.read_text().strip())["user_id"] == OTHERS[2]
    assert segment.read_text().endswith("}\n\n")
    assert (made.layout.mailbox("lorem") / "inbox/0123456789abcdef").read_text().splitlines() == [
        '"environment","user_id","device_id"',
        f'"lorem","{OTHERS[0]}",""',
    ]
    response = made.layout.campaigns("lorem") / "lorem_weekly-1/response"
    assert response.read_text() == f'"user_id","item_id"\n"{OTHERS[0]}","article\n-2"\n'
    with duckdb.connect(str(made.layout.warehouse), read_only=True) as connection:
        assert connection.sql("SELECT count(*) FROM lorem.interactions").fetchall() == [(interactions.height - 6,)]


def test_the_champion_is_followed_by_itself_without_the_person(made):
    models = made.layout.models("lorem")
    old = versions.champion_bundle(models)
    assert f"u:{ANN}" in old.subjects
    train(made, NOW + timedelta(hours=1))  # a newer version, which serves now
    erase(made.layout, made.environment, made.lakes, user_ids=[ANN])
    assert old.version not in version_summaries.known_versions(models)
    assert len(version_summaries.known_versions(models)) == 2
    new = versions.champion_bundle(models)
    assert new.version == version_summaries.known_versions(models)[-1]
    assert new.version.split("-")[0] == "20260301T130000Z"
    assert f"u:{ANN}" not in new.subjects
    assert PHONE not in new.devices["device_id"]
    assert len(new.subjects) == len(old.subjects) - 1
    row, was = new.subjects.tolist().index(f"u:{OTHERS[5]}"), old.subjects.tolist().index(f"u:{OTHERS[5]}")
    assert (new.user_factors[row] == old.user_factors[was]).all()
    seen = new.seen_indices[new.seen_indptr[row] : new.seen_indptr[row + 1]]
    assert (seen == old.seen_indices[old.seen_indptr[was] : old.seen_indptr[was + 1]]).all()


def test_a_device_alone_can_be_forgotten(made):
    before = made.rows("events")
    report = erase(made.layout, made.environment, made.lakes, device_ids=[TABLET])
    assert report.is_forgotten
    assert mentions(made, TABLET) == []
    assert made.rows("events").height == before.height - 3
    assert made.rows("events").filter(user_id=ANN).height == 5


def test_forgetting_twice_changes_nothing_more(made):
    erase(made.layout, made.environment, made.lakes, user_ids=[ANN])
    bundle, events = versions.champion_version(made.layout.models("lorem")), made.rows("events")
    again = erase(made.layout, made.environment, made.lakes, user_ids=[ANN])
    assert again.is_forgotten
    assert {each.count for each in again.removals if each.place != "warehouse"} == {0}
    assert versions.champion_version(made.layout.models("lorem")) == bundle
    assert made.rows("events").equals(events)


def test_a_known_file_stays_known_and_new_events_come_in(made, tmp_path):
    dump = made.layout.inbox("lorem") / "ingested/lorem_events_2026-02-28.jsonl"
    original = tmp_path / dump.name
    shutil.copy(dump, original)
    erase(made.layout, made.environment, made.lakes, user_ids=[ANN])
    assert ingest_file(original, made.environment, made.lake, NOW).was_known
    made.ingest("new.jsonl", lines([event({"user_id": "zoe-1234"}, 1, 1)]))
    assert made.rows("events").filter(user_id="zoe-1234").height == 1


def test_what_cannot_be_cleared_yet_is_told(made):
    waiting = made.layout.inbox("lorem") / "waiting.json.gz"
    waiting.write_bytes(damaged({"user_id": ANN}))
    report = erase(made.layout, made.environment, made.lakes, user_ids=[ANN])
    assert report.remaining == ("inbox/lorem/waiting.json.gz",)
    refused = waiting.parent / "rejected" / waiting.name
    refused.parent.mkdir()
    waiting.rename(refused)
    assert erase(made.layout, made.environment, made.lakes, user_ids=[ANN]).is_forgotten
    assert not refused.exists()


def test_a_segment_that_is_still_written_to_is_told(made):
    with_ann = lines([event({"user_id": ANN}, 1, 1)]).encode()
    writer = SpoolWriter(made.layout.spool("lorem"), "events", 10**6)
    writer.append([with_ann], NOW)
    report = erase(made.layout, made.environment, made.lakes, user_ids=[ANN])
    (remaining,) = report.remaining
    assert remaining.endswith(".jsonl.open")
    writer.seal()
    assert erase(made.layout, made.environment, made.lakes, user_ids=[ANN]).is_forgotten


def test_a_run_that_was_cut_off_is_completed_by_the_next_with_the_same_request(made):
    request = made.layout.inbox("lorem") / "lorem_forget.csv"
    request.write_text(f"user_id\n{ANN}\n")
    models = made.layout.models("lorem")
    factors = models / versions.champion_version(models) / "user_factors.npy"
    whole = factors.read_bytes()
    factors.write_bytes(whole[:-4])
    with pytest.raises(ModelError, match="differs from the sha256"):
        erase(made.layout, made.environment, made.lakes, user_ids=[ANN], request=request)
    assert ANN in request.read_text()
    factors.write_bytes(whole)
    report = erase(made.layout, made.environment, made.lakes, user_ids=[ANN], request=request)
    assert report.is_forgotten
    assert report.device_ids == 1
    assert request.read_text() == "user_id\n"


@pytest.mark.parametrize("ids", [{}, {"user_ids": [""]}])
def test_nobody_cannot_be_forgotten(made, ids):
    with pytest.raises(ConfigurationError, match="has no id"):
        erase(made.layout, made.environment, made.lakes, **ids)


@pytest.mark.parametrize("nobody", ["null", " Anonymous ", "undefined"])
def test_an_id_that_stands_for_nobody_takes_nothing_from_others(made, nobody):
    writer = SpoolWriter(made.layout.spool("lorem"), "events", 10**6)
    writer.append([lines([event({"user_id": OTHERS[3]}, 1, 1, referrer=None, channel="anonymous")]).encode()], NOW)
    writer.seal()
    before = [path.read_bytes() for path in spool.sealed(made.layout.spool("lorem"))]
    with pytest.raises(ConfigurationError, match="stands for nobody"):
        erase(made.layout, made.environment, made.lakes, user_ids=[nobody], device_ids=[PHONE])
    assert [path.read_bytes() for path in spool.sealed(made.layout.spool("lorem"))] == before


def test_blanks_around_an_id_hide_nobody(made):
    request = made.layout.inbox("lorem") / "lorem_forget.csv"
    request.write_text(f'user_id,device_id\n" {ANN}\t", \n')
    users, devices = requests.read_request_file(request, request.name)
    report = erase(made.layout, made.environment, made.lakes, user_ids=users, device_ids=devices, request=request)
    assert report.is_forgotten
    assert made.rows("events").filter(user_id=ANN).is_empty()
    assert request.read_text() == "user_id,device_id\n"


def test_the_command_reports_as_json_and_exits_by_the_proof(made):
    made.layout.environments.mkdir()
    (made.layout.environments / "lorem.yaml").write_text(
        "name: lorem\nsftp: {username: lorem, private_key: key, known_hosts: hosts}\n"
    )
    arguments = ["forget", "-e", "lorem", "--user-id", ANN, "--data", str(made.layout.root), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert report["is_forgotten"]
    assert report["remaining"] == []
    (made.layout.inbox("lorem") / "waiting.json.gz").write_bytes(damaged({"user_id": ANN}))
    told = CliRunner().invoke(app, arguments[:-1])
    assert told.exit_code == 1
    assert "1 still mention the person" in told.stdout
    assert "inbox/lorem/waiting.json.gz" in told.stdout
    (asked,) = made.layout.inbox("lorem").glob("lorem_forget_*.csv")  # the next ingest repeats it
    assert requests.read_request_file(asked, asked.name) == (frozenset({ANN}), frozenset())


@pytest.mark.fault("M16")
def test_a_link_in_the_inbox_is_neither_read_nor_replaced_by_what_it_points_to(made, tmp_path):
    secret = tmp_path / "secret.jsonl"
    secret.write_text(lines([event({"user_id": ANN}, "article-1", 1), event({"user_id": "another"}, "article-1", 1)]))
    before = secret.read_text()
    link = made.layout.inbox("lorem") / "linked_events.jsonl"
    link.symlink_to(secret)

    report = erase(made.layout, made.environment, made.lakes, user_ids=[ANN])

    assert report.is_forgotten
    assert link.is_symlink()
    assert secret.read_text() == before


@pytest.mark.fault("C1", "M15")
def test_what_a_killed_ingest_left_half_written_is_named_and_stops_no_erasure(made):
    left = made.layout.lake("lorem") / "quarantine" / "part-left.parquet"
    left.write_bytes(b"PAR1" + b"x" * 100)

    assert erase(made.layout, made.environment, made.lakes, user_ids=[ANN]).remaining == (
        "lake/lorem/quarantine/part-left.parquet",
    )
    left.unlink()
    assert erase(made.layout, made.environment, made.lakes, user_ids=[ANN]).is_forgotten
