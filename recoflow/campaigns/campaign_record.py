"""The docket of a campaign: what was known when its request file was taken in, on disk beside everything made from it.

What belongs here: the campaign's folder and how it is opened. What does not: the request's content (see `requests`),
and how the file came in (`storage.sftp.mailbox`).

A re-run reads the docket again, so that it sees the same time of receipt and gives the same bytes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from recoflow.campaigns.requests import filename
from recoflow.errors import CampaignError
from recoflow.storage import atomic_files

FILE = "docket.json"


@dataclass(frozen=True)
class CampaignRecord:
    """One campaign, known by its key.

    Args:
        key: see `filename.campaign_key`; the Dagster partition.
        name: of the request file, byte for byte.
        path: the local copy of the request file.
        sha256: of its bytes.
        received_at: ISO 8601 with zone; what "now" means for this campaign.
        claim_id: the mailbox's claim that the answer goes to; None when the file did not come by SFTP.
    """

    key: str
    name: str
    path: str
    sha256: str
    received_at: str
    claim_id: str | None = None

    @property
    def as_of(self) -> datetime:
        """The time of receipt."""
        return datetime.fromisoformat(self.received_at)

    def request_file(self) -> Path:
        """The local copy of the request file.

        Raises:
            CampaignError: it is gone; the mailbox keeps it as long as responses, and the campaign lives longer.
        """
        path = Path(self.path)
        if not path.exists():
            problem = "is not here any more: it is kept for campaigns.retention_days after its answer"
            raise CampaignError(f"request file {self.name}", problem, "Drop the file again")
        return path


def open_record(
    campaigns: Path,
    environment: str,
    path: Path,
    *,
    name: str,
    sha256: str,
    revision: int,
    received_at: datetime,
    claim_id: str | None = None,
) -> CampaignRecord:
    """The docket of a request file, made when there is none; one that is there keeps its time of receipt."""
    key = filename.campaign_key(environment, name, sha256, revision)
    try:
        found = load_record(campaigns, key)
    except CampaignError:
        found = None
    if found is not None and found.claim_id == claim_id and Path(found.path) == path:
        return found
    received = found.received_at if found else received_at.isoformat()
    docket = CampaignRecord(key, name, str(path), sha256, received, claim_id)
    atomic_files.write_atomic(campaigns / key / FILE, json.dumps(asdict(docket), indent=1, sort_keys=True).encode())
    return docket


def load_record(campaigns: Path, key: str) -> CampaignRecord:
    """Read a docket.

    Raises:
        CampaignError: there is none, or it is damaged.
    """
    path = campaigns / key / FILE
    try:
        return CampaignRecord(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        problem = f"is no docket ({error})"
        raise CampaignError(str(path), problem, "Drop the request file again; its sensor makes the docket") from None
