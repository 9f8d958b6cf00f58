"""The versions of an environment's model: which are there, which one serves, which served before, which may go.

What belongs here: the pointer and the folder of versions. What does not: a bundle's files (see `bundle`), the decision
to promote (see `promotion_gate`).

    <models>/champion.json    {"version": …, "before": [… the last one first], "is_pinned": …}, replaced atomically

Who changes the pointer holds a lock, so that a pin and a promotion at the same moment never undo each other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from recoflow.errors import ModelError
from recoflow.models.store import bundle_store
from recoflow.models.store.bundle import Bundle
from recoflow.models.store.version_summaries import known_versions, version_summary
from recoflow.storage import atomic_files

POINTER: Final = "champion.json"
LOCK: Final = ".champion.lock"
AGAIN = "Put a version in service: `recoflow models rollback VERSION`; `recoflow models list` shows them"


@dataclass(frozen=True)
class ServingState:
    """Which version serves.

    Attributes:
        version: the champion.
        before: versions that served before it, the last one first; a rollback takes them from here.
        is_pinned: no training replaces the champion.
    """

    version: str
    before: tuple[str, ...] = ()
    is_pinned: bool = False


def promote(models: Path, version: str) -> Bundle:
    """Make `version` the champion, after reading it whole, and return it.

    Raises:
        ModelError: when the bundle is missing or damaged, or another version is pinned; the old champion stays.
    """
    promoted = bundle_store.load_bundle(models / version)
    with _changing(models):
        service = serving_state(models)
        if service is not None and service.is_pinned and service.version != version:
            raise ModelError(f"model version {version}", f"must wait: {service.version} is pinned", "Unpin it first")
        _write(models, _after(models, service, version))
    return promoted


def roll_back(models: Path, version: str | None = None, *, is_forced: bool = False) -> ServingState:
    """Put the version that served before the champion, or the one that is named, in service.

    A second rollback goes one further back. A named version cures a pointer that cannot be read.

    Args:
        models: the folder of versions.
        version: any that is there.
        is_forced: serve it though its own checks refused it.

    Raises:
        ModelError: when there is none, it is damaged or was refused, or the champion is pinned; the champion stays.
    """
    with _changing(models):
        service = _read(models) if version is None else _readable(models)
        if service is not None and service.is_pinned and service.version != version:
            raise ModelError(f"model version {service.version}", "is pinned", "Unpin it first: `recoflow models unpin`")
        wanted = version or _predecessor(models, service)
        _verify(models, wanted, is_forced=is_forced)
        return _write(models, _after(models, service, wanted))


def pin_version(models: Path, version: str | None = None, *, is_forced: bool = False) -> ServingState:
    """Keep the champion in service, or put the named version in service and keep it: candidates of trainings wait.

    Raises:
        ModelError: when there is no champion, or the named version is damaged or was refused; nothing changes.
    """
    with _changing(models):
        service = serving_state(models) if version is None else _readable(models)
        wanted = version or _champion_of(models, service).version
        _verify(models, wanted, is_forced=is_forced)
        return _write(models, dataclasses.replace(_after(models, service, wanted), is_pinned=True))


def unpin(models: Path) -> ServingState:
    """Let the next training that passes its checks replace the champion again.

    Raises:
        ModelError: when there is no champion, or its pointer is damaged.
    """
    with _changing(models):
        return _write(models, dataclasses.replace(_champion_of(models, serving_state(models)), is_pinned=False))


def replace(models: Path, old: str, new: str) -> None:
    """Let `new`, which is read whole, take the place of `old` wherever the pointer names it.

    Raises:
        ModelError: when the pointer or the new bundle is damaged; nothing changes.
    """
    with _changing(models):
        service = _read(models)
        if service is not None and old in (service.version, *service.before):
            bundle_store.load_bundle(models / new)
            version, *before = (new if each == old else each for each in (service.version, *service.before))
            _write(models, dataclasses.replace(service, version=version, before=tuple(before)))


def serving_state(models: Path) -> ServingState | None:
    """The version in service with what served before it, or None before the first promotion.

    Raises:
        ModelError: when the pointer is unreadable, or its version is not there.
    """
    service = _read(models)
    if service is not None and service.version not in known_versions(models):
        raise ModelError(str(models / POINTER), f"names version {service.version!r}, which is not there", AGAIN)
    return service


def champion_version(models: Path) -> str | None:
    """The version in service, or None before the first promotion.

    Raises:
        ModelError: when the pointer is unreadable, or its version is not there.
    """
    service = serving_state(models)
    return None if service is None else service.version


def champion_bundle(models: Path) -> Bundle | None:
    """The bundle in service, or None before the first promotion.

    Raises:
        ModelError: when the pointer or the bundle is damaged; `serving` returns what answers campaigns then.
    """
    version = champion_version(models)
    return None if version is None else bundle_store.load_bundle(models / version)


def is_serving(models: Path) -> bool:
    """Whether a version was put in service; its files may be damaged.

    Raises:
        ModelError: when the pointer is unreadable.
    """
    return _read(models) is not None


def serving_bundle(models: Path) -> tuple[Bundle, ModelError | None] | None:
    """The bundle that answers campaigns: the champion, else the last sound one of those that served before it.

    Returns it with what is wrong with the champion (None when nothing is), or None before the first promotion.

    Raises:
        ModelError: when the pointer is unreadable, or none of these is sound; then of the champion.
    """
    service = _read(models)
    if service is None:
        return None
    fault: ModelError | None = None
    for version in (service.version, *service.before):
        try:
            return bundle_store.load_bundle(models / version), fault
        except ModelError as error:
            fault = fault or error
    assert fault is not None
    raise fault


def check_clock(models: Path, moment: datetime) -> None:
    """Refuse a training at a time before that of the newest version: its own would never be the newest.

    Raises:
        ModelError: naming the version of a clock that went ahead.
    """
    for newest in known_versions(models)[-1:]:
        trained_at = version_summary(models, newest).trained_at
        if trained_at is not None and trained_at > moment:
            problem = f"was trained at {trained_at:%Y-%m-%d %H:%M} UTC, which is to come: a clock is wrong, or was"
            cure = "Mend the clock, or put another in service, `recoflow models rollback`, and remove its folder"
            raise ModelError(f"model version {newest}", problem, cure)


def prune(models: Path, keep: int) -> list[str]:
    """Delete all but the newest `keep` versions, the champion and the one before it; returns the versions that went."""
    with _changing(models):
        service = serving_state(models)
        kept = set() if service is None else {service.version, *_there(models, service.before)[:1]}
        gone = [version for version in known_versions(models)[:-keep] if version not in kept]
        for version in gone:
            doomed = models / f".{version}.{os.getpid()}.doomed"
            (models / version).rename(doomed)
            shutil.rmtree(doomed)
    return gone


@contextlib.contextmanager
def _changing(models: Path) -> Iterator[None]:
    models.mkdir(parents=True, exist_ok=True)
    with (models / LOCK).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(models: Path) -> ServingState | None:
    path = models / POINTER
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version, before, is_pinned = found["version"], found.get("before", []), found.get("is_pinned", False)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(str(path), "is not a pointer to a version", AGAIN) from None
    if not all(isinstance(each, str) for each in (version, *before)) or not isinstance(is_pinned, bool):
        raise ModelError(str(path), "is not a pointer to a version", AGAIN)
    return ServingState(version, tuple(before), is_pinned)


def _write(models: Path, service: ServingState) -> ServingState:
    text = json.dumps(dataclasses.asdict(service)) + "\n"
    atomic_files.write_atomic(models / POINTER, text.encode())
    return service


def _after(models: Path, service: ServingState | None, version: str) -> ServingState:
    """The service once `version` is put in: what came after it is no longer before it."""
    if service is None or service.version == version:
        return service or ServingState(version)
    before = _there(models, (service.version, *service.before))
    return ServingState(version, before[before.index(version) + 1 :] if version in before else before)


def _there(models: Path, named: tuple[str, ...]) -> tuple[str, ...]:
    there = set(known_versions(models))
    return tuple(version for version in named if version in there)


def _predecessor(models: Path, service: ServingState | None) -> str:
    before = () if service is None else _there(models, service.before)
    if not before:
        raise ModelError(str(models), "has no version that served before", "Name one: `recoflow models list`")
    return before[0]


def _champion_of(models: Path, service: ServingState | None) -> ServingState:
    if service is None:
        raise ModelError(str(models), "has no champion", "Materialize factors and champion first")
    return service


def _readable(models: Path) -> ServingState | None:
    try:
        return _read(models)
    except ModelError:
        return None


def _verify(models: Path, version: str, *, is_forced: bool) -> None:
    if version not in known_versions(models):
        raise ModelError(f"model version {version}", "is not there", "`recoflow models list` shows those that are")
    refused_by = bundle_store.load_bundle(models / version).manifest["refused_by"]
    if refused_by and not is_forced:
        problem = f"was refused by {', '.join(refused_by)}"
        raise ModelError(f"model version {version}", problem, "--force puts it in service all the same")
