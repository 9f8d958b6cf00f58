"""`recoflow backup` and `recoflow restore`.

What belongs here: options, wording, and an embedded SFTP server for the time of a restore. What does not: what is
copied and put back (`recoflow.operations`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recoflow.commands.terminal import DATA, Data, cell, console, errors
from recoflow.errors import MailboxError
from recoflow.storage.paths import Paths

if TYPE_CHECKING:
    from recoflow.settings.environment import Environment


def backup(
    target: Annotated[Path, typer.Argument(help="A new folder, best on another disk.")],
    data: Data = DATA,
) -> None:
    """Copy the installation, running or not, into a new folder from which `recoflow restore` puts it back.

    It holds what people did and the keys of the SFTP accounts: keep it as you keep those. Logs, the warehouse and the
    record of erased people are not in it; keep data/erasures apart, `restore` needs it.
    """
    from recoflow.operations import backup as operations

    made = operations.back_up(Paths(data.absolute()), _home(), target.absolute(), datetime.now(UTC))
    console.print(f"{len(made.files)} files in {cell(str(target))}, as of {made.created_at}")


def restore(
    source: Annotated[Path, typer.Argument(help="A folder that `recoflow backup` wrote.")],
    data: Data = DATA,
    erasures: Annotated[
        Path | None, typer.Option(help="The folder data/erasures of the lost installation, unless it lies in --data.")
    ] = None,
) -> None:
    """Put an installation back into a data folder that has no data, before `recoflow up`.

    People who were erased since the backup are erased again, and claims that came since are taken up. Exit 1 when an
    SFTP server is away, so that its claims are still to be taken up.
    """
    from recoflow.operations import restore as operations

    layout = Paths(data.absolute())
    restored = operations.restore_backup(source.absolute(), layout, _home(), erasures and erasures.absolute())
    console.print(f"The installation is as it was at {restored.created_at}.")
    if erasures is None and not layout.erasures.exists():
        console.print("No record of erased people was found: whoever was erased since then is back. See --erasures.")
    is_complete = True
    with _serving(layout, restored.environments):
        for environment in restored.environments:
            try:
                taken = operations.reconcile(layout, environment)
            except MailboxError as error:
                errors.print(f"{environment.name}: {cell(str(error))}")
                errors.print(f"Run `recoflow sftp rebuild {environment.name}` before `recoflow up`.")
                is_complete = False
                continue
            erased = restored.erased[environment.name]
            console.print(f"{environment.name}: {erased} ids erased again, {taken} claims taken up")
    raise typer.Exit(0 if is_complete else 1)


def _home() -> Path:
    return Path(os.environ.get("DAGSTER_HOME", Path.cwd()))


@contextlib.contextmanager
def _serving(layout: Paths, environments: Sequence[Environment]) -> Iterator[None]:
    """The embedded SFTP server, for those environments that use it."""
    from recoflow.sandbox import keys, sftp_server
    from recoflow.storage.atomic_files import write_atomic

    accounts = [each.sftp.username for each in environments if each.sftp.embedded]
    if not accounts:
        yield
        return
    with sftp_server.serve(layout.sftp, keys.prepare(layout.sftp, accounts), 0) as server:
        write_atomic(layout.sftp_port, str(server.port).encode())
        yield
