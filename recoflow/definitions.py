"""The explicit registry of all that Dagster sees: every environment in the data folder, and the resources they share.

The data folder is `RECOFLOW_DATA`, else `data` under the working directory.
"""

import os
from pathlib import Path

import dagster as dg
from dagster_duckdb import DuckDBResource

from recoflow.defs import build, warehouse
from recoflow.defs.resources import Installation, checker
from recoflow.settings import environment
from recoflow.storage import permissions, stack_lock
from recoflow.storage.paths import Paths


def build_definitions(data: Path) -> dg.Definitions:
    """Definitions of all environments whose files lie under `data`.

    Raises:
        ConfigurationError: when an environment's file is wrong, naming file, line, key and cure.
    """
    environments = environment.load_all(Paths(data).environments)
    installation = Installation(data=str(data))
    shared = dg.Definitions(
        resources={
            "installation": installation,
            "checker": checker,
            "duckdb": DuckDBResource(database=":memory:"),
        },
        executor=dg.in_process_executor,
    )
    marts = warehouse.build_warehouse(environments)
    return dg.Definitions.merge(
        shared, marts, *(build.build_environment(found, installation) for found in environments)
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What `dg`, the daemon, the web server and each run worker load."""
    os.umask(permissions.UMASK)  # for workers that no `recoflow up` started
    stack_lock.join(os.environ)  # the one place that a run worker always passes before it works
    return build_definitions(Paths.of_process(os.environ).root)
