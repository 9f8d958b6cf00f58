r"""A person: the ids to erase, which records belong to the person, and where a text mentions one of the ids.

One rule decides everywhere, in files, tables and databases, when data is removed and when the report searches it:

1. A record that has an id of the person in a field for people (`user_id`, `device_id`; `user`, `session` in Metarank's
   dialect) belongs to the person. It is removed. Fields for users are compared with user ids, fields for devices with
   device ids. Records of items belong to no person and are never changed.
2. In a record of another subject a *distinctive* id is blanked wherever it stands between other characters than those
   of ids: in properties, referrers, raw texts and messages. The record stays.
3. Any other id is *ambiguous*: it is short, a small number or a plain word, or this environment uses the same text for
   something else (an item, a type, a price, a file). Outside of fields for people it means that other thing and stays
   untouched, except behind the name of a field for people (`user_id=12345`).

Which ids this environment uses for something else is decided by `other_uses.py`.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final
from urllib.parse import quote

import duckdb

from recoflow.errors import ConfigurationError
from recoflow.formats.fields import BLANK, is_nobody
from recoflow.interactions.identity import RESOLVE
from recoflow.storage import sql

SHORT: Final = 4  # characters; an id with fewer is ambiguous
SMALL: Final = 7  # digits; a number with fewer is ambiguous
COLUMNS: Final = ("user_id", "device_id", "subject")  # of tables: an id in them decides whose a row is
_METARANK: Final = ("user", "device", "session")
_FROOMLE: Final = frozenset({"event_type", "action_item", "item_id"})
_VISITOR: Final = frozenset({"event_type", "action_item", "user_id", "device_id"})
_NUMBER: Final = re.compile(r"[+-]?[0-9.,]*")
_WORD: Final = re.compile(r"[A-Za-z_]*")
_BEFORE, _AFTER = "(?<![A-Za-z0-9_-])", "(?![A-Za-z0-9_-])"
_USER_KEY, _DEVICE_KEY = "(?i:user_?id|user)", "(?i:device_?id|device)"
_JSON_VALUE: Final = re.compile(r'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*', re.DOTALL)


@dataclass(frozen=True)
class ErasureSubject:
    """Ids of one person, or of several who are erased together.

    Args:
        user_ids: of log-ins.
        device_ids: of devices that no other user was seen on.
        shared_ids: devices of the users that others were seen on too: only records without a user are removed.
        ambiguous: ids that this environment uses for something else too.
    """

    user_ids: frozenset[str]
    device_ids: frozenset[str]
    shared_ids: frozenset[str] = frozenset()
    ambiguous: frozenset[str] = frozenset()

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Every id, sorted."""
        return tuple(sorted(self.user_ids | self.device_ids))

    @cached_property
    def distinctive(self) -> frozenset[str]:
        """The ids that mean the person wherever they stand."""
        return frozenset(each for each in self.ids if each not in self.ambiguous and not is_ambiguous(each))

    @cached_property
    def forms(self) -> tuple[str, ...]:
        """Every id as it stands in text, in URLs and in JSON."""
        return _forms_in_text({*self.ids, *self.shared_ids})

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """As in schema.INTERACTIONS, sorted."""
        return tuple(sorted([*(f"u:{each}" for each in self.user_ids), *(f"d:{each}" for each in self.device_ids)]))

    @cached_property
    def pattern(self) -> str:
        """A regular expression for Python's `re`, Rust's `regex` and RE2 that finds a mention in text."""
        parts = [rf"(^|[^A-Za-z0-9])({key}){_GLUE}({ids})([^A-Za-z0-9_-]|$)" for key, ids in self._keyed_ids()]
        if self.distinctive:
            parts.append(f"(^|[^A-Za-z0-9_-])({_alternatives(self.distinctive)})([^A-Za-z0-9_-]|$)")
        return "|".join(parts)

    def is_in(self, content: bytes) -> bool:
        """Whether UTF-8 text mentions the person."""
        return self._in_bytes.search(content) is not None

    def may_be_in(self, content: bytes) -> bool:
        """Whether text has one of the ids, ambiguous or not, or might have one in JSON's escapes."""
        return b"\\u" in content or b"\\/" in content or self._any_id.search(content) is not None

    def any_id_in(self, content: bytes) -> bool:
        """Whether bytes of any kind have one of the ids, also within another text."""
        return self._raw_id.search(content) is not None

    def spans(self, content: bytes | mmap.mmap) -> list[tuple[int, int]]:
        """Where text mentions the person: begin and end of each id."""
        found = (
            (match.end(1) if mention.groups else match.start(), match.end())
            for mention in self._mentions
            for match in re.finditer(mention.pattern.encode(), content)
        )
        return sorted({*found})

    def without_numbers(self) -> ErasureSubject:
        """The same person whose numbers are ambiguous."""
        numbers = {each for each in self.ids if _NUMBER.fullmatch(each)}
        return replace(self, ambiguous=self.ambiguous | numbers)

    def owns(self, record: Mapping[str, object]) -> bool:
        """Whether a record, by the names of its fields, belongs to the person."""
        if is_item(record):
            return False
        old = () if record.keys() & _FROOMLE else _METARANK  # Froomle's events may have them as properties
        users = _values(record, "user_id", *old[:1])
        devices = _values(record, "device_id", *old[1:2])
        if users & self.user_ids or devices & self.device_ids:
            return True
        if users:
            return False
        if devices:
            return bool(devices & self.shared_ids)
        return not _values(record, "session_id", *old[2:]).isdisjoint(self.ids)

    def blanked(self, text: str) -> str:
        """The text without its mentions of the person."""
        for mention in self._mentions:
            text = mention.sub(lambda found: found[1] if found.re.groups else "", text)
        return text

    def blanked_json(self, text: str, *, numbers: bool = True) -> str:
        """JSON text, whole or in part, without its mentions of the person; everything else keeps its form.

        Args:
            text: the JSON text.
            numbers: whether a number can be an id.
        """
        for keyed in self._keyed_json:
            text = keyed.sub(r'\1""', text)

        def value(found: re.Match[str]) -> str:
            literal = found[0]
            if literal[0] != '"':
                return "null" if numbers and literal in self.distinctive else literal
            try:
                old = json.loads(literal, strict=False) if "\\" in literal else literal[1:-1]
            except ValueError:
                old = literal[1:-1]
            new = self.blanked(old)
            return literal if new == old else json.dumps(new, ensure_ascii=literal.isascii())

        return _JSON_VALUE.sub(value, text)

    def blanked_value(self, text: str, *, numbers: bool = True) -> str:
        """The text of a table's cell, JSON or not, without its mentions of the person."""
        return self.blanked_json(text, numbers=numbers) if text[:1] in {"{", "["} else self.blanked(text)

    def _keyed_ids(self) -> Iterator[tuple[str, str]]:
        for key, ids in ((_USER_KEY, self.user_ids), (_DEVICE_KEY, self.device_ids)):
            if ids:
                yield key, _alternatives(ids)

    @cached_property
    def _mentions(self) -> tuple[re.Pattern[str], ...]:
        keyed = [re.compile(f"((?<![A-Za-z0-9]){key}{_GLUE})(?:{ids}){_AFTER}") for key, ids in self._keyed_ids()]
        alone = _alternatives(self.distinctive)
        return (*keyed, *([re.compile(f"{_BEFORE}(?:{alone}){_AFTER}")] if alone else []))

    @cached_property
    def _keyed_json(self) -> tuple[re.Pattern[str], ...]:
        return tuple(
            re.compile(rf'("{key}"\s*:\s*)(?:"\s*(?:{ids})\s*"|(?:{ids})(?=\s*[,}}\]]))')
            for key, ids in self._keyed_ids()
        )

    @cached_property
    def _in_bytes(self) -> re.Pattern[bytes]:
        return re.compile(self.pattern.encode("utf-8"), re.MULTILINE)

    @cached_property
    def _raw_id(self) -> re.Pattern[bytes]:
        return re.compile(_alternatives(self.ids).encode())

    @cached_property
    def _any_id(self) -> re.Pattern[bytes]:
        return re.compile(f"{_BEFORE}(?:{_alternatives({*self.ids, *self.shared_ids})}){_AFTER}".encode())


