"""The Dagster UI's process: Dagster's web server behind `ui_guard`.

`recoflow.server.processes.webserver` starts it. Dagster's own command has no place for a layer in between.
"""

import argparse
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import dagster as dg
import uvicorn
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._utils.log import configure_loggers
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__

from recoflow.server.ui_guard import HOSTS_VARIABLE, Guard

STATEMENT_MILLISECONDS = 15_000  # all as in Dagster's command
RECYCLE_SECONDS = 3600
MAX_OVERFLOW = 20
POLL_MILLISECONDS = 2000  # how often pages ask for news


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the UI of a workspace file until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="recoflow.defs.ui")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    told = parser.parse_args(arguments)
    hosts = {name.strip().lower() for name in os.environ.get(HOSTS_VARIABLE, "").split(",") if name.strip()}
    configure_loggers(formatter="colored", log_level="INFO")
    with dg.DagsterInstance.get() as instance:
        instance.optimize_for_webserver(STATEMENT_MILLISECONDS, RECYCLE_SECONDS, MAX_OVERFLOW)
        target = WorkspaceFileTarget([str(told.workspace)])
        with WorkspaceProcessContext(instance, target, version=__version__) as context, suppress(KeyboardInterrupt):
            ui = create_app_from_workspace_process_context(context, live_data_poll_rate=POLL_MILLISECONDS)
            uvicorn.run(Guard(ui, hosts), host="127.0.0.1", port=told.port, log_level="warning")
