"""Requests to forget a person that come over HTTP.

What belongs here: judging the body, and the answer about a request. What does not: HTTP (`app`), where a request waits
(`erasure.erasure_requests`), and carrying it out, which the next ingest does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from recoflow.erasure import erasure_requests
from recoflow.errors import StorageError
from recoflow.formats.fields import BLANK, is_nobody
from recoflow.gateway.bodies import NotJsonError, RefusedBodyError
from recoflow.settings.environment import Environment
from recoflow.storage.paths import Paths

KEYS: Final = ("user_id", "device_id")
_WHAT: Final = 'send {"user_id": "…"}, {"device_id": "…"} or both, and nothing else'


@dataclass(frozen=True)
class NamedSubject:
    """Whom a request names."""

    environment: str
    user_ids: frozenset[str]
    device_ids: frozenset[str]

    def file(self, layout: Paths) -> str:
        """Make the request durable and return its id.

        Raises:
            StorageError: the disk refused, and nobody is going to be forgotten.
        """
        try:
            return erasure_requests.submit(layout, self.environment, self.user_ids, self.device_ids)
        except OSError as error:
            folder = str(layout.inbox(self.environment))
            raise StorageError(folder, f"cannot be written: {error}", "Free or repair the disk") from error


def asked(body: bytes, environment: Environment, _received_at: datetime) -> NamedSubject:
    """Read the body of a request. Nothing is guessed, because nothing of it can be undone.

    Raises:
        NotJsonError, RefusedBodyError
    """
    try:
        value = msgspec.json.decode(body)
        body.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotJsonError(str(error)) from None
    if not isinstance(value, dict) or not value or set(value) - set(KEYS):
        raise RefusedBodyError(f"The request is not understood: {_WHAT}")
    user_id, device_id = (_id(value, key) for key in KEYS)
    return NamedSubject(environment.name, user_id, device_id)


def _id(value: Mapping[str, Any], key: str) -> frozenset[str]:
    if key not in value:
        return frozenset()
    found = value[key]
    if not isinstance(found, str) or not found.strip(BLANK):
        raise RefusedBodyError(f"{key}: is no text, or an empty one; {_WHAT}")
    if is_nobody(found):
        raise RefusedBodyError(f"{key}: '{found}' stands for nobody, so nobody can be forgotten by it")
    return frozenset({found.strip(BLANK)})
