"""Why a whole request file is refused: a named reason that becomes the answer to the client.

What belongs here: the shape of a refusal. What does not: refusals of single rows; those are counted data of a request.
"""

from __future__ import annotations

from dataclasses import dataclass

from recoflow.errors import CampaignError

TRUNCATED = "truncated"  # the file may be an upload that was cut off: the caller may wait before it answers


@dataclass(frozen=True)
class Rejection:
    """The reason why a whole file is refused.

    Args:
        code: stable, snake_case.
        message: for people: names the culprit and the cure.
        line: 1-based line of the file, when there is one to point at.
        column: header name, when there is one to point at.
    """

    code: str
    message: str
    line: int | None = None
    column: str | None = None


class RequestRejectedError(CampaignError):
    """A request file cannot be answered at all; `rejection` is what its client is told."""

    def __init__(self, rejection: Rejection, cure: str) -> None:
        self.rejection = rejection
        super().__init__(rejection.code, rejection.message, cure)

    def __reduce__(self) -> tuple[type[RequestRejectedError], tuple[Rejection, str]]:  # type: ignore[override]
        return type(self), (self.rejection, self.cure)


def rejected(
    code: str, problem: str, cure: str, *, line: int | None = None, column: str | None = None
) -> RequestRejectedError:
    """Make the error for `problem`; the client's message is the problem followed by its cure."""
    return RequestRejectedError(Rejection(code, f"{problem}. {cure}.", line, column), cure)
