"""What people were given is noted in the lake once their file lies in responses/, not before.

What belongs here: from a delivery to rows of `responses`. What does not: the publication (`storage.mailbox`), and what
the rows are (`campaigns.publication`).

A run notes what it published itself. The mailbox finishes publications without a run, too, and a run can die right
behind one: those are noted by the nightly retention (see `upkeep`).
"""

from pathlib import Path

from recoflow.campaigns import publication, staged
from recoflow.campaigns.staged import Staged
from recoflow.storage.claims import Delivery
from recoflow.storage.lake import Lake

STAGING = "staging"  # below a campaign's folder


def note(delivery: Delivery, campaigns: Path, lake: Lake) -> None:
    """Add a delivered campaign's lists to `responses`, at most once however often called.

    Args:
        delivery: its reference is the campaign's key.
        campaigns: the environment's campaign folders.
        lake: of the environment.

    Raises:
        CampaignError: its staged lists are gone.
    """
    answered = staged.load(campaigns / delivery.reference / STAGING, Staged)
    lake.append("responses", publication.rows(answered, delivery.at), transaction=delivery.reference)
