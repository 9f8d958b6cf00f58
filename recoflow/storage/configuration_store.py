"""The register: configurations that came by the API, every version of them, in the lake.

What belongs here: keeping them, telling them apart by time, and an environment that has them. What does not: HTTP
(`gateway`), and what a configuration does (`campaigns`).

Rows are only ever added, each later than all before it, so that what stood at any time can be told. Campaigns do not
ask by time: clocks differ, and what a campaign was answered with is kept beside it (see `campaigns.inputs`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import polars as pl
import pydantic

from recoflow import schema
from recoflow.errors import ConfigurationError, StorageError
from recoflow.settings import yaml_source
from recoflow.settings.environment import Environment
from recoflow.settings.list_configuration import Configuration
from recoflow.storage.lake.lake import ATTEMPTS, CommitConflictError, Lake

TABLE: Final = "configurations"
TRANSACTION: Final = "register"  # every commit carries it, so that of two at once one looks again
LONGEST_ID: Final = 200

_Row = dict[str, Any]  # of schema.CONFIGURATIONS


@dataclass(frozen=True)
class ConfigurationVersion:
    """One version of a registered configuration: the n-th put of its id."""

    configuration_id: str
    version: int
    body: Mapping[str, Any]
    registered_at: datetime


class ConfigurationHistory:
    """All that was ever put and deleted, as of one look at the lake.

    Args:
        rows: of schema.CONFIGURATIONS, ordered by their times.
    """

    def __init__(self, rows: Sequence[_Row]) -> None:
        self.rows = rows

    def standing(self, as_of: datetime | None = None) -> dict[str, ConfigurationVersion]:
        """The newest version of each configuration that was not deleted by then (null: by now), ordered by id."""
        by_id: dict[str, list[_Row]] = {}
        for row in self.rows:
            if as_of is None or row["registered_at"] <= as_of:
                by_id.setdefault(row["configuration_id"], []).append(row)
        return {name: _versions(found)[-1] for name, found in sorted(by_id.items()) if found[-1]["operation"] == "put"}

    def versions(self, configuration_id: str) -> list[ConfigurationVersion]:
        """Every version of a configuration, the first one first, also when it was deleted since."""
        return _versions(row for row in self.rows if row["configuration_id"] == configuration_id)


class ConfigurationStore:
    """The registered configurations of one environment.

    Args:
        lake: of the environment.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def history(self) -> ConfigurationHistory:
        """What is registered now, and was before."""
        return ConfigurationHistory(self._lake.scan(TABLE).collect().sort("registered_at").to_dicts())

    def put(
        self, configuration_id: str, body: Mapping[str, Any], moment: datetime
    ) -> tuple[ConfigurationVersion, bool]:
        """Register a body that was found sound; it is on disk when this returns.

        A put of what stands already changes nothing, so that one whose answer was lost can be sent again.

        Returns:
            What stands now, and whether its id is new or was deleted before.

        Raises:
            StorageError: the lake cannot be written.
        """
        text = msgspec.json.encode(body, order="sorted").decode()

        def decide(rows: Sequence[_Row]) -> _Row | None:
            last = _last(rows, configuration_id)
            return None if last and last["body"] == text else _row(configuration_id, "put", text, moment, rows)

        before, after = self._append(decide)
        return after.versions(configuration_id)[-1], configuration_id not in before.standing()

    def delete(self, configuration_id: str, moment: datetime) -> bool:
        """Take a configuration out of use; its versions stay. False when it does not stand.

        Raises:
            StorageError: the lake cannot be written.
        """

        def decide(rows: Sequence[_Row]) -> _Row | None:
            last = _last(rows, configuration_id)
            return _row(configuration_id, "delete", None, moment, rows) if last and last["operation"] == "put" else None

        before, after = self._append(decide)
        return len(after.rows) > len(before.rows)

    def _append(
        self, decide: Callable[[Sequence[_Row]], _Row | None]
    ) -> tuple[ConfigurationHistory, ConfigurationHistory]:
        """Add the row that is decided on in view of those that there are; the history before and after."""
        for _ in range(ATTEMPTS):
            snapshot = self._lake.ensure(TABLE)
            rows = self._lake.scan(TABLE, snapshot.files).collect().sort("registered_at").to_dicts()
            added = decide(rows)
            if added is None:
                return ConfigurationHistory(rows), ConfigurationHistory(rows)
            staged = [self._lake.stage(TABLE, pl.DataFrame([added], schema=schema.CONFIGURATIONS))]
            try:
                self._lake.commit(snapshot, staged, transactions={TRANSACTION: len(rows) + 1})
            except CommitConflictError:
                self._lake.discard(staged, self._lake.snapshot(TABLE))
            else:
                self._lake.settle(TABLE)
                return ConfigurationHistory(rows), ConfigurationHistory([*rows, added])
        raise StorageError(f"{self._lake.root}/{TABLE}", f"lost {ATTEMPTS} races for a commit", "Try again")


