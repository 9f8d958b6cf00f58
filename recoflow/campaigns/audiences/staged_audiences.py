"""Staged audiences: an answered request for audiences on disk, complete but not yet published.

What belongs here: their columns and manifest. What does not: the folder's shape, which is that of `staged`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from recoflow.campaigns.staging.staged import StagedFiles

COLUMNS: Final = ("user_id", "device_id", "campaign_id", "request_id", "audience_name", "item_id", "rank")  # response

PARTS: Final = pl.Schema(
    dict.fromkeys(COLUMNS, pl.String)
    | {
        "rank": pl.Int64,
        "row": pl.Int64,  # of REQUESTS
        "subject": pl.String,  # whose score it is
        "best_item": pl.String,  # of the items asked for, the one that fits the subject best
        "score": pl.Float32,  # of that item
    }
)

REQUESTS: Final = pl.Schema(
    {
        "row": pl.Int64,  # 0, 1, … over the accepted rows
        "line": pl.Int64,  # of the request file
        "audience_name": pl.String,
        "item_id": pl.String,  # as asked
        "audience_size": pl.Int64,
        "request_id": pl.String,
        "people": pl.Int64,  # how many were chosen
    }
)


@dataclass(frozen=True)
class AudienceCounts:
    """Accounting of a campaign; `read == answered + failed`.

    `answered` counts audiences, the `short` (fewer people than asked for) and the `empty` ones among them.
    """

    read: int
    answered: int
    failed: int
    short: int
    empty: int
    people: int


@dataclass(frozen=True)
class StagedAudiences(StagedFiles):
    """One campaign's audiences in `folder`.

    Args:
        counts: see `Counts`.
        consumed_types: bits of the event types by which an item counts as consumed.
    """

    counts: AudienceCounts
    consumed_types: int
