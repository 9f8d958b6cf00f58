"""A process beside this one that runs checks, and imports great-expectations while this one does something else.

What does not belong here: which checks there are (`campaigns.publishing.checks`), and how they are run (`gx_runner`).
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from recoflow.errors import StorageError
from recoflow.storage import stack_lock
from recoflow.storage.scratch import Scratch

if TYPE_CHECKING:
    from recoflow.quality.finding import Finding
    from recoflow.quality.gx_runner import Check, Tables

_COMMAND = (
    sys.executable,
    "-P",
    "-m",
    "recoflow.quality.checker_process",
)  # -P: a module is no file of the working directory


class Checker:
    """Checks in a process of its own, which begins to get ready as the context is entered, and ends with it.

    A thread would not do: who imports great-expectations holds the interpreter for two seconds. `multiprocessing` would
    import the main script of this process over there, which is Dagster's, or one that nobody wrote for that.
    """

    def __enter__(self) -> Self:
        self._folder = Scratch()
        self._process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ
            | {
                "TMPDIR": self._folder.name,  # that nothing of it stays
                "PYTHONPATH": os.pathsep.join(sys.path),  # the modules that this process has, wherever they came from
                "OPENBLAS_NUM_THREADS": "1",  # numpy is only imported there: its threads would spin for nothing
            },
            process_group=0,  # a terminal's interrupt is for this process alone
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # it has nothing to lose, and takes a second to end by itself
        self._process.communicate()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def validate(self, tables: Tables, checks: Sequence[Check], derived: Tables) -> list[Finding]:
        """`gx_runner.validate`, over there.

        Raises:
            StorageError: it failed, e.g. because a file is damaged, or the process was ended, e.g. for want of memory.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump((tables, checks, derived), self._process.stdin)
            self._process.stdin.flush()
            found: list[Finding] | str = pickle.load(self._process.stdout)  # noqa: S301 - of our own
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):  # the last: it ended within its answer
            problem = f"ended with exit code {self._process.wait()} before it had an answer"
            cure = "If it is -9, it may have been for want of memory; otherwise see what it wrote to stderr"
            raise StorageError("the process of the checks", problem, cure) from None
        if isinstance(found, str):
            raise StorageError("the checks", f"could not be computed:\n{found}", "Materialize the asset again")
        return found


def _serve() -> None:
    """Answer on what is stdout now, and never on what libraries take for it, until the other process closes stdin."""
    from recoflow.quality import gx_runner  # noqa: PLC0415 - whoever asks need not wait for DuckDB to be imported

    stack_lock.join(os.environ)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    gx_runner.great_expectations()
    while asked := _next():
        try:
            found: list[Finding] | str = gx_runner.run_checks(*asked)
        except Exception:  # noqa: BLE001 - it is raised over there
            found = traceback.format_exc()
        pickle.dump(found, answers)
        answers.flush()


def _next() -> tuple[Tables, Sequence[Check], Tables] | None:
    try:
        asked: tuple[Tables, Sequence[Check], Tables] = pickle.load(sys.stdin.buffer)  # noqa: S301 - of our own
    except EOFError:
        return None
    return asked


if __name__ == "__main__":
    _serve()
