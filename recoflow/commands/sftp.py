"""`recoflow sftp …`: trusting a server, and mending a lost ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recoflow.commands.terminal import DATA, Data, console, environment_of
from recoflow.storage.paths import Paths
from recoflow.storage.sftp.account import Account

app = typer.Typer(no_args_is_help=True, help="The SFTP accounts that recoflow itself uses.")

Name = Annotated[str, typer.Argument(help="The environment.")]


@app.command()
def trust(
    name: Name,
    data: Data = DATA,
    replace: Annotated[bool, typer.Option("--replace", help="The server's key was replaced on purpose.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Show the fingerprint of an environment's SFTP server and, if you agree, pin its host key."""
    from recoflow.storage.sftp import connection

    account = _account(name, data)
    key = connection.fetch_host_key(account.host, account.port)
    console.print(f"{account.host}:{account.port} shows {key.get_name()} {key.fingerprint}")
    if yes or typer.confirm("Is this what the server's administrator tells you?"):
        connection.pin_host_key(account.known_hosts, account.host, account.port, key, replace=replace)
        console.print(f"Pinned in {account.known_hosts}")


@app.command()
def rebuild(name: Name, data: Data = DATA) -> None:
    """Make an environment's lost ledger again from the claims on the server and the files in the inbox."""
    from recoflow.storage.sftp.ledger import Ledger
    from recoflow.storage.sftp.mailbox import Mailbox

    folder = Paths(data.absolute()).mailbox(name)
    account = _account(name, data)
    with Ledger(folder / "ledger.sqlite") as ledger, Mailbox(account, ledger, folder / "inbox") as mailbox:
        console.print(f"{mailbox.rebuild()} files were taken up again")


def _account(name: str, data: Path) -> Account:
    return Account.of(environment_of(name, data), Paths(data.absolute()))
