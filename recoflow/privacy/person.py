"""A person: the ids that stand for one, and how they are recognized in tables, in records and in plain bytes.

What belongs here: what counts as a mention of a person. What does not: removing it.

An id of fewer than `SHORT` characters ("42") cannot be told from other numbers in text. It is recognized only where a
key or a column says that it is a person's; a longer one wherever it stands between other characters than those of ids.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import duckdb

from recoflow.errors import ConfigurationError
from recoflow.interactions.identity import RESOLVE
from recoflow.sources.fields import BLANK, is_nobody
from recoflow.storage import sql

SHORT: Final = 4
KEYS: Final = ("user_id", "device_id", "user", "device", "session", "session_id")
_OF_IDS: Final = "[A-Za-z0-9_-]"


@dataclass(frozen=True)
class Person:
    """Ids of one person, or of several who are forgotten together.

    Args:
        user_ids: of log-ins.
        device_ids: of devices that nobody else was seen on.
        shared_ids: devices of the users that others were seen on too: what is theirs alone stays.
    """

    user_ids: frozenset[str]
    device_ids: frozenset[str]
    shared_ids: frozenset[str] = frozenset()

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Every id that must not be found any more, sorted."""
        return tuple(sorted(self.user_ids | self.device_ids))

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """As in schema.INTERACTIONS, sorted."""
        return tuple(sorted([*(f"u:{each}" for each in self.user_ids), *(f"d:{each}" for each in self.device_ids)]))

    @cached_property
    def pattern(self) -> str:
        """A regular expression, of Python's `re` and of Rust's `regex` alike, that finds a mention in text."""
        long = _alternatives(each for each in self.ids if len(each) >= SHORT)
        short = _alternatives(each for each in self.ids if len(each) < SHORT)
        parts = []
        if long:
            parts.append(f"(^|[^A-Za-z0-9_-])({long})([^A-Za-z0-9_-]|$)")
        if short:
            parts.append(f'"({"|".join(KEYS)})"\\s*:\\s*"?({short})[",}}\\s]')
        return "|".join(parts)

    @property
    def has_short_ids(self) -> bool:
        """Whether a CSV record may be about the person though its text does not say so: see `SHORT`."""
        return any(len(each) < SHORT for each in self.ids)

    @cached_property
    def _in_bytes(self) -> re.Pattern[bytes]:
        return re.compile(self.pattern.encode("utf-8"), re.MULTILINE)

    def is_in(self, content: bytes | mmap.mmap) -> bool:
        """Whether UTF-8 text or any other content mentions the person."""
        return self._in_bytes.search(content) is not None

    def is_in_row(self, header: Sequence[str], cells: Sequence[str]) -> bool:
        """Whether a CSV record is about the person or mentions it."""
        own = (cell.strip(BLANK) for name, cell in zip(header, cells, strict=False) if name in KEYS)
        return any(cell in self.ids for cell in own) or any(
            self.is_in(cell.encode("utf-8", "replace")) for cell in cells
        )


def of(connection: duckdb.DuckDBPyConnection, user_ids: Iterable[str], device_ids: Iterable[str]) -> Person:
    """The person behind the ids: devices on which only that user was ever seen belong to it.

    Args:
        connection: has the lake's views (`Lake.views`).
        user_ids, device_ids: as asked for.

    Raises:
        ConfigurationError: no id, an empty one, or one that stands for nobody.
    """
    users, devices = _forms(user_ids), _forms(device_ids)
    if not users | devices or "" in users | devices:
        raise ConfigurationError("the person to forget", "has no id", "Name a user_id or a device_id")
    if nobody := next(filter(is_nobody, sorted(users | devices)), None):  # `null` stands in everybody's JSON
        raise ConfigurationError(f"the id '{nobody}'", "stands for nobody", "Name the user_id or device_id of a person")
    rows = connection.execute(
        f"""SELECT DISTINCT device_id, owner.user_id IS NOT NULL FROM events JOIN ({RESOLVE}) AS owner USING (device_id)
        WHERE list_contains($users, events.user_id)""",
        {"users": sorted(users)},
    ).fetchall()
    owned = {device for device, is_owned in rows if is_owned}
    shared = {device for device, is_owned in rows if not is_owned} - devices
    return Person(users, devices | owned, frozenset(shared))


def _forms(ids: Iterable[str]) -> frozenset[str]:
    """Each id as it was written, and as sources read most of them: without blanks around it."""
    return frozenset(form for each in ids for form in (each, each.strip(BLANK)))


def listed(ids: Iterable[str]) -> str:
    """Ids as the right side of SQL's IN; matches nothing when there are none."""
    return f"({', '.join(map(sql.quoted, sorted(ids))) or 'NULL'})"


def _alternatives(ids: Iterable[str]) -> str:
    """Each id as it stands in text, in JSON and in ASCII JSON."""
    forms = {
        form for each in ids for form in (each, json.dumps(each)[1:-1], json.dumps(each, ensure_ascii=False)[1:-1])
    }
    return "|".join(re.escape(form) for form in sorted(forms, key=lambda form: (-len(form), form)))
