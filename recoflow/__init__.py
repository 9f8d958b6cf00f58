"""recoflow: self-hosted batch recommendations.

`recoflow.open(environment)` gives engineers an environment's tables, model bundles and recommendations.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recoflow.api import Workbench

__all__ = ["open"]


def open(environment: str, data: str | Path | None = None) -> Workbench:  # noqa: A001 - reads as recoflow.open("lorem")
    """Open an environment for reading; see `recoflow.api.Workbench`.

    Args:
        environment: its name.
        data: the data folder; `RECOFLOW_DATA`, else `data` under the working directory.

    Raises:
        ConfigurationError: when the environment's file is missing or wrong.
    """
    from recoflow import api  # noqa: PLC0415 - importing recoflow costs nothing

    return api.open_environment(environment, data)
