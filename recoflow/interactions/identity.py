"""Who is behind an event: the one place that turns user and device ids into subjects.

What belongs here: the owners of devices and the definition of a subject. What does not: merging users with each other,
which nothing in the events would justify.
"""

from __future__ import annotations

from typing import Final

import duckdb
import numpy as np
import polars as pl

from recoflow import schema
from recoflow.storage import sql

# The definition of a subject, over rows `person` (user_id, device_id) joined to `device` (schema.IDENTITY).
SUBJECT: Final = "coalesce('u:' || person.user_id, 'u:' || device.user_id, 'd:' || person.device_id)"

# Models and bundles hold ids in arrays of numpy, which forget zeros at the end of a text, so that two ids become one,
# and give every id the room of the longest. Whoever goes by another id is as unknown as who has none.
LONGEST: Final = 500  # characters
IS_ID: Final = f"length({{0}}) <= {LONGEST} AND NOT contains({{0}}, chr(0))"

RESOLVE: Final = """
SELECT device_id, CASE WHEN min(user_id) = max(user_id) THEN min(user_id) END AS user_id
FROM events WHERE device_id IS NOT NULL AND user_id IS NOT NULL
GROUP BY device_id ORDER BY device_id
"""


def resolve_devices(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """The devices on which a user was ever seen, and whose they are.

    Args:
        connection: has the lake's views (`Lake.views`).

    Returns:
        `schema.IDENTITY`, ordered by device_id. A device with exactly one user belongs to that user, events before the
        log-in included; a device with two or more has no user, so that nobody gets what somebody else did.
    """
    return sql.frame(connection, RESOLVE, schema.IDENTITY)


def subject_of(user_id: pl.Series, device_id: pl.Series, devices: pl.DataFrame) -> pl.Series:
    """The subject of each pair of ids: `u:<user_id>` where the user is named or owns the device, else `d:<device_id>`.

    Args:
        user_id, device_id: strings or null, of one length.
        devices: `schema.IDENTITY`.

    Returns:
        Strings in the order of the pairs; null where both ids are.
    """
    subjects = ("u:" + user_id.cast(pl.String)).alias("subject")
    unnamed = np.flatnonzero(user_id.is_null().to_numpy())
    if not len(unnamed):
        return subjects  # as mostly: nobody's device has to be looked up
    people = pl.DataFrame({"user_id": user_id.gather(unnamed), "device_id": device_id.gather(unnamed), "row": unnamed})
    with sql.connect() as connection:
        connection.register("person", people.to_arrow())
        connection.register("device", devices.to_arrow())
        query = f"SELECT {SUBJECT} AS subject FROM person LEFT JOIN device USING (device_id) ORDER BY row"
        return subjects.scatter(unnamed, sql.frame(connection, query, pl.Schema({"subject": pl.String}))["subject"])
