"""The slice of the sample world that is committed for reading: `python -m recoflow.sandbox.sample data/sample`.

What belongs here: the arguments that the slice is made with. What does not: how a world is made (world).
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from recoflow.sandbox import world


def write_sample(folder: Path) -> None:
    """Write item, event and purchase files and one campaign request; the same bytes every time."""
    small = world.generate(seed=7, users=12, items=30, events=200, days=2, end=datetime(2026, 11, 22, tzinfo=UTC))
    world.write_world(small, folder)
    name = world.request_name(small).replace(":", "")  # a checkout on Windows cannot hold a colon
    (folder / name).write_text(world.request(small), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write_sample(Path(sys.argv[1]))
