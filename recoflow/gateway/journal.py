"""Group commit: requests that wait for the disk at the same time share one fsync.

What belongs here: who waits, and for which write. What does not: files (`storage.spool`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial

from recoflow.storage.spool import SpoolWriter


class Journal:
    """One segment writer, shared by all requests of an event loop.

    While a group is being written, the next one gathers; so the slower the disk, the larger the groups. How much
    gathers is bounded by the admission of requests.

    Args:
        writer: used by one thread of this journal only.
        clock: time in UTC.
        observe: told the seconds that each commit took.
    """

    def __init__(
        self, writer: SpoolWriter, clock: Callable[[], datetime], observe: Callable[[float], None] = lambda _: None
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._observe = observe
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def append(self, lines: bytes) -> None:
        """Add the lines of one request, all or none; they are on disk when this returns.

        Raises:
            StorageError: none is kept.
        """
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((lines, written))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        await written

    async def seal_if_older(self, age: timedelta) -> None:
        """Seal the segment when it has been open for longer than `age`."""
        seconds = self._writer.age()
        if seconds is not None and seconds >= age.total_seconds():
            await self._in_thread(self._writer.seal)

    async def close(self) -> None:
        """Wait for what was begun, then seal."""
        while self._committing is not None:
            await asyncio.wait([self._committing])
        await self._in_thread(self._writer.seal)
        self._thread.shutdown()

    async def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting, []
            begun = loop.time()
            write = partial(self._writer.append, [lines for lines, _ in group], self._clock())
            (error,) = await asyncio.gather(self._in_thread(write), return_exceptions=True)
            self._observe(loop.time() - begun)
            for _, written in group:
                if not written.done():  # else its request was cancelled
                    written.set_exception(error) if error else written.set_result(None)
        self._committing = None

    async def _in_thread(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, work)
