"""A worker that is killed in a step of a pool: `python -m recoflow_tests.faults.lost_worker DAGSTER_HOME`."""

import sys
import time
from pathlib import Path

import dagster as dg

from recoflow.defs.resources import Installation

POOL = "lorem_ingest"


@dg.op(pool=POOL)
def work(context: dg.OpExecutionContext, installation: Installation) -> None:
    Path(installation.data, "begun").write_text(context.run.run_id)
    time.sleep(300)


@dg.job(executor_def=dg.in_process_executor)
def lost() -> None:
    work()


if __name__ == "__main__":
    home = sys.argv[1]
    with dg.DagsterInstance.from_config(home) as instance:
        lost.execute_in_process(instance=instance, resources={"installation": Installation(data=home)})
