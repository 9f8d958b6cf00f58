"""The configurations API: what stands in an environment, in its file and in the register, and how that is changed.

What belongs here: bodies and answers as values. What does not: HTTP (`app`), the rules about configurations
(`settings`), and how they are kept (`storage.configuration_store`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from recoflow.errors import ConfigurationError
from recoflow.gateway.bodies import UNDECODABLE, NotJsonError, RefusedBodyError, TooManyError
from recoflow.settings.environment import Environment
from recoflow.settings.list_configuration import Configuration
from recoflow.storage import configuration_store
from recoflow.storage.configuration_store import ConfigurationStore, ConfigurationVersion
from recoflow.storage.lake.lake import Lake

MAX_BYTES: Final = 64 * 1024  # of a body
Body = Mapping[str, Any]  # as it was sent
Shown = dict[str, Any]  # as it is told: openapi's Registered


class UnknownConfigurationError(Exception):
    """There is no such configuration, or it has no such version."""


class FixedConfigurationError(Exception):
    """The configuration stands in the environment's file, which the API does not change."""


def standing(environment: Environment, lake: Lake) -> list[Shown]:
    """Every configuration of an environment, ordered by id."""
    found = {
        name: _registered(environment, entry) for name, entry in ConfigurationStore(lake).history().standing().items()
    }
    own = environment.campaigns.configurations
    found |= {name: _own(environment, name, configuration) for name, configuration in own.items()}
    return [found[name] for name in sorted(found)]


def get(environment: Environment, lake: Lake, configuration_id: str, version: str | None) -> Shown:
    """One configuration as it stands, or one version of what was put.

    Raises:
        RefusedBodyError, UnknownConfigurationError
    """
    if version is not None:
        if not (version.isascii() and version.isdecimal() and len(version) < 10):
            raise RefusedBodyError(f"version is '{version[:20]}', not a number; the first is 1")
        versions = ConfigurationStore(lake).history().versions(configuration_id)
        if not 1 <= int(version) <= len(versions):
            raise UnknownConfigurationError(f"'{configuration_id}' has {len(versions)} versions")
        return _registered(environment, versions[int(version) - 1])
    if configuration_id in environment.campaigns.configurations:
        return _own(environment, configuration_id, environment.campaigns.configurations[configuration_id])
    entry = ConfigurationStore(lake).history().standing().get(configuration_id)
    if entry is None:
        raise UnknownConfigurationError(_unknown(environment, configuration_id))
    return _registered(environment, entry)


def judged(configuration_id: str, body: bytes, environment: Environment, _received_at: datetime) -> Body:
    """Read and judge the body of a PUT.

    Raises:
        NotJsonError, TooManyError, RefusedBodyError, FixedConfigurationError
    """
    if len(body) > MAX_BYTES:
        raise TooManyError(f"{len(body)} bytes are more than a configuration may have, {MAX_BYTES}")
    try:
        decoded = msgspec.json.decode(body)
    except UNDECODABLE as error:
        raise NotJsonError(str(error)) from None
    if not isinstance(decoded, dict):
        raise RefusedBodyError("Configuration contains errors: the body is not a JSON object")
    _check_free(environment, configuration_id)
    try:
        configuration_store.check_configuration(environment, configuration_id, decoded)
    except ConfigurationError as error:
        raise RefusedBodyError(f"Configuration contains errors: {error}") from None
    return decoded


def put(
    environment: Environment, lake: Lake, configuration_id: str, body: Body, moment: datetime
) -> tuple[Shown, bool]:
    """Register a body that was judged; returns what stands now, and whether its id is new.

    Raises:
        StorageError: the disk refused; nothing is registered.
    """
    entry, is_new = ConfigurationStore(lake).put(configuration_id, body, moment)
    return _registered(environment, entry), is_new


def delete(environment: Environment, lake: Lake, configuration_id: str, moment: datetime) -> None:
    """Take a registered configuration out of use.

    Raises:
        FixedConfigurationError, UnknownConfigurationError
        StorageError: the disk refused; it still stands.
    """
    _check_free(environment, configuration_id)
    if not ConfigurationStore(lake).delete(configuration_id, moment):
        raise UnknownConfigurationError(_unknown(environment, configuration_id))


def _check_free(environment: Environment, configuration_id: str) -> None:
    if configuration_id in environment.campaigns.configurations:
        where = f"'{configuration_id}' stands in {environment.name}.yaml"
        raise FixedConfigurationError(f"{where} and is changed there; choose another id for the API")


def _unknown(environment: Environment, configuration_id: str) -> str:
    return f"{environment.name} has no configuration '{configuration_id}'"


def _own(environment: Environment, configuration_id: str, configuration: Configuration) -> Shown:
    return {
        "environment": environment.name,
        "configuration_id": configuration_id,
        "origin": "yaml",
        "version": None,
        "registered_at": None,
        "configuration": configuration.model_dump(mode="json", by_alias=True, exclude_unset=True),
    }


def _registered(environment: Environment, entry: ConfigurationVersion) -> Shown:
    return {
        "environment": environment.name,
        "configuration_id": entry.configuration_id,
        "origin": "api",
        "version": entry.version,
        "registered_at": entry.registered_at,
        "configuration": entry.body,
    }
