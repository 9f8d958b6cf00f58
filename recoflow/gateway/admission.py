"""One environment's way in: how much may be pending, and the journals that its events are written to.

What belongs here: admission, free space, opening and sealing journals. What does not: HTTP and bodies.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from recoflow.gateway.bodies import Accepted
from recoflow.gateway.journal import Journal
from recoflow.gateway.metrics import Metrics
from recoflow.settings.environment import Environment
from recoflow.storage import spool
from recoflow.storage.spool import SpoolWriter

REQUEST_BYTES: Final = 16 * 1024  # what a request weighs beside its body


class OverloadedError(Exception):
    """More is pending than memory is granted."""


class FullError(Exception):
    """The disk has too little space left."""


class AdmissionControl:
    """Where one environment's events are admitted and made durable.

    Args:
        environment: its `gateway` section has the limits.
        folder: its spool.
        clock: time in UTC.
        metrics: where pending bytes and commits are counted.
    """

    def __init__(self, environment: Environment, folder: Path, clock: Callable[[], datetime], metrics: Metrics) -> None:
        self.environment = environment
        self.folder = folder
        self.clock = clock
        self._metrics = metrics
        self._limits = environment.gateway
        self._pending = 0
        self._free = 0
        observe = partial(metrics.observe_commit, environment.name)
        self._journals = {
            kind: Journal(SpoolWriter(folder, kind, self._limits.seal_bytes), clock, observe) for kind in spool.KINDS
        }

    @contextmanager
    def admission(self, length: int | None) -> Iterator[None]:
        """Memory for one request's body of so many bytes, or for the largest one that is allowed.

        Raises:
            OverloadedError, FullError
        """
        weight = REQUEST_BYTES + (self._limits.max_body_bytes if length is None else length)
        if self._pending and self._pending + weight > self._limits.max_pending_bytes:
            raise OverloadedError
        if not self.has_space():
            raise FullError
        self._add_pending(weight)
        try:
            yield
        finally:
            self._add_pending(-weight)

    async def keep(self, kind: str, accepted: Accepted) -> None:
        """Make lines durable.

        Raises:
            StorageError: the disk refused; none of them is kept.
        """
        if accepted.events:
            await self._journals[kind].append(accepted.lines)

    def has_space(self) -> bool:
        """Whether the disk had room enough when it was looked at last."""
        return self._free >= self._limits.min_free_bytes

    async def problem(self) -> str | None:
        """Why nothing can be taken now, found by looking at the disk and writing to it; None when all is well."""
        try:
            self._free = await asyncio.to_thread(_free_bytes, self.folder)
            await asyncio.to_thread(_try_to_write, self.folder)
        except OSError as error:
            return f"the spool cannot be written: {error}"
        return None if self.has_space() else f"the spool's disk has {self._free} bytes left"

    async def tend(self) -> None:
        """What is due at the start and now and then: seal what a crash left and what is old, look at the disk.

        Raises:
            StorageError: what a crash left cannot be sealed.
        """
        await asyncio.to_thread(spool.recover, self.folder)
        self._free = await asyncio.to_thread(_free_bytes, self.folder)
        self._metrics.set("recoflow_spool_free_bytes", self._free, environment=self.environment.name)
        segments = await asyncio.to_thread(spool.sealed, self.folder)
        self._metrics.set("recoflow_spool_segments", len(segments), environment=self.environment.name)
        for journal in self._journals.values():
            await journal.seal_if_older(timedelta(seconds=self._limits.seal_seconds))

    async def seal(self) -> None:
        """Hand everything that was acknowledged so far over to the ingest."""
        for journal in self._journals.values():
            await journal.seal_if_older(timedelta(0))

    async def close(self) -> None:
        """Write what waits, and seal."""
        for journal in self._journals.values():
            await journal.close()

    def _add_pending(self, amount: int) -> None:
        self._pending += amount
        self._metrics.set("recoflow_pending_bytes", self._pending, environment=self.environment.name)


def _free_bytes(folder: Path) -> int:
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    return shutil.disk_usage(existing).free


def _try_to_write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"ready?")
        probe.flush()
        os.fsync(probe.fileno())
