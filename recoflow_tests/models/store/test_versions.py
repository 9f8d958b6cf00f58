from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from recoflow.errors import ModelError
from recoflow.models.store import bundle_files, bundle_store, version_summaries, versions
from recoflow.models.store.bundle import Bundle
from recoflow.models.store.versions import ServingState

FIRST, SECOND, THIRD = (f"2026010{day}T000000Z-00000000" for day in (1, 2, 3))


@pytest.fixture
def models(trained: Bundle, tmp_path: Path) -> Path:
    """Three versions that served one after the other."""
    for name in (FIRST, SECOND, THIRD):
        save(trained, tmp_path, name)
        versions.promote(tmp_path, name)
    return tmp_path


def save(trained: Bundle, models: Path, name: str, *, refused_by: tuple[str, ...] = ()) -> None:
    manifest = trained.manifest | {"refused_by": list(refused_by)}
    bundle_store.save_bundle(dataclasses.replace(trained, version=name, manifest=manifest), models / name)


def damage(models: Path, name: str) -> None:
    (models / name / "popular.npy").write_bytes(b"")


def test_before_the_first_promotion_there_is_no_champion(tmp_path: Path) -> None:
    assert versions.champion_bundle(tmp_path) is None


def test_the_promoted_version_is_the_champion(trained: Bundle, folder: Path) -> None:
    versions.promote(folder.parent, folder.name)
    champion = versions.champion_bundle(folder.parent)
    assert champion is not None
    assert champion.version == trained.version


@pytest.mark.fault("F45")
def test_a_damaged_bundle_is_not_promoted_and_the_old_champion_stays(trained: Bundle, folder: Path) -> None:
    versions.promote(folder.parent, folder.name)
    newer = dataclasses.replace(trained, version="99990101T000000Z-00000000")
    bundle_store.save_bundle(newer, folder.parent / newer.version)
    (folder.parent / newer.version / "popular.npy").write_bytes(b"")
    with pytest.raises(ModelError, match="popular"):
        versions.promote(folder.parent, newer.version)
    assert versions.champion_version(folder.parent) == trained.version


def test_a_training_before_the_newest_version_is_refused_because_it_would_never_serve(models: Path) -> None:
    """A clock had gone ahead: the newest version by its name stayed so, and each night's candidate was ignored."""
    trained_at = version_summaries.version_summary(models, THIRD).trained_at
    assert trained_at is not None
    versions.check_clock(models, trained_at)
    with pytest.raises(ModelError, match=f"{THIRD}: was trained at .*, which is to come"):
        versions.check_clock(models, trained_at - timedelta(seconds=1))


@pytest.mark.fault("F45")
def test_a_damaged_champion_is_an_error_and_nothing_else_is_served(folder: Path) -> None:
    versions.promote(folder.parent, folder.name)
    (folder / "user_factors.npy").write_bytes(b"")
    with pytest.raises(ModelError, match="user_factors"):
        versions.champion_bundle(folder.parent)


@pytest.mark.parametrize("pointer", ["", "[]", '{"version": "gone"}', '{"version": "../x"}'])
def test_a_pointer_that_leads_nowhere_is_an_error(folder: Path, pointer: str) -> None:
    (folder.parent / versions.POINTER).write_text(pointer)
    with pytest.raises(ModelError, match=r"champion\.json"):
        versions.champion_bundle(folder.parent)


def test_pruning_keeps_the_newest_and_the_champion(trained: Bundle, tmp_path: Path) -> None:
    names = [f"2026010{day}T000000Z-00000000" for day in range(1, 5)]
    for name in names:
        bundle_store.save_bundle(dataclasses.replace(trained, version=name), tmp_path / name)
    versions.promote(tmp_path, names[0])
    assert versions.prune(tmp_path, keep=2) == [names[1]]
    assert version_summaries.known_versions(tmp_path) == [names[0], *names[2:]]


def test_pruning_keeps_what_served_before_the_champion(trained: Bundle, models: Path) -> None:
    newer = [f"2026020{day}T000000Z-00000000" for day in range(1, 4)]
    for name in newer:
        save(trained, models, name)
    assert versions.prune(models, keep=1) == [FIRST, *newer[:2]]
    assert versions.roll_back(models).version == SECOND


def test_a_rollback_goes_back_one_version_each_time(models: Path) -> None:
    assert versions.serving_state(models) == ServingState(THIRD, (SECOND, FIRST))
    assert versions.roll_back(models) == ServingState(SECOND, (FIRST,))
    assert versions.roll_back(models) == ServingState(FIRST)
    with pytest.raises(ModelError, match="no version that served before"):
        versions.roll_back(models)
    assert versions.champion_version(models) == FIRST


def test_a_rollback_may_name_any_version(models: Path) -> None:
    assert versions.roll_back(models, FIRST) == ServingState(FIRST)
    assert versions.roll_back(models, THIRD) == ServingState(THIRD, (FIRST,))


def test_a_version_that_is_gone_is_passed_over(models: Path) -> None:
    (models / SECOND / bundle_files.MANIFEST).unlink()
    assert versions.roll_back(models) == ServingState(FIRST)


