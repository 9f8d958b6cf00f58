"""Contracts: the event vocabulary, and column names and dtypes of every table that crosses a module's border.

What belongs here: names, dtypes and the frozen values that stages hand to each other. What does not: rules about values
(they live with the source that they come from), I/O of any kind.

Sources: the event vocabulary is Froomle's public "User interactions" page; the other choices are recoflow's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import polars as pl

UTC_TIME: Final = pl.Datetime("us", "UTC")


def _table(columns: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.Schema:
    return pl.Schema(columns)


EVENT_TYPES: Final = (
    "page_visit",
    "detail_pageview",
    "impression",
    "click_on_recommendation",
    "item_interaction",
    "start_subscription",
    "user_interaction",
    "cancel_subscription",
    "checkpoint",
    "add_to_cart",
    "remove_from_cart",
    "batch_open",
    "batch_impression",
    "batch_click_on_recommendation",
    "purchase",
)


def event_type_bits(names: Iterable[str]) -> int:
    """A set of event types as bits: bit i stands for `EVENT_TYPES[i]`."""
    return sum(1 << EVENT_TYPES.index(name) for name in set(names))


CHANNELS: Final = (
    "www",
    "www-desktop",
    "www-mobile",
    "app",
    "app-ios",
    "app-android",
    "app-audio",
    "app-audio-ios",
    "app-audio-android",
    "email",
    "push",
    "newsletter",
)

PAGE_TYPES: Final = (
    "home",
    "category",
    "article_detail",
    "product_detail",
    "video_detail",
    "checkout",
    "search",
    "other",
    "push",
    "email",
    "weekly_mail",
    "daily_push",
    "emaildaily",
    "emailweekly",
    "emailadhoc",
    "emailtopical",
)

EVENTS: Final = _table(
    {
        # Ids are unique per environment and kind; a Metarank ranking becomes one row per item, told apart by part.
        "kind": pl.String,  # event (Froomle) | ranking | interaction (Metarank)
        "event_id": pl.String,
        "part": pl.Int32,  # 0 for a single event, 1…n for the items of one ranking
        "content_hash": pl.UInt64,  # of the whole source event: same id, other hash = conflict
        "event_type": pl.String,  # one of EVENT_TYPES
        "timestamp": UTC_TIME,
        "user_id": pl.String,
        "device_id": pl.String,
        "session_id": pl.String,
        "channel": pl.String,
        "page_type": pl.String,
        "item_id": pl.String,
        "item_type": pl.String,
        "interaction_type": pl.String,
        "request_id": pl.String,
        "campaign_id": pl.String,
        "list_name": pl.String,
        "rank": pl.Int64,
        "user_group": pl.String,
        "version": pl.String,
        "relevancy": pl.Float64,
        "quantity": pl.Float64,
        "price": pl.Float64,
        "discount": pl.Float64,
        "currency": pl.String,
        "order_id": pl.String,
        "subscription_type": pl.String,
        "checkpoint": pl.String,
        "referrer": pl.String,
        "properties": pl.String,  # JSON object of every other field, null when there is none
        "source": pl.String,  # file name or channel that it arrived by
        "received_at": UTC_TIME,
    }
)

UPDATES: Final = _table(
    {
        "entity": pl.String,  # item | user
        "entity_id": pl.String,
        "entity_type": pl.String,  # item_type; null for users
        "operation": pl.String,  # upsert | delete (delete disables: an item still trains, it is never recommended)
        "event_id": pl.String,
        "content_hash": pl.UInt64,
        "timestamp": UTC_TIME,
        "fields": pl.String,  # JSON object: attribute name → value
        "source": pl.String,
        "received_at": UTC_TIME,
    }
)

REJECTS: Final = _table(
    {
        "file": pl.String,
        "line": pl.Int64,  # 1-based line of the file, or index of the event in an API request
        "field": pl.String,  # null when the whole event is unreadable
        "code": pl.String,  # stable, snake_case: e.g. missing_field, unknown_event_type, timestamp_seconds
        "message": pl.String,  # for people: names the culprit and the cure
        "raw": pl.String,  # the event's text as it arrived
        "received_at": UTC_TIME,
    }
)

INGESTS: Final = _table(
    {
        # One row per file that was taken in: the accounting, and the memory that a file was seen before.
        "file": pl.String,
        "sha256": pl.String,
        "read": pl.Int64,
        "accepted": pl.Int64,
        "quarantined": pl.Int64,
        "duplicates": pl.Int64,
        "rows": pl.Int64,  # added to events and updates; one ranking is one event of many rows
        "ignored_keys": pl.String,  # JSON object: unknown Metarank key → how often
        "received_at": UTC_TIME,
    }
)

ITEMS: Final = _table(
    {
        "item_id": pl.String,
        "item_type": pl.String,
        "is_enabled": pl.Boolean,  # false after a DELETE: trains, is never recommended
        "is_available": pl.Boolean,  # the availability attribute, true when absent
        "published_at": UTC_TIME,  # attribute publication_datetime, else null
        "updated_at": UTC_TIME,
        "attributes": pl.String,  # JSON object of all attributes, keys sorted
    }
)

INTERACTIONS: Final = _table(
    {
        "subject": pl.String,  # "u:<user_id>" or "d:<device_id>"
        "item_id": pl.String,
        "weight": pl.Float64,  # sum over events of type weight × time decay; may be ≤ 0 (then it is not trained on)
        "events": pl.Int64,
        "event_types": pl.Int32,  # bit set of the events' types, see event_type_bits
        "first_at": UTC_TIME,
        "last_at": UTC_TIME,
    }
)

IDENTITY: Final = _table(
    {
        "device_id": pl.String,
        "user_id": pl.String,  # null when two or more users were seen on the device: it then stands for itself
    }
)

CONFIGURATIONS: Final = _table(
    {
        # Rows are only added: the n-th put of an id is its version n.
        "configuration_id": pl.String,
        "operation": pl.String,  # put | delete
        "body": pl.String,  # JSON object as it was put, keys sorted; null for a delete
        "registered_at": UTC_TIME,  # no two rows have the same
    }
)

RESPONSE_COLUMNS: Final = (
    "user_id",
    "device_id",
    "user_group",
    "version",
    "campaign_id",
    "request_id",
    "list_name",
    "item_id",
)  # then the environment's information fields, then rank
BECAUSE_OF: Final = "because_of"  # an information field that is no attribute: the item of the history that led here

RESPONSES: Final = _table(
    dict.fromkeys(RESPONSE_COLUMNS, pl.String)
    | {
        "rank": pl.Int64,
        "page_type": pl.String,
        "model_version": pl.String,
        "published_at": UTC_TIME,
    }
)


@dataclass(frozen=True)
class Counts:
    """Accounting of source events; `read == accepted + quarantined + duplicates` always holds."""

    read: int = 0
    accepted: int = 0
    quarantined: int = 0
    duplicates: int = 0

    def __post_init__(self) -> None:
        if self.read != self.accepted + self.quarantined + self.duplicates:
            raise ValueError(f"an event is not accounted for: {self}")

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.read + other.read,
            self.accepted + other.accepted,
            self.quarantined + other.quarantined,
            self.duplicates + other.duplicates,
        )


@dataclass(frozen=True)
class ParsedBatch:
    """What a source made of a stretch of one file: typed rows and rejects, not yet deduplicated.

    `read` counts source events: one Metarank ranking is one event however many rows it gives. Every event read is
    either the origin of rows in `events` / `updates` or of exactly one row in `rejects`.
    """

    read: int
    events: pl.DataFrame  # EVENTS
    updates: pl.DataFrame  # UPDATES
    rejects: pl.DataFrame  # REJECTS, one row per rejected event
    ignored_keys: dict[str, int] = field(default_factory=dict)  # unknown Metarank keys and how often each was seen
    event_lines: pl.Series | None = None  # Int64, of the file, where each row of events begins; None if not known
    update_lines: pl.Series | None = None  # the same for updates
