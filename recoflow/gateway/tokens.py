"""Bearer tokens: who may send to which environment.

What belongs here: reading the secrets that the environments point to, and comparing. Secrets are kept as digests and
never shown. What does not: HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path

from recoflow.environment import Environment
from recoflow.errors import ConfigurationError


class Access(Enum):
    """Whether a token opens an environment."""

    GRANTED = "granted"
    UNKNOWN = "unknown"  # no token, or nobody's
    FOREIGN = "foreign"  # another environment's


class Tokens:
    """The tokens of all environments; one that names none is open to everybody who reaches the port.

    Args:
        environments: their `gateway` sections tell where tokens lie.
        folder: the data folder, which relative paths start from.
        variables: the process's variables.

    Raises:
        ConfigurationError: a token is missing, empty, or belongs to two environments.
    """

    def __init__(self, environments: Iterable[Environment], folder: Path, variables: Mapping[str, str]) -> None:
        self._owners: dict[bytes, str] = {}
        self._guarded: set[str] = set()
        for environment in environments:
            section = environment.gateway
            places = [(str(folder / path), _content(folder / path)) for path in section.token_files]
            places += [(f"variable {name}", variables.get(name, "")) for name in section.token_variables]
            for place, token in places:
                self._add(environment.name, place, token.strip())

    def is_open(self, environment: str) -> bool:
        """Whether an environment has no token."""
        return environment not in self._guarded

    def access(self, environment: str, token: str | None) -> Access:
        """What a token, or none, is worth at an environment."""
        if self.is_open(environment):
            return Access.GRANTED
        digest = _digest(token or "")
        found = [owner for known, owner in self._owners.items() if hmac.compare_digest(known, digest)]
        if not found:
            return Access.UNKNOWN
        return Access.GRANTED if found[0] == environment else Access.FOREIGN

    def _add(self, environment: str, place: str, token: str) -> None:
        if not token:
            raise ConfigurationError(place, f"holds no token for {environment}", "Put one there, or stop naming it")
        if self._owners.setdefault(_digest(token), environment) != environment:
            raise ConfigurationError(
                place, f"is a token of two environments, one of them {environment}", "Give each its own"
            )
        self._guarded.add(environment)


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(str(path), f"cannot be read: {error}", "Write the token into this file") from None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
