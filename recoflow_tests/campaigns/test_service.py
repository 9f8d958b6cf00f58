"""The one way in which campaigns are answered: each step alone, in another process, and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from recoflow.campaigns import campaign_record, freshness, service
from recoflow.campaigns.requests.model import Request
from recoflow.campaigns.service import BuiltCampaign, CampaignService, check_campaigns
from recoflow.campaigns.staging.staged import StagedLists
from recoflow.compute.stage_timer import StageTimer
from recoflow.errors import AuditError, CampaignError, RecoflowError
from recoflow.models.store import bundle_store, versions
from recoflow.models.store.bundle import Bundle
from recoflow.quality.gx_runner import run_checks
from recoflow.storage import atomic_files
from recoflow.storage.lake.lake import Lake
from recoflow.storage.paths import Paths
from recoflow_tests.campaigns.conftest import make_environment

HEAD = "environment,user_id,device_id,list_name,list_size,page_type\n"
RECEIVED = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def made(tmp_path: Path, newsroom: Bundle) -> SimpleNamespace:
    """An installation with two versions of a model, the first in service, and makers of services and campaigns."""
    paths, faults = Paths(tmp_path), list[RecoflowError]()
    models = paths.models("lorem")
    tables = {"tables": dict.fromkeys(freshness.TABLES)}
    for version in ("v1", "v2"):
        bundle = replace(newsroom, version=version, manifest=newsroom.manifest | tables)
        bundle_store.save_bundle(bundle, models / version)
    versions.promote(models, "v1")

    def drop(rows: str, name: str = "lorem_mail_2026-03-01.csv", head: str = HEAD) -> str:
        path = tmp_path / name
        path.write_text(head + rows)
        record = campaign_record.open_record(
            paths.campaigns("lorem"),
            "lorem",
            path,
            name=name,
            sha256=atomic_files.sha256(path),
            revision=1,
            received_at=RECEIVED,
        )
        return record.key

    def start(**campaigns: object) -> CampaignService:
        return CampaignService(make_environment(**campaigns), paths, Lake(paths.lake("lorem")), faults.append)

    return SimpleNamespace(start=start, drop=drop, models=models, faults=faults, folder=paths.campaigns("lorem"))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The versions that were loaded and verified, in order."""
    loaded: list[str] = []
    honest: Callable[[Path], Bundle] = bundle_store.load_bundle

    def counted(folder: Path) -> Bundle:
        loaded.append(folder.name)
        return honest(folder)

    for module in (bundle_store, service):
        monkeypatch.setattr(module, "load_bundle", counted)
    return loaded


def items(built: BuiltCampaign) -> list[str]:
    assert isinstance(built.answer, StagedLists)
    return pl.read_parquet(list(built.answer.parts))["item_id"].to_list()


def answered(served: CampaignService, key: str) -> BuiltCampaign:
    return served.build(served.prepare(key, StageTimer()), StageTimer())


def test_a_campaign_loads_its_model_once_and_reads_its_request_once(made: SimpleNamespace, loads: list[str]) -> None:
    served, key, watch = made.start(), made.drop("lorem,sport,,Top,2,home\n"), StageTimer()
    served.prepare(key, watch)
    (made.folder.parent.parent / "lorem_mail_2026-03-01.csv").unlink()  # later steps do not look at it
    built = served.build(served.prepared(key, watch), watch)
    rendered = served.render(key, watch)
    assert items(built) == ["b", "c"]
    assert rendered.files[-1][0].read_text().count("\n") == 3
    assert loads == ["v1"]


def test_each_step_can_be_taken_by_another_process(made: SimpleNamespace) -> None:
    key = made.drop("lorem,sport,,Top,2,home\nlorem,,,Top,2,home\n")
    made.start().prepare(key, StageTimer())
    other = made.start()
    other.build(other.prepared(key, StageTimer()), StageTimer())
    files = made.start().render(key, StageTimer()).files
    assert [name for _, name in files] == [
        "lorem_mail_2026-03-01.csv.errors.csv",
        "lorem_mail_2026-03-01.csv.manifest.json",
        "lorem_mail_2026-03-01.csv",
    ]


