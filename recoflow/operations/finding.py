"""What is wrong with an installation, as a person and a monitor read it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from recoflow.errors import RecoflowError


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Args:
        area: lake, models, sftp, files, runs or disk.
        where: the file, folder, account or run.
        what: what is wrong with it.
        cure: what to do about it.
        environment: whose it is; None when it concerns all.
        is_repaired: `--repair` did it.
    """

    area: str
    where: str
    what: str
    cure: str
    environment: str | None = None
    is_repaired: bool = False

    @classmethod
    def of(cls, area: str, error: RecoflowError, environment: str | None = None) -> Fault:
        """What an error says."""
        return cls(area, error.culprit, error.problem, error.cure, environment)

    def repaired(self) -> Fault:
        """The same, done."""
        return replace(self, is_repaired=True)

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def is_healthy(findings: Iterable[Fault]) -> bool:
    """Whether nothing is left to do."""
    return all(finding.is_repaired for finding in findings)
