"""`recoflow …`: what people type. Parsing of arguments, progress and wording; every rule lives in the stages."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from recoflow.commands import (
    audience,
    backup,
    campaign,
    doctor,
    files,
    forget,
    models,
    profile,
    quarantine,
    request,
    sftp,
    tune,
)
from recoflow.commands.terminal import DATA, Data, Name, Port, console, environment_of, errors
from recoflow.errors import RecoflowError
from recoflow.storage import permissions
from recoflow.storage.paths import Paths
from recoflow.storage.scratch import Scratch

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="""Self-hosted batch recommendations.

Events come in, every night each environment learns factors from them, and each CSV request file on SFTP is answered
with a CSV response file, behind quality checks.

[bold]A tour[/bold]

1. [cyan]recoflow demo[/cyan]   the whole path on a sample world, from events to a response file fetched over SFTP
2. [cyan]recoflow up[/cyan]     the same installation, kept running: Dagster UI, daemon, SFTP server, gateway
3. [cyan]recoflow check[/cyan]  read data/environments/*.yaml and say what is wrong, by file, line and key
4. [cyan]dg launch --assets 'key:"lorem/interactions"'[/cyan]   materialize one asset by hand
""",
)
sandbox_app = typer.Typer(no_args_is_help=True, help="The embedded SFTP server and the sample world.")
app.add_typer(sandbox_app, name="sandbox")
app.add_typer(sftp.app, name="sftp")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(models.app, name="models")
app.add_typer(request.app, name="request")
app.add_typer(campaign.app, name="campaign")
app.command()(files.validate)
app.command()(profile.profile)
app.command()(forget.forget)
app.command()(doctor.doctor)
app.command()(backup.backup)
app.command()(backup.restore)
app.command()(tune.tune)
app.command()(audience.audience)


@app.command(name="compile")
def compile_loops(data: Data = DATA) -> None:
    """Compile all loops now; else the first ingest, training and campaign wait for it, a minute in all."""
    import compileall

    from recoflow.sandbox import warm_up
    from recoflow.settings import environment

    # Images that set PYTHONDONTWRITEBYTECODE would translate our modules anew in every process.
    compileall.compile_dir(Path(__file__).parent, quiet=2)
    for found in environment.load_all(Paths(data).environments):
        with Scratch() as folder:
            begin = time.monotonic()
            rows = warm_up.rehearse(found, Path(folder))
            console.print(f"{found.name}: {rows} recommendations rehearsed in {time.monotonic() - begin:.0f} s")


@app.command()
def check(data: Data = DATA) -> None:
    """Read every environment's file; exit 2 with file, line, key and cure when one is wrong."""
    from recoflow.settings import environment

    folder = Paths(data).environments
    table = Table("environment", "title", "SFTP account", "models", "training", title=str(folder))
    for found in environment.load_all(folder):
        account = f"{found.sftp.username}@{found.sftp.host}:{found.sftp.port}"
        table.add_row(found.name, found.title, account, ", ".join(found.training.models), found.schedules.training)
    console.print(table)


@app.command()
def demo(data: Data = DATA) -> None:
    """Run the main job to its end on the sample world: real daemon, real sensor, real SFTP client."""
    from recoflow.sandbox import demo as main_job

    main_job.run_demo(Path.cwd(), Paths(data.absolute()), console)


@app.command()
def up(data: Data = DATA) -> None:
    """Keep the Dagster UI, the daemon, the SFTP server and the gateway running until Ctrl-C.

    A service that ends is started again. SIGTERM and SIGHUP stop everything, too.
    """
    from recoflow.server import up as installation

    installation.run_until_stopped(
        Path.cwd(), Paths(data.absolute()), lambda line: console.print(line, markup=False, soft_wrap=True)
    )


@app.command()
def gateway(
    data: Data = DATA,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. Before other machines reach it, by this address or through a proxy, "
            "name gateway.token_files in each environment's YAML; docs/gateway.md says what the proxy must do."
        ),
    ] = "127.0.0.1",
    port: Port = 8080,
) -> None:
    """Take events and items over HTTP until Ctrl-C; what is answered with 200 is on disk. See /docs on it."""
    from recoflow.gateway import server
    from recoflow.settings.environment import load_all

    layout = Paths(data.absolute())
    server.serve(load_all(layout.environments), layout, host, port, lambda url: console.print(f"Gateway {url}"))


@app.command()
def pubsub(
    environment: Name,
    subscription: Annotated[str, typer.Option(help="projects/PROJECT/subscriptions/NAME")],
    data: Data = DATA,
) -> None:
    """Take events from a Google Pub/Sub subscription until Ctrl-C; what is acknowledged is on disk."""
    from recoflow.gateway.subscriber import Subscriber

    layout = Paths(data.absolute())
    limits = environment_of(environment, data).gateway
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    subscriber = Subscriber(subscription, layout.spool(environment), limits, lambda: datetime.now(UTC))
    console.print(f"Taking {subscription} for {environment}")
    events = subscriber.run(stop.is_set, stop.wait)
    console.print(f"{events} events were taken")


@sandbox_app.command("sftp")
def sandbox_sftp(data: Data = DATA, port: Port = 2222) -> None:
    """Serve the embedded environments' SFTP accounts on loopback until Ctrl-C."""
    from recoflow.sandbox import keys, sftp_server
    from recoflow.settings.environment import load_all
    from recoflow.storage.atomic_files import write_atomic

    layout = Paths(data.absolute())
    settings = [found.sftp for found in load_all(layout.environments) if found.sftp.embedded]
    accounts = [found.username for found in settings]
    largest = {found.username: found.max_bytes for found in settings}
    for number in (signal.SIGTERM, signal.SIGINT):  # SIGINT too: under the handler of polars, a wait goes on
        signal.signal(number, signal.default_int_handler)
    with sftp_server.serve(layout.sftp, keys.prepare(layout.sftp, accounts), port, largest=largest) as server:
        write_atomic(layout.sftp_port, str(server.port).encode())
        console.print(f"SFTP on 127.0.0.1:{server.port} for {', '.join(accounts)}")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


@sandbox_app.command("world")
def sandbox_world(  # noqa: PLR0917 - typer makes options of them
    folder: Annotated[Path, typer.Argument(file_okay=False, help="Where the files are written.")],
    users: Annotated[int, typer.Option(min=5)] = 5_000,  # the least that show every event type
    items: Annotated[int, typer.Option(min=15)] = 2_000,
    events: Annotated[int, typer.Option(min=150)] = 200_000,
    seed: int = 7,
    end: Annotated[datetime | None, typer.Option(help="UTC; the last full hour unless told.")] = None,
) -> None:
    """Write the sample publisher's event and item files, and a request file for all readers."""
    from recoflow.sandbox import demo as main_job
    from recoflow.sandbox import world

    last = end.replace(tzinfo=UTC) if end else main_job.last_full_hour()
    sample = world.generate(seed=seed, users=users, items=items, events=events, end=last)
    counts = world.write_world(sample, folder)
    (folder / world.request_name(sample)).write_text(world.request(sample), encoding="utf-8", newline="\n")
    console.print(f"{len(counts)} files in {folder}: {sample.expected}")


def main() -> None:
    """Run the command line; a RecoflowError is one readable line and exit code 2, not a traceback."""
    os.umask(permissions.UMASK)  # what any command writes holds personal data, and services inherit it
    try:
        app()
    except RecoflowError as error:
        errors.print(f"[bold red]{type(error).__name__}[/bold red] {escape(str(error))}", soft_wrap=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
