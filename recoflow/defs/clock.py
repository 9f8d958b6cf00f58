"""The border where the clock enters: the core is handed its time, Dagster's steps ask for it here."""

from datetime import UTC, datetime


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)