def effective(environment: Environment, history: ConfigurationHistory, as_of: datetime | None = None) -> Environment:
    """The environment with the configurations that were registered by then beside those of its file.

    One that stands in the file is the file's. One that this version of recoflow cannot read any more is left out, so
    that rows which name it are told to register it, and no other row suffers.

    Args:
        environment: as its file has it.
        history: of the environment's register.
        as_of: a time by the writers' clocks; null: what stands now, whatever they say.
    """
    found: dict[str, Configuration] = {}
    for name, entry in history.standing(as_of).items():
        try:
            found[name] = Configuration.model_validate(entry.body)
        except pydantic.ValidationError:
            continue
    campaigns = environment.campaigns
    merged = campaigns.model_copy(update={"configurations": found | campaigns.configurations})
    return environment.model_copy(update={"campaigns": merged})


def check_configuration(environment: Environment, configuration_id: str, body: Mapping[str, Any]) -> None:
    """Judge a configuration as if it stood in the environment's file.

    Raises:
        ConfigurationError: naming the key and the cure.
    """
    if not 1 <= len(configuration_id) <= LONGEST_ID or not configuration_id.isprintable():
        problem = f"is not 1 to {LONGEST_ID} printable characters"
        raise ConfigurationError("configuration_id", problem, "Choose another id")
    if configuration_id != configuration_id.strip():
        raise ConfigurationError("configuration_id", "begins or ends with a space", "Choose another id")
    campaigns = dict(environment.campaigns)
    campaigns["configurations"] = environment.campaigns.configurations | {configuration_id: body}
    try:
        Environment.model_validate(dict(environment) | {"campaigns": campaigns})
    except pydantic.ValidationError as error:
        place, problem, cure = yaml_source.explain_yaml_error(Environment, error, "the gateway's /docs")
        below = place[3:] if place[:3] == ("campaigns", "configurations", configuration_id) else place
        raise ConfigurationError(yaml_source.dotted(below) or configuration_id, problem, cure) from None


def _row(configuration_id: str, operation: str, body: str | None, moment: datetime, rows: Sequence[_Row]) -> _Row:
    """A row that is later than all before it, whatever the clocks of their writers said."""
    latest = max((row["registered_at"] + timedelta(microseconds=1) for row in rows), default=moment)
    return {
        "configuration_id": configuration_id,
        "operation": operation,
        "body": body,
        "registered_at": max(moment, latest),
    }


def _last(rows: Iterable[_Row], configuration_id: str) -> _Row | None:
    found = [row for row in rows if row["configuration_id"] == configuration_id]
    return found[-1] if found else None


def _versions(rows: Iterable[_Row]) -> list[ConfigurationVersion]:
    puts = [row for row in rows if row["operation"] == "put"]
    return [
        ConfigurationVersion(row["configuration_id"], number, msgspec.json.decode(row["body"]), row["registered_at"])
        for number, row in enumerate(puts, 1)
    ]
