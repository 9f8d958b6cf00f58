"""The tables of the ledger, as SQL.

What belongs here: their columns, and how a ledger of an older version gets those of today. What does not: reading and
writing them (see `ledger`).
"""

from __future__ import annotations

from typing import Final

_FIRST: Final = """
CREATE TABLE claims (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, folder TEXT NOT NULL, name BLOB NOT NULL,
  state TEXT NOT NULL, size INTEGER NOT NULL, mtime INTEGER NOT NULL, markers TEXT NOT NULL,
  is_whole INTEGER NOT NULL, parent TEXT, revision INTEGER, sha256 TEXT, ingested_at REAL,
  is_removed INTEGER NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0, retry_at REAL NOT NULL DEFAULT 0,
  problem TEXT, rejection TEXT) STRICT;
CREATE INDEX claims_by_name ON claims (folder, name);
CREATE INDEX claims_by_state ON claims (state);
CREATE INDEX claims_on_server ON claims (is_removed) WHERE is_removed = 0;
CREATE TABLE outgoing (
  claim TEXT NOT NULL, position INTEGER NOT NULL, local TEXT NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL,
  sha256 TEXT NOT NULL, PRIMARY KEY (claim, position)) STRICT;
CREATE TABLE responses (
  name TEXT PRIMARY KEY, claim TEXT NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL, published_at REAL NOT NULL
) STRICT;
CREATE TABLE sightings (
  folder TEXT NOT NULL, name BLOB NOT NULL, size INTEGER NOT NULL, mtime INTEGER NOT NULL, boot_id TEXT NOT NULL,
  since REAL NOT NULL, PRIMARY KEY (folder, name)) STRICT, WITHOUT ROWID;
CREATE TABLE service_clock (
  id INTEGER PRIMARY KEY CHECK (id = 1), boot_id TEXT NOT NULL, boot REAL NOT NULL, wall REAL NOT NULL,
  service REAL NOT NULL) STRICT;
"""
# delivered_at: seconds since 1970 of the wall clock, for people; all other times are of the service clock.
_DELIVERIES: Final = """
ALTER TABLE claims ADD COLUMN reference TEXT;
ALTER TABLE claims ADD COLUMN delivered_at REAL;
CREATE INDEX claims_with_reference ON claims (reference) WHERE reference IS NOT NULL;
"""
_ATTEMPTS: Final = """
ALTER TABLE claims ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;
ALTER TABLE claims ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
"""
STEPS: Final = (_FIRST, _DELIVERIES, _ATTEMPTS)  # the n-th makes version n of the one before it
VERSION: Final = len(STEPS)
CLAIM_COLUMNS: Final = (
    "id, folder, name, state, size, mtime, markers, is_whole, parent, revision, sha256, ingested_at, "
    "is_removed, attempts, tries, retry_at, problem, rejection, reference, delivered_at, "
    "begun, failures"
)