def test_steps_that_are_taken_again_give_the_same_bytes(made: SimpleNamespace) -> None:
    key = made.drop("lorem,sport,,Top,2,home\nlorem,politics,,Top,3,home\n")
    contents = []
    for _ in range(2):
        served = made.start()
        answered(served, key)
        contents.append([path.read_bytes() for path, _ in served.render(key, StageTimer()).files])
    assert contents[0] == contents[1]


def test_a_request_that_was_prepared_for_another_model_is_prepared_again(made: SimpleNamespace) -> None:
    key = made.drop("lorem,sport,,Top,2,home\n")
    assert made.start().prepare(key, StageTimer()).inputs.model_version == "v1"
    versions.promote(made.models, "v2")
    served = made.start()
    prepared = served.prepared(key, StageTimer())
    assert prepared.inputs.model_version == "v2"
    built = served.build(prepared, StageTimer())
    assert isinstance(built.answer, StagedLists)
    assert built.answer.model_version == "v2"


def test_all_campaigns_of_a_service_are_answered_from_what_was_in_service_at_the_first(made: SimpleNamespace) -> None:
    served = made.start()
    first = served.prepare(made.drop("lorem,sport,,Top,2,home\n"), StageTimer())
    versions.promote(made.models, "v2")
    second = served.prepare(made.drop("lorem,sport,,Top,2,home\n", "lorem_other_2026-03-01.csv"), StageTimer())
    assert first.inputs == second.inputs


def test_a_damaged_champion_is_reported_and_the_version_before_it_answers(made: SimpleNamespace) -> None:
    versions.promote(made.models, "v2")
    (made.models / "v2" / "popular.npy").write_bytes(b"")
    built = answered(made.start(), made.drop("lorem,sport,,Top,2,home\n"))
    assert isinstance(built.answer, StagedLists)
    assert built.answer.model_version == "v1"
    (fault,) = made.faults
    assert "v1 serves meanwhile" in str(fault)


def test_a_rejected_request_is_answered_with_its_errors_alone(made: SimpleNamespace) -> None:
    served, key = made.start(), made.drop("sport\n", head="user_id\n")
    built = answered(served, key)
    assert isinstance(built.answer, Request)
    findings = check_campaigns({key: built}, run_checks)[key]
    assert {finding.message.split(":")[0] for finding in findings} == {"not applicable"}
    assert [name for _, name in served.render(key, StageTimer()).files] == [
        "lorem_mail_2026-03-01.csv.manifest.json",
        "lorem_mail_2026-03-01.csv.errors.csv",
    ]


@pytest.mark.slow
def test_audiences_go_the_same_way(made: SimpleNamespace) -> None:
    served = made.start()
    key = made.drop("lorem,fans,b,2\n", head="environment,audience_name,item_id,audience_size\n")
    built = answered(served, key)
    assert all(finding.passed for finding in check_campaigns({key: built}, run_checks)[key])
    assert served.render(key, StageTimer()).files[-1][0].read_text().count("\n") == 3


def test_what_was_changed_after_it_was_built_is_not_rendered(made: SimpleNamespace) -> None:
    served, key = made.start(), made.drop("lorem,sport,,Top,2,home\n")
    built = answered(served, key)
    assert isinstance(built.answer, StagedLists)
    built.answer.parts[0].write_bytes(b"")
    with pytest.raises(AuditError, match="files_unchanged"):
        served.render(key, StageTimer())


def test_a_step_without_the_one_before_it_says_what_is_missing(made: SimpleNamespace) -> None:
    key = made.drop("lorem,sport,,Top,2,home\n")
    with pytest.raises(CampaignError, match="nothing was staged"):
        made.start().render(key, StageTimer())
    with pytest.raises(CampaignError, match="Drop the request file again"):
        made.start().prepare("no-such-campaign", StageTimer())
