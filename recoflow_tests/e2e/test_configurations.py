"""Configurations that come over HTTP, from the gateway to the response file."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import recoflow
from recoflow.errors import CampaignError
from recoflow_tests.e2e.test_readme import blocks
from recoflow_tests.gateway.client import Running
from recoflow_tests.scenario import Scenario, materializations

NAME = "lorem_weekly_mail_2026-11-22T06:00:00Z.csv"


@pytest.fixture
def gateway(trained: Scenario) -> Iterator[Running]:
    running = Running(trained.layout)
    yield running
    assert running.end() == 0


def put(gateway: Running, **body: object) -> int:
    return gateway.admin.put("/api/lorem/configurations/fresh", json=body).status_code


def test_a_campaign_uses_what_was_registered_when_its_request_came_in(trained: Scenario, gateway: Running) -> None:
    bench = recoflow.open("lorem", trained.layout.root)
    with pytest.raises(CampaignError, match="is not registered"):
        bench.recommend(["somebody"], 5, configuration_id="fresh")

    with pytest.raises(CampaignError, match=r"^users: is one text, not a list of user ids\. Write \['somebody'\]$"):
        bench.recommend("somebody", 5)
    with pytest.raises(CampaignError, match=r"from 1 to 1000\. \(bad_list_size\)$"):
        bench.recommend(["somebody"], 0)

    assert put(gateway, algorithm="newest") == 201
    head = "environment,user_id,list_name,list_size,configuration_id,page_type\n"
    trained.drop_request(f"{head}lorem,somebody,For you,5,fresh,email\nlorem,somebody,For me,5,stale,email\n", NAME)
    (request,) = trained.run_requests("lorem_requests")
    assert trained.campaign(request).success
    text = trained.fetch(NAME)
    newest = [row["item_id"] for row in csv.DictReader(io.StringIO(text))]
    assert bench.recommend(["somebody"], 5, configuration_id="fresh")["item_id"].to_list() == newest
    assert "'stale' is not registered" in trained.fetch(f"{NAME}.errors.csv")

    assert put(gateway, algorithm="popular") == 200
    popular = bench.recommend(["somebody"], 5, configuration_id="fresh")["item_id"].to_list()
    assert len(popular) == len(newest) == 5
    assert popular != newest
    again = trained.campaign(request)
    assert Path(str(materializations(again)["campaign_response"]["path"])).read_text() == text


def test_the_commands_of_the_readme_work(gateway: Running) -> None:
    (commands,) = [block for block in blocks("bash") if "/configurations/" in block]
    assert shutil.which("curl")
    commands = commands.replace("http://127.0.0.1:8080", gateway.url).replace("data/", f"{gateway.layout.root}/")
    script = ["bash", "-ec", commands]
    done = subprocess.run(script, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert re.findall(r'"version":(\d+)', done.stdout) == ["1", "1"]
