"""Rows of the lake that are about a person.

What belongs here: which rows go. What does not: freeing the disk (`storage.erasure`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from recoflow.privacy.person import Person, listed
from recoflow.storage import erasure, sql
from recoflow.storage.lake import TABLES, Lake

# Events go last: they tell which devices are the person's, and a run that was cut off has to find that out again.
ORDER: Final = ("quarantine", "responses", "interactions", "identity", "updates", "events")


def forget(lake: Lake, person: Person) -> dict[str, int]:
    """Delete the person's rows and purge every table; returns the number of rows by table.

    An event of somebody else that mentions the person in `properties` or `referrer` goes too, and so do the events
    without a user on devices that the person shared: nobody can tell whose they are, and the devices' other user must
    not inherit them.

    Raises:
        StorageError: the lake cannot be written; calling again completes what was begun.
    """
    predicates = _predicates(person)
    removed = {}
    for table in ORDER:
        removed[table] = lake.delete(table, predicates[table])
        erasure.purge(lake, table)
    for table in sorted(TABLES.keys() - predicates.keys()):
        erasure.purge(lake, table)
    return removed


def _predicates(person: Person) -> Mapping[str, str]:
    users, devices = listed(person.user_ids), listed(person.device_ids)
    owned = f"user_id IN {users} OR device_id IN {devices}"
    mentions = sql.quoted(person.pattern)
    return {
        "events": (
            f"{owned} OR session_id IN {listed(person.ids)}"
            f" OR (user_id IS NULL AND device_id IN {listed(person.shared_ids)})"
            f" OR regexp_like(properties, {mentions}) OR regexp_like(referrer, {mentions})"
        ),
        "updates": f"entity = 'user' AND (entity_id IN {users} OR regexp_like(fields, {mentions}))",
        "quarantine": f"regexp_like(raw, {mentions}) OR regexp_like(message, {mentions})",
        "identity": owned,
        "interactions": f"subject IN {listed(person.subjects)}",
        "responses": owned,
    }
