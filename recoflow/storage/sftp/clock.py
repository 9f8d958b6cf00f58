"""The two clocks of the mailbox, passed in so that tests own the time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, Protocol

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """What the mailbox asks of time."""

    def wall(self) -> float:
        """Seconds since 1970; may jump."""

    def boot(self) -> float:
        """Seconds since this boot, those asleep included; never jumps."""

    def boot_id(self) -> str:
        """Changes with each boot."""


class SystemClock:
    """The machine's clocks."""

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def boot(self) -> float:
        """CLOCK_BOOTTIME where there is one (Linux), else the monotonic clock."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    def boot_id(self) -> str:
        """The kernel's; without one, a reboot shows in a boot clock that went back."""
        return _BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.exists() else "unknown"
