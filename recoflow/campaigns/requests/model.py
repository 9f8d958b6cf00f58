"""A request file as it was understood: what all later steps of a campaign know of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from recoflow.campaigns.requests.rejection import Rejection


@dataclass(frozen=True)
class RequestCounts:
    """What became of the rows of a file; `read == accepted + failed` always holds.

    `page_types_replaced` counts accepted rows whose page type gave way to the first one of the same user and device,
    `headers_repeated` lines that repeat the header, which are no rows.
    """

    read: int = 0
    accepted: int = 0
    failed: int = 0
    page_types_replaced: int = 0
    headers_repeated: int = 0


@dataclass(frozen=True)
class Request:
    """A request file as it was understood.

    Args:
        name: the file's name as uploaded.
        environment: the account's environment.
        sha256: of the file's bytes.
        campaign_id: one per environment, name and content.
        rows: accepted rows in the file's order: row (Int64, 0, 1, …), line (Int64), user_id, device_id, list_name,
            list_size (Int64), configuration_id (null: the default), page_type, version and algorithm (see
            `experiments.assign`), and one String column `variable:NAME` for each variable that filters.
            Ids are without blanks around them; where any had some, a column PADDING + its name says which, null
            where there were none. Of a request for audiences `audience_rows.ROWS`.
        filters: row column → item attribute.
        errors: ERRORS, in the order of lines.
        rejection: why the whole file is refused; rows are then empty.
        counts: accounting of the rows.
        suspended: experiment → why it does not take place.
        is_for_audiences: whether its rows ask for people for items, not for items for people.
    """

    name: str
    environment: str
    sha256: str
    campaign_id: str
    rows: pl.DataFrame
    filters: Mapping[str, str]
    errors: pl.DataFrame
    rejection: Rejection | None = None
    counts: RequestCounts = field(default_factory=RequestCounts)
    suspended: Mapping[str, str] = field(default_factory=dict)
    is_for_audiences: bool = False


def campaign_id(environment: str, name: str, sha256: str) -> str:
    """The identifier of one campaign: the same for the same environment, file name and content."""
    identity = "\0".join((environment, name, sha256)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(identity).hexdigest()[:20]
