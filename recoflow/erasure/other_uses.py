"""What else an environment uses an id for: items, types, prices, files and the like.

Such an id is ambiguous (see `subject`). The lake says it, and the files that wait to be ingested say it too: they may
have an item that the lake does not know yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import duckdb

from recoflow.erasure import compressed_files, records
from recoflow.erasure.subject import ErasureSubject, is_item, texts_in_json
from recoflow.storage import sql

_TOKENS: Final = {  # table → columns that are about items: an id in a part of such a text means an item
    "items": ("item_id", "item_type", "attributes"),
    "events": ("item_id",),
    "interactions": ("item_id",),
    "responses": ("item_id",),
}
_VALUES: Final = {  # table → columns with words, names and numbers of their own
    "events": (
        *("event_id", "event_type", "channel", "page_type", "item_type", "interaction_type", "request_id"),
        *("campaign_id", "list_name", "user_group", "version", "currency", "order_id", "subscription_type"),
        *("checkpoint", "source"),
    ),
    "responses": ("user_group", "version", "campaign_id", "request_id", "list_name", "page_type", "model_version"),
    "updates": ("entity_type", "event_id", "source"),
    "ingests": ("file",),
    "quarantine": ("file", "code"),
}
_NUMBERS: Final = ("price", "discount", "quantity", "relevancy", "rank")  # of events
FIELDS: Final = frozenset(
    {name for columns in _VALUES.values() for name in columns}
    | {*_NUMBERS, "action_item", "action_item_type", "item_id", "item", "id", "type", "event", "impression", "ranking"}
    | {"configuration_id", "list_size", "environment", "tenant"}
)  # of records in files


def with_ambiguous(
    person: ErasureSubject, connection: duckdb.DuckDBPyConnection, paths: Iterable[Path], names: Iterable[str]
) -> ErasureSubject:
    """The person with the ids that mean something else too.

    Args:
        person: without them.
        connection: has the lake's views (`Lake.views`).
        paths: files that came in.
        names: of files, campaigns and environments.
    """
    found = set(_of_names(person, names))
    for each in person.distinctive - found:
        if _is_in_lake(each, person, connection):
            found.add(each)
    for path in paths:
        rest = replace(person, ambiguous=frozenset(found))
        if (
            rest.distinctive
            and any(map(rest.may_be_in, compressed_files.overlapping_blocks(path)))
            and not compressed_files.is_damaged(path)
        ):
            for part in records.pieces(path, rest):
                found.update(_of_records(rest, part.records))
    return replace(person, ambiguous=frozenset(found))


def _of_names(person: ErasureSubject, names: Iterable[str]) -> Iterator[str]:
    text = "\n".join(names)
    return (each for each in person.distinctive if _alone(person, each).is_in(text.encode("utf-8", "replace")))


def _alone(person: ErasureSubject, identity: str) -> ErasureSubject:
    """The person by one id."""
    return ErasureSubject(person.user_ids & {identity}, person.device_ids & {identity})


def _is_in_lake(identity: str, person: ErasureSubject, connection: duckdb.DuckDBPyConnection) -> bool:
    pattern = sql.quoted(_alone(person, identity).pattern)
    queries = [
        *(
            f"SELECT 1 FROM {table} WHERE regexp_matches({column}, {pattern})"
            for table, columns in _TOKENS.items()
            for column in columns
        ),
        f"""SELECT 1 FROM updates
        WHERE entity = 'item' AND (regexp_matches(entity_id, {pattern}) OR regexp_matches(fields, {pattern}))""",
        *(
            f"SELECT 1 FROM {table} WHERE {column} = {sql.quoted(identity)}"
            for table, columns in _VALUES.items()
            for column in columns
        ),
        *(f"SELECT 1 FROM events WHERE {name} = try_cast({sql.quoted(identity)} AS DOUBLE)" for name in _NUMBERS),
    ]
    return any(connection.execute(f"{query} LIMIT 1").fetchone() for query in queries)


def _of_records(person: ErasureSubject, found: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for record in found:
        if is_item(record):
            content = "\n".join(texts_in_json(dict(record))).encode("utf-8", "replace")
            yield from (each for each in person.distinctive if _alone(person, each).is_in(content))
        else:
            listed = record.get("items")  # of a ranking
            yield from person.distinctive.intersection(
                text
                for value in (*(record.get(name) for name in FIELDS), listed if isinstance(listed, list) else None)
                for text in texts_in_json(value)
            )
