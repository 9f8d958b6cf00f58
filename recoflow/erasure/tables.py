"""Rows of the lake that belong to a person, and texts of other rows that mention one.

What a row of the person and what a mention is: see `subject`. Not here: freeing the disk (`storage.lake.purge`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

from recoflow.erasure import records
from recoflow.erasure.subject import COLUMNS, ErasureSubject, listed
from recoflow.storage.lake import purge
from recoflow.storage.lake.lake import TABLES, Lake

# Events go last: they say which devices are the person's, and a run that was cut off has to find that out again.
ORDER: Final = ("quarantine", "responses", "interactions", "identity", "updates", "events")
_BATCH: Final = 200  # texts in one statement


def erase_from_tables(lake: Lake, person: ErasureSubject) -> dict[str, int]:
    """Delete the person's rows, blank mentions in others and purge every table; returns table → deleted rows.

    Events without a user on devices that the person shared are deleted too: they may be the person's, and must not
    become the other user's.

    Raises:
        StorageError: the lake cannot be written; calling again completes what was begun.
    """
    predicates = _predicates(lake, person)
    removed = {}
    for table in (*ORDER, *sorted(TABLES.keys() - set(ORDER))):
        if table in predicates:
            removed[table] = sum(lake.delete(table, predicate) for predicate in predicates[table])
        _blank(lake, table, person)
        purge.purge(lake, table)
    return removed


def _predicates(lake: Lake, person: ErasureSubject) -> Mapping[str, Sequence[str]]:
    users, devices = listed(person.user_ids), listed(person.device_ids)
    owned = f"user_id IN {users} OR device_id IN {devices}"
    visitor = (
        f" OR (user_id IS NULL AND device_id IN {listed(person.shared_ids)})"
        f" OR (user_id IS NULL AND device_id IS NULL AND session_id IN {listed(person.ids)})"
    )
    return {
        "events": [owned + visitor],
        "updates": [f"entity = 'user' AND entity_id IN {users}"],
        "quarantine": [f"raw IN {listed(texts)}" for texts in _batches(_own_raws(lake, person))],
        "identity": [owned],
        "interactions": [f"subject IN {listed(person.subjects)}"],
        "responses": [owned],
    }


def _own_raws(lake: Lake, person: ErasureSubject) -> list[str]:
    """Texts of refused events that belong to the person; a row of a CSV file has no names of fields."""
    candidates = _distinct(lake, "quarantine", "raw", pl.col("raw").str.contains_any([*person.forms, "\\u"]))
    return [text for text in candidates if any(map(person.owns, records.of_text(text, person).records))]


def _blank(lake: Lake, table: str, person: ErasureSubject) -> None:
    """Blank the mentions in all texts but those of items, and of fields for people, which decided already."""
    rows = {"items": "false", "updates": "entity = 'user'"}.get(table, "true")
    for column, dtype in TABLES[table].items():
        if dtype != pl.String or column in COLUMNS:
            continue
        changed = {}
        for text in _distinct(lake, table, column, pl.sql_expr(rows) & pl.col(column).str.contains(person.pattern)):
            new = person.blanked_value(text)
            if new != text:
                changed[text] = new
        for texts in _batches(sorted(changed)):
            purge.replace_texts(lake, table, column, {text: changed[text] for text in texts}, rows)


def _distinct(lake: Lake, table: str, column: str, condition: pl.Expr) -> list[str]:
    found: list[str] = (
        lake.scan(table).filter(condition).select(pl.col(column).unique()).collect().to_series().to_list()
    )
    return found


def _batches(texts: Sequence[str]) -> list[Sequence[str]]:
    return [texts[at : at + _BATCH] for at in range(0, len(texts), _BATCH)]
