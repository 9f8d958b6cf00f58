"""The DuckDB file for people and BI tools: marts of all environments, one schema each, replaced as a whole.

What belongs here: what people see there and how the file is swapped in. What does not: tables that recoflow itself
reads; nothing in recoflow depends on this file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import duckdb

from recoflow.storage import atomic_files, permissions, sql
from recoflow.storage.lake.lake import Lake

MARTS: Final = {
    "events_per_day": (
        "SELECT timestamp::DATE AS day, event_type, channel, count(*) AS events, count(DISTINCT user_id) AS users,"
        " count(DISTINCT device_id) AS devices, count(DISTINCT item_id) AS items"
        " FROM temp.events GROUP BY ALL ORDER BY ALL"
    ),
    "items": "FROM temp.items ORDER BY item_id",
    "interactions": "FROM temp.interactions ORDER BY subject, item_id",
    "quarantine": "FROM temp.quarantine ORDER BY received_at, file, line, raw",
    "ingests": "FROM temp.ingests ORDER BY received_at, file, sha256",
    "responses": "FROM temp.responses ORDER BY published_at, campaign_id, list_name, user_id, device_id, rank",
}


def build_warehouse(lakes: Mapping[str, Lake], path: Path, mode: int | None = None) -> dict[str, dict[str, int]]:
    """Write the database anew beside the old one and swap it in; who has the old one open keeps reading it.

    Args:
        lakes: environment → its lake.
        path: the database file.
        mode: its mode; by default that of the old one, and 0600 for the first.

    Returns:
        environment → mart → number of rows.

    Raises:
        StorageError: a lake cannot be read; the old database stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with sql.connect() as connection:
            connection.execute(f"ATTACH {sql.quoted(str(temporary))} AS _warehouse")
            try:
                rows = {name: _marts(connection, name, lake) for name, lake in sorted(lakes.items())}
            finally:
                connection.execute("DETACH _warehouse")
        temporary.chmod(mode if mode is not None else _mode(path))
        atomic_files.publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else permissions.FILE


def _marts(connection: duckdb.DuckDBPyConnection, name: str, lake: Lake) -> dict[str, int]:
    # Names of environments begin with a letter, so that the database cannot be mistaken for one.
    lake.views(connection)
    connection.execute(f'CREATE SCHEMA IF NOT EXISTS _warehouse."{name}"')
    rows = {}
    for mart, query in MARTS.items():
        table = f'_warehouse."{name}".{mart}'
        connection.execute(f"CREATE TABLE {table} AS {query}")
        [(rows[mart],)] = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
    return rows
