"""The one exception family of recoflow: every error names its culprit and its cure.

What belongs here: exception classes that cross a module's border. What does not: rejects of single events or request
rows; those are counted data (`schema.REJECTS`), never exceptions.
"""

from __future__ import annotations

from recoflow.printable import printable


class RecoflowError(Exception):
    """Something that a person can mend. As text it has no control characters, whatever the arguments have.

    Args:
        culprit: what is wrong and where, e.g. ``lorem.yaml:12: events.half_life_days``.
        problem: what is wrong with it.
        cure: what to do about it.
    """

    def __init__(self, culprit: str, problem: str, cure: str) -> None:
        self.culprit = culprit
        self.problem = problem
        self.cure = cure
        super().__init__(printable(f"{culprit}: {problem}. {cure}", keep="\n\t"))

    def __reduce__(self) -> tuple[type[RecoflowError], tuple[str, str, str]]:
        return type(self), (self.culprit, self.problem, self.cure)


class ConfigurationError(RecoflowError):
    """An environment's file or a setting cannot be used."""


class SourceError(RecoflowError):
    """A whole input file cannot be read (single bad events are rejects, not errors)."""


class StorageError(RecoflowError):
    """The lake, an artifact or the warehouse is missing, damaged or busy."""


class MailboxError(RecoflowError):
    """The SFTP server refused, vanished or answered something unexpected."""


class ModelError(RecoflowError):
    """A model cannot be trained, loaded or trusted."""


class OutdatedModelError(ModelError):
    """A model bundle was written by an older recoflow: it cannot serve, and the next training replaces it."""


class CampaignError(RecoflowError):
    """A campaign cannot be answered."""


class AuditError(RecoflowError):
    """A staged result was refused by the audit before publication."""