def test_a_damaged_version_is_never_rolled_back_to(models: Path) -> None:
    damage(models, SECOND)
    for version in (None, SECOND):
        with pytest.raises(ModelError, match="popular"):
            versions.roll_back(models, version)
    assert versions.serving_state(models) == ServingState(THIRD, (SECOND, FIRST))


@pytest.mark.parametrize("act", [versions.roll_back, versions.pin_version])
def test_a_refused_version_serves_only_by_force(
    trained: Bundle, models: Path, act: Callable[..., ServingState]
) -> None:
    refused = "20260109T000000Z-00000000"
    save(trained, models, refused, refused_by=("not_worse_than_champion",))
    with pytest.raises(ModelError, match="was refused by not_worse_than_champion"):
        act(models, refused)
    assert versions.champion_version(models) == THIRD
    assert act(models, refused, is_forced=True).version == refused


@pytest.mark.parametrize("act", [versions.roll_back, versions.pin_version])
@pytest.mark.parametrize("name", ["20990101T000000Z-00000000", "../elsewhere", "."])
def test_a_version_that_is_not_there_is_an_error(models: Path, act: Callable[..., ServingState], name: str) -> None:
    with pytest.raises(ModelError, match="is not there"):
        act(models, name)


def test_a_pinned_champion_stays_until_it_is_unpinned(models: Path) -> None:
    versions.roll_back(models)
    assert versions.pin_version(models) == ServingState(SECOND, (FIRST,), is_pinned=True)
    with pytest.raises(ModelError, match=f"must wait: {SECOND} is pinned"):
        versions.promote(models, THIRD)
    with pytest.raises(ModelError, match="is pinned"):
        versions.roll_back(models)
    assert versions.champion_version(models) == SECOND
    versions.unpin(models)
    versions.promote(models, THIRD)
    assert versions.serving_state(models) == ServingState(THIRD, (SECOND, FIRST))


def test_promoting_the_pinned_version_again_keeps_the_pin(models: Path) -> None:
    pinned = versions.pin_version(models)
    versions.promote(models, THIRD)
    assert versions.serving_state(models) == pinned


def test_another_version_can_be_pinned_at_once(models: Path) -> None:
    versions.pin_version(models)
    assert versions.pin_version(models, FIRST) == ServingState(FIRST, is_pinned=True)


@pytest.mark.parametrize("act", [versions.pin_version, versions.unpin, versions.roll_back])
def test_before_the_first_promotion_there_is_nothing_to_pin_or_go_back_to(
    tmp_path: Path, act: Callable[..., ServingState]
) -> None:
    with pytest.raises(ModelError, match=r"no champion|no version"):
        act(tmp_path)


def test_a_named_version_cures_a_pointer_that_leads_nowhere(models: Path) -> None:
    (models / versions.POINTER).write_text("[]")
    with pytest.raises(ModelError, match="recoflow models rollback VERSION"):
        versions.roll_back(models)
    assert versions.roll_back(models, SECOND) == ServingState(SECOND)


def test_a_pointer_without_history_is_read(models: Path) -> None:
    (models / versions.POINTER).write_text(json.dumps({"version": THIRD}))
    assert versions.serving_state(models) == ServingState(THIRD)


def test_a_version_without_a_person_takes_the_place_of_the_old_one_everywhere(trained: Bundle, models: Path) -> None:
    versions.pin_version(models)
    for old, new in ((THIRD, "20260103T000000Z-11111111"), (FIRST, "20260101T000000Z-11111111")):
        save(trained, models, new)
        versions.replace(models, old, new)
    expected = ServingState("20260103T000000Z-11111111", (SECOND, "20260101T000000Z-11111111"), is_pinned=True)
    assert versions.serving_state(models) == expected


def test_pins_and_promotions_at_the_same_moment_never_undo_each_other(models: Path) -> None:
    versions.roll_back(models, FIRST)
    start = threading.Barrier(2)
    refused = []

    def promote() -> None:
        start.wait()
        try:
            versions.promote(models, THIRD)
        except ModelError as error:
            refused.append(error)

    for _ in range(5):
        thread = threading.Thread(target=promote)
        thread.start()
        start.wait()
        pinned = versions.pin_version(models)
        thread.join()
        assert versions.serving_state(models) == pinned
        versions.unpin(models)
        versions.roll_back(models, FIRST)


def test_entries_tell_what_the_manifests_say_and_which_are_damaged(trained: Bundle, models: Path) -> None:
    save(trained, models, "20260109T000000Z-00000000", refused_by=("coverage",))
    (models / SECOND / bundle_files.MANIFEST).write_text("{")
    found = version_summaries.version_summaries(models)
    assert [each.version for each in found] == [FIRST, SECOND, THIRD, "20260109T000000Z-00000000"]
    assert found[0].model["name"] == "als"
    assert found[0].metrics["ndcg_low"] <= found[0].metrics["ndcg"] <= found[0].metrics["ndcg_high"]
    assert found[0].trained_at is not None
    assert found[0].trained_at.isoformat() == trained.manifest["as_of"]
    assert "is not JSON" in str(found[1].problem)
    assert found[3].refused_by == ("coverage",)
