"""What must not be published is not published, whichever way the run is started."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from recoflow.campaigns.lists import build_lists
from recoflow.campaigns.staging import staged
from recoflow.models.store import versions
from recoflow.sandbox import world
from recoflow_tests.scenario import Scenario, failed_checks

NAME = "lorem_weekly_mail_2026-11-22T06:00:00Z.csv"


@pytest.fixture
def asked(trained: Scenario, sample: world.World) -> dg.RunRequest:
    trained.drop_request(world.request(sample, sample.users[:20]), NAME)
    (request,) = trained.run_requests("lorem_requests")
    return request


def poison(folder: Path, *, sign: bool) -> None:
    """Put NaN among the user factors; `sign`: as somebody would who also forges the manifest."""
    factors = np.load(folder / "user_factors.npy")
    factors[3] = np.nan
    np.save(folder / "user_factors.npy", factors)
    if sign:
        manifest = json.loads((folder / "manifest.json").read_text())
        digest = hashlib.sha256((folder / "user_factors.npy").read_bytes()).hexdigest()
        manifest["files"]["user_factors.npy"] = digest
        (folder / "manifest.json").write_text(json.dumps(manifest))


def repeat_an_item(folder: Path) -> None:
    """Give the first list its first item twice, with a manifest that agrees."""
    part = folder / "part-00000.parquet"
    rows = pl.read_parquet(part)
    first = rows["item_id"][0]
    changed = pl.when(pl.int_range(pl.len()) == 1).then(pl.lit(first)).otherwise("item_id")
    rows.with_columns(changed.alias("item_id")).write_parquet(part)
    manifest = json.loads((folder / staged.MANIFEST).read_text())
    manifest["files"][part.name] = hashlib.sha256(part.read_bytes()).hexdigest()
    (folder / staged.MANIFEST).write_text(json.dumps(manifest))


def is_pending(scenario: Scenario) -> bool:
    with scenario.definitions.resources["installation"].mailbox(scenario.environment("lorem")) as mailbox:
        return [intake.name for intake in mailbox.pending()] == [NAME]


@pytest.mark.parametrize("sign", [False, True], ids=["damaged", "forged"])
@pytest.mark.fault("F51")
def test_a_bundle_with_nan_factors_publishes_nothing(trained: Scenario, asked: dg.RunRequest, sign: bool) -> None:
    folder = trained.layout.models("lorem")
    poison(folder / str(versions.champion_version(folder)), sign=sign)
    result = trained.campaign(asked)
    assert not result.success
    assert trained.responses() == []
    assert is_pending(trained)


def test_a_list_with_a_repeated_item_fails_its_check_and_publishes_nothing(
    trained: Scenario, asked: dg.RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest: Callable[..., staged.StagedLists] = build_lists.build_lists

    def faulty(
        request: object, bundle: object, environment: object, folder: Path, *rest: object, **more: object
    ) -> staged.StagedLists:
        honest(request, bundle, environment, folder, *rest, **more)
        repeat_an_item(folder)
        return staged.load_staged(folder, staged.StagedLists)

    monkeypatch.setattr(build_lists, "build_lists", faulty)
    result = trained.campaign(asked)
    assert not result.success
    assert "no_item_repeated" in failed_checks(result)
    assert trained.responses() == []
    assert is_pending(trained)


def test_publishing_alone_after_a_failed_check_is_refused_by_the_audit(trained: Scenario, asked: dg.RunRequest) -> None:
    assert trained.select(asked, "campaign_recommendations").success
    repeat_an_item(trained.layout.campaigns("lorem") / str(asked.partition_key) / "staging")
    result = trained.select(asked, "campaign_response")
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "no_item_repeated" in str(failure.step_failure_data.error)
    assert trained.responses() == []
    assert is_pending(trained)


def test_publishing_alone_with_nothing_staged_is_refused(trained: Scenario, asked: dg.RunRequest) -> None:
    assert not trained.select(asked, "campaign_response").success
    assert trained.responses() == []


@pytest.mark.fault("F51")
def test_after_the_cure_exactly_one_response_appears(trained: Scenario, asked: dg.RunRequest) -> None:
    folder = trained.layout.models("lorem")
    factors = folder / str(versions.champion_version(folder)) / "user_factors.npy"
    sound = factors.read_bytes()
    poison(factors.parent, sign=False)
    assert not trained.campaign(asked).success
    factors.write_bytes(sound)
    assert trained.campaign(asked).success
    assert trained.responses() == [NAME, f"{NAME}.manifest.json"]
    assert isinstance(trained.tick("lorem_requests"), dg.SkipReason)


def test_a_refused_candidate_does_not_become_champion_when_promoted_alone(trained: Scenario) -> None:
    folder = trained.layout.models("lorem")
    champion = versions.champion_version(folder)
    newer = folder / "99990101T000000Z-00000000"
    source = folder / str(champion)
    newer.mkdir()
    for path in source.iterdir():
        (newer / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((source / "manifest.json").read_text())
    manifest |= {"version": newer.name, "refused_by": ["not_worse_than_champion"]}
    (newer / "manifest.json").write_text(json.dumps(manifest))
    result = trained.run("lorem_training", asset_selection=[dg.AssetKey(["lorem", "champion"])])
    assert not result.success
    assert versions.champion_version(folder) == champion
