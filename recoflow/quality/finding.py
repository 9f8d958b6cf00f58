"""The result of one quality check, whatever did the checking.

What belongs here: the value that checks hand to whoever decides. What does not: checks, and how results are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Finding:
    """One check's result.

    Attributes:
        check: stable snake_case name.
        passed: whether the data is as it should be.
        message: for people; when not passed it names the culprit and the cure.
        severity: `error` blocks what follows, `warn` is only shown.
        metadata: JSON values that explain the result.
    """

    check: str
    passed: bool
    message: str
    severity: Literal["error", "warn"] = "error"
    metadata: Mapping[str, Any] = field(default_factory=dict)
