"""Bearer tokens: which environment each belongs to. Secrets are kept as digests and never shown.

What an environment takes without a token is decided in `access`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path

from recoflow.errors import ConfigurationError
from recoflow.settings.environment import Environment
from recoflow.storage.paths import Paths


class TokenAccess(Enum):
    """Whether a token opens an environment."""

    GRANTED = "granted"
    UNKNOWN = "unknown"  # no token, or nobody's
    FOREIGN = "foreign"  # another environment's


class Tokens:
    """The tokens of all environments.

    Args:
        environments: their `gateway` sections name files and variables with tokens. One that names none is open: it
            has the token that `local_tokens` made, where there is one, and takes something without a token too.
        layout: the data folder, which relative paths start from.
        variables: the process's variables.

    Raises:
        ConfigurationError: a token is missing, empty, or belongs to two environments.
    """

    def __init__(self, environments: Iterable[Environment], layout: Paths, variables: Mapping[str, str]) -> None:
        self._owners: dict[bytes, str] = {}
        for environment in environments:
            section, files = environment.gateway, [layout.root / path for path in environment.gateway.token_files]
            if section.is_open:
                files = [path for path in (layout.token(environment.name),) if path.exists()]
            places = [(str(path), _content(path)) for path in files]
            places += [(f"variable {name}", variables.get(name, "")) for name in section.token_variables]
            for place, token in places:
                self._add(environment.name, place, token.strip())

    def access(self, environment: str, token: str | None) -> TokenAccess:
        """What a token, or none, is worth at an environment."""
        digest = _digest(token or "")
        found = [owner for known, owner in self._owners.items() if hmac.compare_digest(known, digest)]
        if not found:
            return TokenAccess.UNKNOWN
        return TokenAccess.GRANTED if found[0] == environment else TokenAccess.FOREIGN

    def _add(self, environment: str, place: str, token: str) -> None:
        if not token:
            raise ConfigurationError(place, f"holds no token for {environment}", "Put one there, or stop naming it")
        if self._owners.setdefault(_digest(token), environment) != environment:
            raise ConfigurationError(
                place, f"is a token of two environments, one of them {environment}", "Give each its own"
            )


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(str(path), f"cannot be read: {error}", "Write the token into this file") from None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
