"""One stack per data folder, and no process that outlives its stack.

A stack is `recoflow up` (or `demo`) with all processes below it. Two lock files in the data folder say who is there:

- `up.lock`: held by `up`, alone, and with its token as content. Every process of the stack waits for this lock in a
  thread. It gets it when `up` has ended, by whatever cause, and then ends itself.
- `members.lock`: shared by the processes of the stack. The next `up` waits until the last of them has ended.

The token finds a process that starts so slowly that its stack has ended and another has begun. Locks are better here
than a pipe, because run workers are spawned without inherited descriptors, and better than PR_SET_PDEATHSIG, which
fires when the starting thread ends and does not exist on macOS.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

from recoflow.errors import ConfigurationError
from recoflow.storage.paths import Paths

VARIABLE: Final = "RECOFLOW_STACK"  # the process variable with the token of the stack
SOON: Final = 2.0  # seconds in which the members of an ended stack release `up.lock`
LEAVE_SECONDS: Final = 20.0  # for the members themselves to end
PAUSE: Final = 0.1
WATCH: Final = "stack-lock"  # the name of the thread that waits for the end of `up`


@contextmanager
def hold(layout: Paths, leave_seconds: float = LEAVE_SECONDS) -> Iterator[str]:
    """Hold the data folder for a stack; yields the token that its processes need as `VARIABLE`.

    Raises:
        ConfigurationError: another stack is at work on this data folder, or the folder cannot be written.
    """
    up = _opened(layout.up_lock)
    try:
        if not _locked(up, SOON):
            problem = "is in use: `recoflow up` or `recoflow demo` runs on this data folder already"
            raise ConfigurationError(str(layout.root), problem, "Stop that one first, or use its addresses")
        members = _opened(layout.members_lock)
        try:
            if not _locked(members, leave_seconds):
                problem = "is in use: processes of a stack whose `recoflow up` has ended are still at work"
                cure = f"End them; `fuser {layout.members_lock}` lists them"
                raise ConfigurationError(str(layout.root), problem, cure)
        finally:
            os.close(members)
        token = uuid.uuid4().hex
        os.ftruncate(up, 0)
        os.pwrite(up, token.encode(), 0)
        yield token
    finally:
        os.close(up)


def join(variables: Mapping[str, str]) -> None:
    """Make this process a member of the stack that started it, if one did: it ends when that stack's `up` ends."""
    token = variables.get(VARIABLE)
    if token is None or any(thread.name == WATCH for thread in threading.enumerate()):
        return
    layout = Paths.of_process(variables)
    try:
        members = os.open(layout.members_lock, os.O_RDONLY)  # stays open as long as this process lives
        fcntl.flock(members, fcntl.LOCK_SH)
        up = os.open(layout.up_lock, os.O_RDONLY)
    except FileNotFoundError:
        _leave()
    if os.pread(up, 64, 0) != token.encode():
        _leave()
    threading.Thread(target=_leave_after, args=(up,), name=WATCH, daemon=True).start()


def _leave_after(up: int) -> None:
    fcntl.flock(up, fcntl.LOCK_SH)
    os.close(up)
    _leave()


def _leave() -> NoReturn:
    """End now, as if killed: whatever this process does must survive that anyway."""
    try:
        sys.stderr.write("`recoflow up` has ended: this process ends, too\n")
        sys.stderr.flush()
    finally:
        os._exit(1)


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        cure = "Give this user the right to write there, or mount it writable"
        raise ConfigurationError(str(path.parent), f"cannot be written: {error.strerror}", cure) from None


def _locked(descriptor: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE)
        else:
            return True
