"""What the ledger tells: claims, their states, the files that answer them, and what scans have seen.

What belongs here: values. What does not: how they are kept (`ledger`), and any act on the server or the disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from recoflow.storage.sftp.transfer import Content


class State(StrEnum):
    """Where a claim stands."""

    DEPOSITING = "depositing"  # a request of our own, for a scheduled campaign, is being put into the inbox
    CLAIMING = "claiming"  # the rename into claims/ was begun
    CLAIM_DENIED = "claim_denied"  # the server refused the rename; tried again later
    VANISHED = "vanished"  # gone before it was ours
    CLAIMED = "claimed"
    INGESTED = "ingested"  # safe in the inbox; its run is due
    READY = "ready"  # the answer's files are known
    UPLOADED = "uploaded"  # they are in staging, verified
    PUBLISHING = "publishing"  # the renames into responses/ were begun
    PUBLISHED = "published"
    CONSUMED = "consumed"  # a dump that is in the lake: there is nothing to publish
    REJECTED = "rejected"  # answered with an error file
    SUPERSEDED = "superseded"  # a newer file of that name owns the answer
    EXPIRED = "expired"  # published, and removed after its retention


FINAL: Final = (State.PUBLISHED, State.CONSUMED, State.REJECTED, State.SUPERSEDED, State.EXPIRED, State.VANISHED)
ANSWERING: Final = (State.READY, State.UPLOADED, State.PUBLISHING)
ARRIVED: Final = (State.INGESTED, *ANSWERING, State.PUBLISHED, State.CONSUMED, State.REJECTED, State.EXPIRED)


@dataclass(frozen=True)
class Claim:
    """One file that was claimed; `name` is its remote name byte for byte, sizes in bytes, `mtime` in seconds."""

    id: str
    folder: str
    name: bytes
    state: State
    size: int
    mtime: int
    markers: tuple[bytes, ...]  # endings of the marker files that came with it
    is_whole: bool  # its uploader or the server said so; else it only rested long enough
    parent: str | None  # the claim that this one corrects, when late bytes made it grow
    revision: int | None  # 1 for the first file of its name; set when ingested
    sha256: str | None
    ingested_at: float | None
    is_removed: bool  # the original is gone from the server
    attempts: int  # runs that were started for it
    tries: int  # failures in its present state; for an ingested claim, runs that reported a failure
    retry_at: float
    problem: str | None  # the last failure, for people
    rejection: str | None
    reference: str | None  # what `Mailbox.delivered` tells of the answer until it is acknowledged
    delivered_at: float | None  # wall clock, seconds since 1970, of the answer's first publication
    begun: int  # runs that began to work on it
    failures: int  # failures whose cause is the file itself


@dataclass(frozen=True)
class Outgoing:
    """One file of an answer: local path, name in responses/, content."""

    position: int
    local: Path
    name: str
    content: Content


@dataclass(frozen=True)
class PublishedName:
    """A name in responses/ that is ours."""

    name: str
    claim: str
    content: Content
    published_at: float


@dataclass(frozen=True)
class Delivery:
    """An answer that lies in responses/, or did: the reference that it was published with, and since when."""

    claim_id: str
    reference: str
    at: datetime


@dataclass(frozen=True)
class ListingSnapshot:
    """A file as the scans have found it since `since` (boot clock)."""

    size: int
    mtime: int
    boot_id: str
    since: float
