"""`recoflow campaign …`: campaigns that wait for their answer."""

from __future__ import annotations

from typing import Annotated

import typer

from recoflow.commands.terminal import DATA, Data, Name, console, environment_of
from recoflow.storage.paths import Paths

app = typer.Typer(no_args_is_help=True)


@app.callback()
def campaigns() -> None:
    """Campaigns: one for each request file."""  # without this, typer takes the only command for the whole


@app.command()
def retry(
    campaign: Annotated[str, typer.Argument(help="Its key, which is its partition in the Dagster UI, or its file.")],
    environment: Name,
    data: Data = DATA,
) -> None:
    """Try to answer a campaign again now, also one that was given up; while `recoflow up` runs, or before."""
    from rich.markup import escape

    from recoflow.campaigns import campaign_record
    from recoflow.errors import CampaignError
    from recoflow.storage.sftp.account import Account
    from recoflow.storage.sftp.ledger import Ledger
    from recoflow.storage.sftp.mailbox import Mailbox

    layout = Paths(data.absolute())
    account = Account.of(environment_of(environment, data), layout)
    folder = layout.mailbox(environment)
    with Ledger(folder / "ledger.sqlite") as ledger, Mailbox(account, ledger, folder / "inbox") as mailbox:
        claim = mailbox.newest(campaign)
        if claim is None and (layout.campaigns(environment) / campaign / campaign_record.FILE).is_file():
            claim = campaign_record.load_record(layout.campaigns(environment), campaign).claim_id
        if claim is None:
            cure = "Name a request file that arrived by SFTP, or the partition that the Dagster UI shows"
            raise CampaignError(f"campaign {campaign}", f"is not known in {environment}", cure)
        retried = mailbox.retry(claim)
    console.print(f"{escape(retried.name)} is tried again at the next look at the SFTP account.")