_GLUE: Final = r"""["'\\]*\s*[:=]\s*["'\\]*"""


def is_ambiguous(identity: str) -> bool:
    """Whether an id can be mistaken for something else by its form alone: short, a small number or a plain word."""
    if len(identity) < SHORT:
        return True
    if _NUMBER.fullmatch(identity):
        return sum(character.isdigit() for character in identity) < SMALL
    return _WORD.fullmatch(identity) is not None


def is_item(record: Mapping[str, object]) -> bool:
    """Whether a record says something about an item and nothing about a person."""
    keys = record.keys()
    return (
        record.get("event") in {"item", "metadata"}
        or (len(keys) == 1 and keys <= {"put", "delete"})  # a request of the items API
        or ("item_id" in keys and not keys & _VISITOR)
    )


def resolve_subject(
    connection: duckdb.DuckDBPyConnection, user_ids: Iterable[str], device_ids: Iterable[str]
) -> ErasureSubject:
    """The person behind the ids: devices on which only that user was ever seen belong to it.

    Args:
        connection: has the lake's views (`Lake.views`).
        user_ids, device_ids: as asked for.

    Raises:
        ConfigurationError: no id, an empty one, or one that is used for unknown visitors.
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
    return ErasureSubject(users, devices | owned, frozenset(shared))


def listed(ids: Iterable[str]) -> str:
    """Ids as the right side of SQL's IN; matches nothing when there are none."""
    return f"({', '.join(map(sql.quoted, sorted(ids))) or 'NULL'})"


def texts_in_json(value: object) -> Iterator[str]:
    """The texts and numbers in a JSON value."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from texts_in_json(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_in_json(inner)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield str(value).strip(BLANK)


def _forms(ids: Iterable[str]) -> frozenset[str]:
    """Each id as it was written, and as sources read most of them: without blanks around it."""
    return frozenset(form for each in ids for form in (each, each.strip(BLANK)))


def _values(record: Mapping[str, Any], *names: str) -> set[str]:
    """What a record has in these fields, without texts for unknown visitors."""
    found = {text for name in names for text in texts_in_json(record.get(name))}
    return {text for text in found if text and not is_nobody(text)}


def _forms_in_text(ids: Iterable[str]) -> tuple[str, ...]:
    forms = {
        form
        for each in ids
        for form in (
            each,
            quote(each, safe="", errors="replace"),
            json.dumps(each)[1:-1],
            json.dumps(each, ensure_ascii=False)[1:-1],
        )
    }
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))


def _alternatives(ids: Iterable[str]) -> str:
    return "|".join(map(re.escape, _forms_in_text(ids)))
